//! What leaves is fit for any server, whatever was stored.

use super::*;
use crate::letter::words::MAX_LINE_BYTES;
use crate::submit::InMemory;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn sender() -> Sender {
    Sender { mailbox: "scanner@contoso.com".parse().unwrap(), send_as: vec![] }
}

const HEAD: &str = "From: scanner@contoso.com\r\n";

struct Sent {
    bytes: Vec<u8>,
    size_bytes: u64,
    needs_8bit: bool,
}

fn send(head: &str, content: &[u8], to_8bit: bool) -> Sent {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let body = InMemory::new(format!("{head}\r\n").into_bytes(), content.to_vec());
        let taken = Taken { eight_bit: to_8bit, utf8: true };
        let mut wire = Wire::prepare(&body, None, &sender(), taken).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = wire.chunk().await.unwrap() {
            assert!(!chunk.is_empty());
            bytes.extend_from_slice(&chunk);
        }
        Sent { bytes, size_bytes: wire.size_bytes(), needs_8bit: wire.needs_8bit() }
    })
}

/// As the smart host reads it: lines up to a lone dot, one leading dot removed.
fn unstuffed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        assert_ne!(line, b".\r\n", "ends the data");
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    out
}

fn assert_fit(sent: &Sent, to_8bit: bool) {
    let text = unstuffed(&sent.bytes);
    assert!(text.ends_with(b"\r\n"));
    assert!(!sent.bytes.contains(&0));
    for line in text.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("every line ends in CRLF");
        assert!(line.len() <= MAX_LINE_BYTES, "{}", String::from_utf8_lossy(line));
        assert!(!line.contains(&b'\r'));
    }
    assert_eq!(sent.size_bytes, text.len() as u64);
    assert_eq!(sent.needs_8bit, !sent.bytes.is_ascii());
    assert!(to_8bit || sent.bytes.is_ascii());
}

fn sent_text(head: &str, content: &[u8], to_8bit: bool) -> String {
    let sent = send(head, content, to_8bit);
    assert_fit(&sent, to_8bit);
    String::from_utf8_lossy(&unstuffed(&sent.bytes)).into_owned()
}

#[test]
fn a_clean_content_leaves_as_it_is_but_for_dots() {
    let sent = send(HEAD, b".\r\n..\r\na.b\r\n.", true);
    assert_eq!(sent.bytes, b"From: scanner@contoso.com\r\n\r\n..\r\n...\r\na.b\r\n..\r\n");
    assert_eq!(send(HEAD, b"", true).bytes, b"From: scanner@contoso.com\r\n\r\n");
}

#[test]
fn smuggled_line_ends_become_ordinary_stuffed_ones() {
    for content in [
        &b"a\n.\nMAIL"[..],
        b"a\n.\r\nMAIL",
        b"a\r.\rMAIL",
        b"a\r\n.\nMAIL",
        b"a\r\0\n.\0\r\n\0MAIL",
        b"a\r\n\0.\r\nMAIL",
    ] {
        let sent = send(HEAD, content, true);
        assert_fit(&sent, true);
        assert!(sent.bytes.ends_with(b"\r\na\r\n..\r\nMAIL\r\n"), "{content:?} {:?}", sent.bytes);
    }
}

#[test]
fn the_longest_line_is_998_bytes() {
    for (length, same) in [(998, true), (999, false)] {
        let content = [vec![b'x'; length], b"\r\n".to_vec()].concat();
        let text = sent_text(HEAD, &content, true);
        assert_eq!(text.as_bytes().ends_with(&content), same, "{length}");
        assert_eq!(text.contains("Content-Transfer-Encoding: quoted-printable"), !same);
        assert_eq!(sent_text(HEAD, &content[..length], true), text, "the last line lacks its end");
    }
}

#[test]
fn only_the_part_that_needs_it_is_encoded_again() {
    let long = "<td>".repeat(1250);
    let base64 = "QUJD".repeat(300);
    let content = format!(
        "preamble\r\n--b\r\nContent-Type: text/html\r\n\r\n{long}\r\n--b\r\n\
         Content-Type: multipart/mixed; boundary=\"b2\"\r\n\r\n--b2\r\nContent-Type: application/pdf\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{base64}\r\n\r\n--b2\r\n\r\nshort = short\r\n--b2--\r\n--b--\r\n"
    );
    let head = format!("{HEAD}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n");
    let text = sent_text(&head, content.as_bytes(), true);
    assert_eq!(text.matches("Content-Transfer-Encoding: quoted-printable").count(), 1);
    assert!(
        text.contains("Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<td>")
    );
    assert!(text.contains("\r\n--b2\r\n\r\nshort = short\r\n--b2--\r\n--b--\r\n"));
    assert!(text.replace("\r\n", "").contains(&base64), "rewrapped, nothing lost");
    assert!(text.lines().all(|l| l.len() <= 76));
}

#[test]
fn eight_bit_leaves_labelled_or_encoded() {
    let text = sent_text(HEAD, "Grüße\r\n".as_bytes(), true);
    let head = "Content-Type: text/plain;\r\n charset=utf-8\r\nMIME-Version: 1.0\r\n";
    assert!(text.ends_with(&format!("{head}Content-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n")), "{text}");
    let text = sent_text(HEAD, b"Gr\xfc\xdfe\r\n", false);
    assert!(text.contains("charset=windows-1252\r\n") && text.ends_with("\r\n\r\nGr=FC=DFe\r\n"), "{text}");
    let head = format!("{HEAD}Content-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n");
    let text = sent_text(&head, b"Gr\xfc\xdfe\r\n", true);
    assert!(text.contains("Content-Type: text/html;\r\n charset=windows-1252\r\n"), "{text}");
    assert_eq!(text.matches("Content-Transfer-Encoding: 8bit").count(), 1);
}

#[test]
fn sending_may_move_between_threads() {
    fn assert_send<T: Send>(_: T) {}
    let (body, sender) = (InMemory::new(vec![], vec![]), sender());
    assert_send(async {
        let taken = Taken { eight_bit: true, utf8: true };
        let mut wire = Wire::prepare(&body, None, &sender, taken).await.unwrap();
        wire.chunk().await.unwrap()
    });
}

#[test]
fn a_raw_file_name_in_a_part_is_encoded() {
    let head = format!("{HEAD}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n");
    let content = "--b\r\nContent-Type: application/pdf;\r\n name=\"レ.pdf\"\r\n\
                   Content-Disposition: attachment; filename=\"レ.pdf\"\r\n\r\nabc\r\n--b--\r\n";
    let text = sent_text(&head, content.as_bytes(), true);
    assert!(text.contains("Content-Type: application/pdf; name*=UTF-8''%E3%83%AC.pdf\r\n"), "{text}");
    assert!(text.contains("Content-Disposition: attachment; filename*=UTF-8''%E3%83%AC.pdf\r\n"));
}

#[test]
fn signed_parts_are_left_alone_unless_they_cannot_leave() {
    let head = format!("{HEAD}MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n");
    let content = "--b\r\nX: ü\r\n\r\nü\r\n--b\r\n\r\nsig\r\n--b--\r\n".as_bytes();
    assert!(send(&head, content, true).bytes.ends_with(content));
    assert!(sent_text(&head, content, false).contains("=C3=BC"));
}

#[test]
fn a_deep_or_broken_structure_passes_within_bounds() {
    let mut content = String::new();
    for i in 0..60 {
        content.push_str(&format!("--b{i}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", i + 1));
    }
    content.push_str(&"x".repeat(3000));
    let head = format!("{HEAD}Content-Type: multipart/mixed; boundary=b0\r\n");
    let text = sent_text(&head, content.as_bytes(), false);
    assert_eq!(text.matches('x').count(), 3000 + "Content-Type: multipart/mixed".matches('x').count() * 61);
    let no_blank_line = format!("--b0\r\nthis is no field\r\nX: y\r\n\r\n{}\r\n--b0--", "y".repeat(2000));
    let text = sent_text(&head, no_blank_line.as_bytes(), true);
    assert!(text.contains("\r\nthis is no field\r\nX: y\r\n\r\nyyy"));
    sent_text(&head, format!("--b0\r\nX: {}", "z".repeat(200_000)).as_bytes(), true);
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            &b"\r\n"[..], b"\n", b"\r", b".", b"\r\n.\r\n", b"\0", b"--b\r\n", b"--b--\r\n", b"--c\r\n", b"--c--",
            b"Content-Type: text/html\r\n", b"Content-Transfer-Encoding: base64\r\n", b"=", b"=3D", b"=\r\n", b" ",
            b"Content-Transfer-Encoding: quoted-printable\r\n", b"Content-Type: multipart/signed; boundary=c\r\n",
            b"Content-Type: message/rfc822\r\n", b"Content-Type: application/pdf\r\n", b"\xc3\xbc", b"\xfc", b"Subject: \xfc\r\n",
            b"Content-Transfer-Encoding: x-uuencode\r\n",
        ]).prop_map(<[u8]>::to_vec),
        1 => (any::<u8>(), 1usize..2500).prop_map(|(b, n)| vec![b; n]),
        2 => prop::collection::vec(32u8..127, 0..90),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn whatever_is_stored_leaves_fit(content in content(), multipart: bool, to_8bit: bool) {
        let head = if multipart { format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n") } else { HEAD.to_owned() };
        assert_fit(&send(&head, &content, to_8bit), to_8bit);
    }

    #[test]
    fn what_is_fit_leaves_unchanged(lines in prop::collection::vec("[ -~]{0,300}", 0..40), multipart: bool) {
        let head = if multipart { format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n") } else { HEAD.to_owned() };
        let content: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
        let sent = send(&head, content.as_bytes(), false);
        prop_assert_eq!(unstuffed(&sent.bytes), format!("{head}\r\n{content}").into_bytes());
        // The walk alone, without the short cut, changes nothing either.
        let root = format!("{head}\r\n");
        let mut survey = Survey::new(root.as_bytes(), Charsets::default(), false);
        let mut walker = Walker::begin(root.as_bytes(), &mut survey);
        walker.push(content.as_bytes(), &mut survey);
        walker.finish(&mut survey);
        let mut rewriter = Rewriter::new(survey.decisions(), Charsets::default(), Taken { eight_bit: false, utf8: true });
        let mut walker = Walker::begin(root.as_bytes(), &mut rewriter);
        walker.push(content.as_bytes(), &mut rewriter);
        walker.finish(&mut rewriter);
        if !content.contains("Content-") {
            prop_assert_eq!(rewriter.out, format!("{head}\r\n{content}").into_bytes());
        }
    }

    #[test]
    fn chunks_may_be_split_anywhere(content in content(), splits in prop::collection::vec(1usize..3000, 1..20), to_8bit: bool) {
        let root = format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n");
        let split = |whole: bool| -> Vec<Vec<u8>> {
            if whole { return vec![content.clone()]; }
            let mut rest = content.as_slice();
            let mut out = Vec::new();
            for n in splits.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*n).min(rest.len()));
                out.push(now.to_vec());
                rest = later;
            }
            out
        };
        let run = |whole: bool| {
            let mut scan = Scan::default();
            let mut survey = Survey::new(root.as_bytes(), Charsets::default(), to_8bit);
            let mut walker = Walker::begin(root.as_bytes(), &mut survey);
            for c in split(whole) { scan.push(&c); walker.push(&c, &mut survey); }
            walker.finish(&mut survey);
            let mut rewriter = Rewriter::new(survey.decisions(), Charsets::default(), Taken { eight_bit: to_8bit, utf8: true });
            let mut walker = Walker::begin(root.as_bytes(), &mut rewriter);
            let (mut stuffing, mut out) = (Stuffing::default(), Vec::new());
            for c in split(whole) {
                walker.push(&c, &mut rewriter);
                stuffing.push(&rewriter.out, &mut out);
                rewriter.out.clear();
            }
            walker.finish(&mut rewriter);
            stuffing.push(&rewriter.out, &mut out);
            (out, scan.is_clean(), scan.dots, scan.has_8bit)
        };
        prop_assert_eq!(run(true), run(false));
    }
}

/// A content that is made while it is read, and counts what of it is still held.
#[derive(Debug)]
struct Counted {
    head: Vec<u8>,
    line: &'static [u8],
    chunks: usize,
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Reading {
    left: usize,
    line: &'static [u8],
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Chunk(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

impl Letter for Counted {
    fn head(&self) -> &[u8] {
        &self.head
    }

    fn open(&self) -> BoxFuture<'_, std::io::Result<Box<dyn Content>>> {
        let (held, most) = (Arc::clone(&self.held), Arc::clone(&self.most));
        let reading = Reading { left: self.chunks, line: self.line, held, most };
        Box::pin(std::future::ready(Ok(Box::new(reading) as Box<dyn Content>)))
    }
}

impl Content for Reading {
    fn chunk(&mut self) -> BoxFuture<'_, std::io::Result<Option<Bytes>>> {
        let chunk = self.left.checked_sub(1).map(|left| {
            self.left = left;
            let bytes = self.line.repeat(CHUNK_BYTES / self.line.len());
            let held = self.held.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
            self.most.fetch_max(held, Ordering::Relaxed);
            Bytes::from_owner(Chunk(bytes, Arc::clone(&self.held)))
        });
        Box::pin(std::future::ready(Ok(chunk)))
    }
}

#[test]
fn a_content_of_any_size_leaves_in_chunks_and_is_never_held_as_a_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (line, what) in
        [(&b"aGVsbG8=\r\n"[..], "clean"), (b".dot\r\n", "stuffed"), (b"Gr\xfc\xdfe\r\n", "coded")]
    {
        let (held, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let head = format!("{HEAD}\r\n").into_bytes();
        let letter = Counted { head, line, chunks: 32, held: Arc::clone(&held), most: Arc::clone(&most) };
        runtime.block_on(async {
            let taken = Taken { eight_bit: false, utf8: true };
            let mut wire = Wire::prepare(&letter, None, &sender(), taken).await.unwrap();
            let mut bytes = 0;
            while let Some(chunk) = wire.chunk().await.unwrap() {
                assert!(chunk.len() <= 8 * CHUNK_BYTES, "{what}: {}", chunk.len());
                bytes += chunk.len();
            }
            assert!(bytes >= 31 * CHUNK_BYTES, "{what}: {bytes}");
        });
        assert!(most.load(Ordering::Relaxed) <= 3 * CHUNK_BYTES, "{what}: {most:?}");
        assert_eq!(held.load(Ordering::Relaxed), 0, "{what}");
    }
}
