//! A queue in a directory of its own, and mail for it.

use mailferry::fact::Witness;
use mailferry::mail::{AccountId, ClientName, Envelope, QueueId, RelayTime, ReversePath, WallTime};
use mailferry::queue::{self, NewMessage, Queue, Settings};
use std::path::Path;

pub async fn open(directory: &Path) -> Queue {
    let settings = Settings { directory: directory.to_owned(), min_free_space_bytes: 0 };
    queue::open(&settings, Witness::nobody()).await.unwrap()
}

/// A scan of the printers' for anna, to leave through the scanner's mailbox; as if it came at the beginning of time.
pub fn scan(id: QueueId) -> NewMessage {
    NewMessage {
        id,
        account: AccountId::new("scanner@contoso.com"),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox("printer@contoso.com".parse().unwrap()),
            recipients: vec!["anna@contoso.com".parse().unwrap()],
            client: ClientName::new("printers"),
            peer: Some("10.0.5.7".parse().unwrap()),
        },
        head: b"Subject: scan\r\n\r\n".to_vec(),
        charset: None,
        received_at: WallTime::now(),
        now: RelayTime::default(),
    }
}
