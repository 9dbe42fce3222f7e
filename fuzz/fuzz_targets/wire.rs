//! Whatever was stored, what leaves cannot end the data, has no bare CR, LF or NUL and no line over 998 bytes, is as
//! long as was announced, and does not depend on where the stored content is cut into chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::letter::stamp::{Stamp, complete};
use mailferry::mail::{Mailbox, QueueId, ReversePath, Sender, WallTime};
use mailferry::submit::InMemory;
use mailferry::submit::smtp::wire::{Taken, Wire};
use std::net::{IpAddr, Ipv4Addr};
use tokio::runtime::{Builder, Runtime};

/// The encoder reads a content in chunks of this size.
const CHUNK_BYTES: usize = 64 * 1024;
const CHARSETS: [Option<&str>; 4] = [None, Some("shift_jis"), Some("iso-2022-jp"), Some("utf-8")];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime needs nothing");
}

fn address(text: &str) -> Mailbox {
    text.parse().expect("an address")
}

fn stamped(head: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let stamp = Stamp {
        id: QueueId::from_number(77),
        hostname: "relay.contoso.local",
        helo: b"MFP-3",
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        protocol: "SMTP",
        tls: None,
        reverse_path: &ReversePath::Null,
        recipients: &[address("anna@contoso.com")],
        mailbox: "scanner@contoso.com",
        body_is_8bit: !content.is_ascii(),
        now: WallTime::from_ms(1_795_435_200_000),
    };
    complete(head, &stamp).ok()
}

fn sent(head: &[u8], content: Vec<u8>, charset: Option<&str>, to_8bit: bool) -> Vec<u8> {
    let sender = Sender { mailbox: address("scanner@contoso.com"), send_as: vec![] };
    let letter = InMemory::new(head.to_vec(), content);
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut wire =
                Wire::prepare(&letter, charset, &sender, Taken { eight_bit: to_8bit, utf8: to_8bit })
                    .await
                    .expect("it is in memory");
            let mut bytes = vec![];
            while let Some(chunk) = wire.chunk().await.expect("it is in memory") {
                assert!(!chunk.is_empty());
                bytes.extend_from_slice(&chunk);
            }
            fits(&bytes, &wire, to_8bit);
            bytes
        })
    })
}

fn fits(bytes: &[u8], wire: &Wire<'_>, to_8bit: bool) {
    assert!(bytes.ends_with(b"\r\n"));
    assert!(!bytes.contains(&0));
    let (mut size_bytes, mut head) = (0, true);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        assert_ne!(line, b".\r\n", "ends the data");
        let line = line.strip_prefix(b".").unwrap_or(line);
        size_bytes += line.len() as u64;
        let text = line.strip_suffix(b"\r\n").expect("every line ends in CRLF");
        assert!(!text.contains(&b'\r'));
        assert!(text.len() <= 998);
        head &= !text.is_empty();
        assert!(text.is_ascii() || if head { wire.needs_utf8() } else { to_8bit || wire.needs_utf8() });
    }
    assert_eq!(wire.size_bytes(), size_bytes);
    assert_eq!(wire.needs_8bit(), !bytes.is_ascii());
}

fuzz_target!(|input: &[u8]| {
    let [flags, cut, raw @ ..] = input else { return };
    let to_8bit = flags & 1 == 1;
    let charset = CHARSETS[usize::from(flags >> 1) % CHARSETS.len()];
    if flags & 0x18 != 0x18 {
        let end = memchr::memmem::find(raw, b"\r\n\r\n").map_or(raw.len(), |i| i + 4);
        let (head, content) = raw.split_at(end);
        let Some(head) = stamped(head, content) else { return };
        sent(&head, content.to_vec(), charset, to_8bit);
        return;
    }
    let Some(head) = stamped(b"Content-Type: multipart/mixed; boundary=b\r\n", raw) else { return };
    // A preamble passes as it is; with it, the first chunk ends `cut` bytes into the input.
    let whole = sent(&head, raw.to_vec(), charset, to_8bit);
    let length = CHUNK_BYTES - usize::from(*cut);
    let line = [[b'x'; 382].as_slice(), b"\r\n"].concat();
    let mut before = line.repeat(length / line.len() - 1);
    before.resize(length - 2, b'x');
    before.extend_from_slice(b"\r\n");
    let behind = sent(&head, [before.as_slice(), raw].concat(), charset, to_8bit);
    let begins = memchr::memmem::find(&behind, &before).expect("the preamble leaves as it is");
    assert!(whole[..begins] == behind[..begins]);
    assert!(whole[begins..] == behind[begins + before.len()..], "another chunk, another message");
});
