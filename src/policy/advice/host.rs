//! Entries: this host, its files, its configuration.

use super::{Entry, Side};

pub(super) static BODY_UNREADABLE: Entry = Entry {
    slug: "body-unreadable",
    title: "The stored body cannot be read",
    blame: Side::Host,
    texts: &["DATA: the stored body cannot be read"],
    meaning: "the stored message cannot be read from the disk",
    waiting: None,
    steps: &[
        "the file under bodies/ is damaged or was removed: restore it from a backup, then mailferry queue retry ID; check \
         the disk",
    ],
};

pub(super) static CONFIGURATION: Entry = Entry {
    slug: "configuration",
    title: "The configuration is wrong",
    blame: Side::Host,
    texts: &["the configuration has ... nothing was opened", "mailferry.service: exit code 78"],
    meaning: "the relay does not start with this configuration, and a reload changes nothing",
    waiting: None,
    steps: &["each problem above names file, line, key and what to write; then: mailferry check"],
};

pub(super) static DOUBTFUL_CONFIGURATION: Entry = Entry {
    slug: "configuration-warning",
    title: "The configuration works, and is hardly meant like that",
    blame: Side::Host,
    texts: &["mailferry.toml:9:1: warning: "],
    meaning: "the relay runs with this configuration; one part of it is hardly what was meant",
    waiting: None,
    steps: &["change it as the line says, then: mailferry check; systemctl reload mailferry"],
};

pub(super) static CREDENTIAL_ENDS: Entry = Entry {
    slug: "credential-ends",
    title: "A client secret or certificate ends soon",
    blame: Side::Host,
    texts: &[
        "the client secret of scanner@contoso.com expires in 5 days, on",
        "the certificate of scanner@contoso.com has expired on",
    ],
    meaning: "from that day on the sign-in service gives no token, and the mailbox's mail waits",
    waiting: None,
    steps: &[
        "add the next one to the application now, both may stand side by side: entra admin center > App registrations > \
         {client_id} > Certificates & secrets",
        "put it in its file (for a secret, its last day in secret_expires, too), then: systemctl reload mailferry (restart, \
         where it is a systemd credential)",
    ],
};

pub(super) static FILES_OPEN: Entry = Entry {
    slug: "files-open",
    title: "A secret or the queue is open to others",
    blame: Side::Host,
    texts: &["is open to others (mode 644)"],
    meaning: "other users of this host can read a password or mail",
    waiting: None,
    steps: &["take the rights away: chmod 600 for a secret, chmod 700 for the queue's directory"],
};

pub(super) static QUEUE_DIRECTORY: Entry = Entry {
    slug: "queue-directory",
    title: "The queue's directory cannot be used",
    blame: Side::Host,
    texts: &[
        "a device is told: 452 4.3.1 insufficient storage",
        "the queue cannot write any more",
        "cannot write in the queue's directory",
    ],
    meaning: "mail cannot be stored, so devices are asked to wait; what was accepted is safe",
    waiting: None,
    steps: &[
        "free space on that disk, or point queue.directory at a larger one (docs/upgrade-and-backup.md)",
        "it must belong to the service's user alone: chown -R mailferry: and chmod 700",
        "slow or failing: look at the disk with journalctl -k and smartctl",
    ],
};

pub(super) static NOT_RUNNING: Entry = Entry {
    slug: "not-running",
    title: "mailferry is not running",
    blame: Side::Host,
    texts: &["mailferry is not running"],
    meaning: "devices are refused until it runs; what was accepted waits in the queue",
    waiting: None,
    steps: &["start it with: systemctl start mailferry", "see why it stopped: journalctl -u mailferry"],
};

pub(super) static LISTENER_TAKEN: Entry = Entry {
    slug: "listener-taken",
    title: "Address already in use: another program listens",
    blame: Side::Host,
    texts: &[
        "cannot listen on 0.0.0.0:25: Address already in use (os error 98)",
        "another program answers there",
    ],
    meaning: "devices do not reach mailferry at this address",
    waiting: None,
    steps: &[
        "see who has it: ss -ltnp (exim and postfix come with many systems: systemctl disable --now postfix)",
        "after a change of an address in [[listen]]: systemctl restart mailferry, a reload does not move listeners",
    ],
};

pub(super) static CLOCK: Entry = Entry {
    slug: "clock",
    title: "This host's clock is wrong",
    blame: Side::Host,
    texts: &[
        "this host's clock is ... ahead of the sign-in service's",
        "this host's clock is ... behind the sign-in service's",
    ],
    meaning: "a signed sign-in is refused when clocks differ by more than some minutes, and certificates seem expired",
    waiting: None,
    steps: &["timedatectl set-ntp true, then look at: timedatectl status"],
};
