//! Entries: what the relay itself tells a device, and what its log says of one.

use super::{Entry, Side};

pub(super) static REFUSED: Entry = Entry {
    slug: "device-refused",
    title: "550 5.7.1 ... may not relay here",
    blame: Side::Host,
    texts: &[
        "a device is told: 550 5.7.1 ... may not relay here",
        "a device is told: 421 4.7.0 too many connections from addresses that may not relay here",
        "10.0.5.9 may not relay",
    ],
    meaning: "a device whose address is in no [[client]] wants to send; only the address says who may",
    waiting: None,
    steps: &[
        "if the device is yours: mailferry allow ADDRESS --as CLIENT (mailferry devices shows the address, with this \
         command, and the clients there are)",
        "if it is not: mailferry devices seen ADDRESS, and nothing asks about it any more",
        "a login at the device neither helps nor harms",
    ],
};

pub(super) static TLS: Entry = Entry {
    slug: "device-tls",
    title: "A device speaks TLS on a plain port",
    blame: Side::Message,
    texts: &["speaks TLS on a plain port"],
    meaning: "the device begins with tls, and this listener has none",
    waiting: None,
    steps: &[
        "turn ssl/tls off at the device",
        "or set tls = \"starttls\" in that [[listen]], which then takes both",
    ],
};

pub(super) static LOGIN: Entry = Entry {
    slug: "device-login",
    title: "A device wants to log in: 502 5.5.1, 538 5.7.11, 535 5.7.8",
    blame: Side::Message,
    texts: &[
        "a device is told: 502 5.5.1 AUTH is not offered here",
        "a device is told: 538 5.7.11 not in the clear",
        "a device is told: 535 5.7.8 login failed",
        "wants to log in, which this listener does not offer",
        "wants to log in in the clear",
    ],
    meaning: "the device logs in where no login is taken, or not without tls",
    waiting: None,
    steps: &[
        "turn authentication off at the device: its address says whether it may send",
        "where it insists: auth = \"any\" in a [[listen]] with tls = \"off\" takes any login from allowed addresses and \
         throws it away",
        "with auth = \"required\" compare user and password with [[receive.users]]",
    ],
};

pub(super) static TOO_LARGE: Entry = Entry {
    slug: "device-too-large",
    title: "552 5.3.4 message exceeds ... bytes",
    blame: Side::Message,
    texts: &[
        "a device is told: 552 5.3.4 message exceeds ... bytes",
        "a device is told: 552 5.3.4 message header too large",
    ],
    meaning: "the device sends more than max_message_size, so nothing of it was taken",
    waiting: None,
    steps: &[
        "lower the resolution or the size limit at the device (mail adds 37 % to a scan)",
        "or raise max_message_size in [receive] or in its [[client]]; the smart host has a limit of its own",
    ],
};

pub(super) static NO_END: Entry = Entry {
    slug: "device-no-end-of-data",
    title: "451 4.4.2 no end of data",
    blame: Side::Message,
    texts: &["a device is told: 451 4.4.2 no end of data", "bytes into a message, nothing was queued"],
    meaning: "the device fell silent or went away before its message was complete",
    waiting: None,
    steps: &[
        "if it ends its lines in lf alone: line_endings = \"lf\" in its [[client]]",
        "otherwise its network is slow or its firmware is at fault: a longer data_timeout, a fixed cable, an update",
    ],
};

pub(super) static TOO_MUCH: Entry = Entry {
    slug: "device-too-much",
    title: "451 4.7.1 more than ... messages a minute; 421 4.7.0 more than ... connections",
    blame: Side::Host,
    texts: &[
        "a device is told: 451 4.7.1 more than ... messages a minute",
        "a device is told: 421 4.7.0 more than ... connections from your",
        "a device is told: 421 4.7.0 too many connections, try again later",
        "a device is told: 452 4.5.3 more than ... recipients",
    ],
    meaning: "the device does more at once than the configuration lets it",
    waiting: Some("nothing, if the device tries again by itself"),
    steps: &[
        "raise messages_per_minute or max_connections in its [[client]], or max_connections and max_recipients in \
         [receive]",
    ],
};

pub(super) static RECIPIENT: Entry = Entry {
    slug: "device-recipient",
    title: "550 5.7.1 not a recipient you may write to",
    blame: Side::Host,
    texts: &["a device is told: 550 5.7.1 not a recipient you may write to"],
    meaning: "the client's allowed_recipients do not have this address",
    waiting: None,
    steps: &["correct the address at the device, or add it to allowed_recipients of its [[client]]"],
};

pub(super) static NOT_SMTP: Entry = Entry {
    slug: "device-not-smtp",
    title: "421 4.7.0 this is SMTP, not ...",
    blame: Side::Message,
    texts: &["a device is told: 421 4.7.0 this is SMTP, not ...", "to the SMTP port, closed"],
    meaning: "what connects speaks another protocol: a browser, a scanner of the network, or a wrong port at a device",
    waiting: None,
    steps: &["correct the port at the device; strangers who look around do no harm"],
};
