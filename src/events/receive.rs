//! Facts of `receive`.

use super::Counter;
use crate::mail::{ClientName, Escaped, Mailbox, QueueId, ReversePath};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use tracing::{debug, error, info, warn};

/// What was counted since the start of the process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections taken.
    pub connections: Counter,
    /// Connections turned away with 421 for their number.
    pub connections_full: Counter,
    /// Messages that got a 250.
    pub messages: Counter,
    /// Their bytes, as the devices sent them.
    pub bytes: Counter,
    /// MAIL or RCPT from outside every client network.
    pub relay_refused: Counter,
    /// Recipients that `allowed_recipients` forbids or that are no address.
    pub recipients_refused: Counter,
    /// Messages refused at the end of data for what they are (size, head, loop).
    pub messages_refused: Counter,
    /// Messages the queue could not take.
    pub queue_refused: Counter,
    /// Messages put off by `messages_per_minute`.
    pub rate_limited: Counter,
    /// DATA that never came to its end.
    pub unfinished: Counter,
    /// Failed logins.
    pub logins_failed: Counter,
    /// Failed TLS handshakes.
    pub handshakes_failed: Counter,
    /// Connections that spoke another protocol than SMTP.
    pub other_protocol: Counter,
}

/// Counts of this process.
pub static COUNTS: Counts = Counts {
    connections: Counter::new(),
    connections_full: Counter::new(),
    messages: Counter::new(),
    bytes: Counter::new(),
    relay_refused: Counter::new(),
    recipients_refused: Counter::new(),
    messages_refused: Counter::new(),
    queue_refused: Counter::new(),
    rate_limited: Counter::new(),
    unfinished: Counter::new(),
    logins_failed: Counter::new(),
    handshakes_failed: Counter::new(),
    other_protocol: Counter::new(),
};

/// Whether a fact that a peer can repeat at will gets a line: once a minute, so that no peer writes the log full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It does.
    Written {
        /// Lines about the same that did not, since the last one that did.
        held_back: u64,
    },
    /// The log has had it within this minute.
    HeldBack,
}

/// How many more there were, in a line that is written.
struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " ({} more before, held back)", self.0) }
    }
}

/// Lines of a minute that were held back, told once it is over.
pub fn held_back(event_of_lines: &str, peer: &dyn Display, lines: u64) {
    info!(
        event = "held_back", of = event_of_lines, %peer, lines,
        "{lines} more lines of {event_of_lines} about {peer} were held back"
    );
}

/// The same, of more peers than are remembered.
pub fn held_back_of_others(lines: u64) {
    warn!(event = "held_back", lines, "{lines} more lines about other peers were held back");
}

/// A listener is open.
pub fn listening(address: SocketAddr) {
    info!(event = "listening", %address, "listening on {address}");
}

/// The system gives no more connections; the listener waits and tries again.
pub fn accept_failed(address: SocketAddr, why: &std::io::Error) {
    error!(
        event = "accept_failed", %address, %why,
        "cannot take connections on {address}: {why}. hint: raise the limit on open files (LimitNOFILE)"
    );
}

/// Connections are taken again.
pub fn accept_recovered(address: SocketAddr) {
    info!(event = "accept_recovered", %address, "taking connections on {address} again");
}

/// A connection was taken.
pub fn connected(peer: IpAddr) {
    COUNTS.connections.add(1);
    debug!(event = "connected", %peer, "{peer} connected");
}

/// A connection was turned away. `hint` says what to do about it, if anything.
pub fn too_many_connections(peer: IpAddr, reply: &str, hint: &str, line: Line) {
    COUNTS.connections_full.add(1);
    if let Line::Written { held_back } = line {
        let (reply, more) = (reply.trim_end(), More(held_back));
        warn!(event = "too_many_connections", %peer, held_back, "{peer} turned away: {reply}{more}{hint}");
    }
}

/// A peer outside every client network wanted to send.
pub fn relay_refused(peer: IpAddr, line: Line) {
    COUNTS.relay_refused.add(1);
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        warn!(
            event = "relay_refused", %peer, held_back,
            "{peer} may not relay{more}. hint: add it to the `from` of a [[client]] if it is yours"
        );
    }
}

/// A recipient was refused.
pub fn recipient_refused(peer: IpAddr, client: &ClientName, why: &dyn Display) {
    COUNTS.recipients_refused.add(1);
    warn!(event = "recipient_refused", %peer, %client, "recipient of {peer} ({client}) refused: {why}");
}

/// A client sends more messages a minute than it may.
pub fn rate_limited(peer: IpAddr, client: &ClientName, per_minute: u32, line: Line) {
    COUNTS.rate_limited.add(1);
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        warn!(
            event = "rate_limited", %peer, %client, per_minute, held_back,
            "{peer} ({client}) put off: more than {per_minute} messages a minute{more}"
        );
    }
}

/// MAIL or RCPT had parameters nobody here knows.
pub fn unknown_parameters(peer: IpAddr, parameters: &[String], line: Line) {
    if let Line::Written { held_back } = line {
        let (said, more) = (parameters.join(" "), More(held_back));
        info!(event = "unknown_parameters", %peer, held_back, "{peer} said {said}, which was ignored{more}");
    }
}

/// A message is durable in the queue.
pub fn queued(
    id: QueueId,
    peer: IpAddr,
    client: &ClientName,
    from: &ReversePath,
    to: &[Mailbox],
    size_bytes: u64,
) {
    COUNTS.messages.add(1);
    COUNTS.bytes.add(size_bytes);
    let first = to.first().map_or_else(String::new, ToString::to_string);
    info!(
        event = "queued", %id, %peer, %client, %from, to = %first, recipients = to.len(), size_bytes,
        "{id} from {peer} ({client}): {from} to {first}, recipients: {}, {size_bytes} bytes", to.len()
    );
}

/// A message was refused at the end of data.
pub fn message_refused(peer: IpAddr, client: &ClientName, reply: &str) {
    COUNTS.messages_refused.add(1);
    warn!(event = "message_refused", %peer, %client, "message of {peer} ({client}) refused: {}", reply.trim_end());
}

/// The queue could not take a message.
pub fn queue_refused(peer: IpAddr, client: &ClientName, why: &dyn Display) {
    COUNTS.queue_refused.add(1);
    error!(event = "queue_refused", %peer, %client, "message of {peer} ({client}) not taken: {why}");
}

/// DATA went silent without its end.
pub fn end_of_data_missing(peer: IpAddr, client: &ClientName, raw_bytes: u64, lf_dot_lf: bool) {
    COUNTS.unfinished.add(1);
    let hint = if lf_dot_lf {
        "it ends lines in LF alone: set line_endings = \"lf\" for this client"
    } else {
        "it never sent the end of data (CRLF.CRLF): look for a firmware update"
    };
    warn!(
        event = "end_of_data_missing", %peer, %client, raw_bytes,
        "{peer} ({client}) fell silent {raw_bytes} bytes into a message, nothing was queued. hint: {hint}"
    );
}

/// The peer closed inside DATA.
pub fn closed_in_data(peer: IpAddr, client: &ClientName, raw_bytes: u64) {
    COUNTS.unfinished.add(1);
    warn!(
        event = "closed_in_data", %peer, %client, raw_bytes,
        "{peer} ({client}) closed {raw_bytes} bytes into a message, nothing was queued"
    );
}

/// A device speaks TLS on a plain port.
pub fn tls_on_plain_port(peer: IpAddr, line: Line) {
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        warn!(
            event = "tls_on_plain_port", %peer, held_back,
            "device {peer} speaks TLS on a plain port{more}. hint: turn TLS off at the device"
        );
    }
}

/// A peer speaks another protocol than SMTP, `protocol`, and was closed.
pub fn other_protocol(peer: IpAddr, protocol: &str, line: Line) {
    COUNTS.other_protocol.add(1);
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        warn!(
            event = "other_protocol", %peer, protocol, held_back,
            "{peer} speaks {protocol} to the SMTP port, closed{more}. hint: correct the port at the device; a browser or a scanner of the network does this, too"
        );
    }
}

/// A device wants to log in where no login is offered.
pub fn auth_not_offered(peer: IpAddr, line: Line) {
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        warn!(
            event = "auth_not_offered", %peer, held_back,
            "{peer} wants to log in, which this listener does not offer{more}. hint: turn authentication off at the device, or set auth = \"any\""
        );
    }
}

/// A device wants to log in before TLS, where TLS is offered.
pub fn auth_in_the_clear(peer: IpAddr, line: Line) {
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        warn!(
            event = "auth_in_the_clear", %peer, held_back,
            "{peer} wants to log in in the clear, where STARTTLS is offered: refused{more}. hint: turn TLS on at the device, or give devices that cannot do it a listener of their own with tls = \"off\""
        );
    }
}

/// A login was accepted.
pub fn logged_in(peer: IpAddr, user: &str) {
    debug!(event = "logged_in", %peer, user, "{peer} logged in");
}

/// A login failed.
pub fn login_failed(peer: IpAddr, user: &[u8], line: Line) {
    COUNTS.logins_failed.add(1);
    if let Line::Written { held_back } = line {
        let (user, more) = (Escaped(user), More(held_back));
        warn!(event = "login_failed", %peer, held_back, "login of {peer} as {user} failed{more}");
    }
}

/// A TLS handshake failed.
pub fn handshake_failed(peer: IpAddr, why: &dyn Display, line: Line) {
    COUNTS.handshakes_failed.add(1);
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        info!(event = "handshake_failed", %peer, held_back, "TLS handshake with {peer} failed: {why}{more}");
    }
}

/// A peer made too many errors and was closed.
pub fn too_many_errors(peer: IpAddr, line: Line) {
    if let Line::Written { held_back } = line {
        let more = More(held_back);
        info!(event = "too_many_errors", %peer, held_back, "{peer} closed after too many errors{more}");
    }
}
