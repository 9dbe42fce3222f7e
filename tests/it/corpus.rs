//! A directory of messages, from the bytes on the wire to those that leave. Run by hand on mail that is not ours to keep:
//!
//!     MAILFERRY_CORPUS=dir cargo test --test it corpus -- --ignored
//!
//! Each file `x` leaves as `x.own` (its sender may be used) and `x.foreign` (it may not) in `$MAILFERRY_CORPUS/sent`;
//! `checks/corpus.py` compares them with what came.

use crate::encoding::{Sample, leaves};
use mailferry::letter::splitter::Splitter;
use mailferry::receive::decode::Decoder;
use std::fs;
use std::path::Path;

/// Head and content, as the receiver takes them out of the data.
fn received(message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut decoder, mut splitter) = (Decoder::new(false), Splitter::default());
    let mut data = vec![];
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    if !data.ends_with(b"\r\n") {
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(b".\r\n");
    let mut content = vec![];
    for piece in data.chunks(4096) {
        let mut decoded = vec![];
        decoder.keep_bare_cr(!splitter.is_done());
        decoder.push(piece, &mut decoded);
        splitter.push(&mut decoded).ok()?;
        content.extend(decoded);
    }
    content.extend(splitter.finish());
    Some((splitter.into_head(), content))
}

fn unstuffed(sent: &[u8]) -> Vec<u8> {
    sent.split_inclusive(|b| *b == b'\n')
        .flat_map(|line| line.strip_prefix(b".").unwrap_or(line))
        .copied()
        .collect()
}

#[test]
#[ignore = "needs a corpus: MAILFERRY_CORPUS"]
fn every_message_of_a_corpus_leaves() {
    let directory = std::env::var("MAILFERRY_CORPUS").expect("MAILFERRY_CORPUS is a directory of messages");
    let sent = Path::new(&directory).join("sent");
    fs::create_dir_all(&sent).unwrap();
    let (mut messages, mut refused) = (0, 0);
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((head, content)) = received(&fs::read(&path).unwrap()) else {
            refused += 1;
            continue;
        };
        messages += 1;
        for (suffix, send_as, to_8bit) in
            [("own", &["*"][..], true), ("foreign", &[], true), ("7bit", &["*"], false)]
        {
            let sample = Sample { send_as, to_8bit, utf8: to_8bit, ..Sample::default() };
            match leaves(&head, &content, &sample) {
                Some(out) => fs::write(sent.join(format!("{name}.{suffix}")), unstuffed(&out.bytes)).unwrap(),
                None => refused += 1,
            }
        }
    }
    assert!(messages > 0 && refused < messages / 100, "{messages} messages, {refused} refused");
}
