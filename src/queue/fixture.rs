//! A queue in a directory of its own, and mail for it: what tests of several rooms begin with.

use super::message::NewMessage;
use super::role::Queue;
use super::settings::Settings;
use crate::fact::Witness;
use crate::mail::{AccountId, ClientName, Envelope, QueueId, RelayTime, ReversePath, WallTime};
use std::path::Path;

pub(crate) fn settings(directory: &Path) -> Settings {
    Settings { directory: directory.to_owned(), min_free_space_bytes: 0 }
}

pub(crate) async fn open(directory: &Path) -> Queue {
    super::open(&settings(directory), Witness::nobody()).await.expect("a directory of its own")
}

/// A scan of the printers' for anna, to leave through the scanner's mailbox; as if it came at the beginning of time.
pub(crate) fn scan(id: QueueId) -> NewMessage {
    NewMessage {
        id,
        account: AccountId::new("scanner@contoso.com"),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec!["anna@contoso.com".parse().expect("an address")],
            client: ClientName::new("printers"),
            peer: None,
        },
        head: b"Subject: scan\r\n\r\n".to_vec(),
        charset: None,
        received_at: WallTime::from_ms(1),
        now: RelayTime::default(),
    }
}
