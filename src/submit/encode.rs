//! What goes on the wire between 354 and the final dot.
//!
//! Invariant: whatever is stored, what leaves has CRLF line ends only, no NUL, no line over 998 bytes, no 8-bit
//! content unless the smart host takes it, and is dot-stuffed last; so nothing in it can end the data (RFC 5321
//! section 4.5.2, RFC 5322 section 2.1.1). The same message gives the same bytes at every attempt. Memory is a
//! few chunks, whatever the size.
//! Must not know: the connection, the reply, the schedule.

mod mime;
mod recode;
mod transfer;

use crate::mail::QueuedMessage;
use crate::mail::encoded_word::MAX_LINE_BYTES;
use crate::policy::rewrite::{Sender, downgraded, rewrite_head};
use crate::queue::{Body, BodyReader};
use bytes::Bytes;
use mime::Walker;
use recode::{Rewriter, Survey};

/// Small pieces are joined up to this size, so that a small message is one write.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the smart host announces.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// 8BITMIME.
    pub eight_bit: bool,
    /// SMTPUTF8.
    pub utf8: bool,
}

/// One message on its way out.
#[derive(Debug)]
pub struct Wire<'a> {
    body: &'a Body,
    reader: BodyReader,
    how: How,
    stuffing: Stuffing,
    /// Stuffed and ready.
    ready: Vec<u8>,
    /// Behind `ready`, and needs nothing.
    held: Option<Bytes>,
    ended: bool,
    size_bytes: u64,
    needs_8bit: bool,
    needs_utf8: bool,
}

#[derive(Debug)]
enum How {
    /// The content is clean. Without dots to stuff, chunks pass as they are.
    Clean { has_dots: bool, lacks_line_end: bool },
    /// It has to be walked.
    Recode(Box<(Option<Walker>, Rewriter)>),
}

impl<'a> Wire<'a> {
    /// Rewrites the head and looks through the content once, to know what has to be done to it and how long it
    /// will be.
    ///
    /// # Errors
    /// The disk's: the content is gone or unreadable.
    pub async fn prepare(
        body: &'a Body,
        message: &QueuedMessage,
        sender: &Sender,
        taken: Taken,
    ) -> std::io::Result<Self> {
        let charset = message.charset.as_deref();
        let mut head = rewrite_head(body.head(), sender, charset);
        if !taken.utf8 {
            head = downgraded(head);
        }
        let mut scan = Scan::default();
        let mut reader = body.open().await?;
        while let Some(chunk) = reader.chunk().await? {
            scan.push(&chunk);
        }
        let mut wire = Self {
            body,
            reader: body.open().await?,
            how: How::Clean { has_dots: scan.dots, lacks_line_end: !scan.at_line_start },
            stuffing: Stuffing::default(),
            ready: Vec::with_capacity(head.len() + 16),
            held: None,
            ended: false,
            size_bytes: head.len() as u64 + scan.bytes + if scan.at_line_start { 0 } else { 2 },
            needs_8bit: scan.has_8bit || !head.is_ascii(),
            needs_utf8: !head.is_ascii(),
        };
        if scan.is_clean() && !scan.has_8bit {
            wire.stuffing.push(&head, &mut wire.ready);
        } else {
            wire.recode(&head, charset, taken.eight_bit).await?;
        }
        Ok(wire)
    }

    /// Decides part by part, then writes once into nothing for the exact size.
    async fn recode(&mut self, head: &[u8], charset: Option<&str>, to_8bit: bool) -> std::io::Result<()> {
        let mut survey = Survey::new(to_8bit);
        let mut walker = Walker::begin(head, &mut survey);
        while let Some(chunk) = self.reader.chunk().await? {
            walker.push(&chunk, &mut survey);
        }
        walker.finish(&mut survey);
        let decisions = survey.decisions();

        self.reader = self.body.open().await?;
        let mut rewriter = Rewriter::new(decisions.clone(), charset, to_8bit);
        let mut walker = Walker::begin(head, &mut rewriter);
        (self.size_bytes, self.needs_8bit) = (rewriter.out.len() as u64, !rewriter.out.is_ascii());
        let mut count = |out: &mut Vec<u8>| {
            self.size_bytes += out.len() as u64;
            self.needs_8bit |= !out.is_ascii();
            out.clear();
        };
        rewriter.out.clear();
        while let Some(chunk) = self.reader.chunk().await? {
            walker.push(&chunk, &mut rewriter);
            count(&mut rewriter.out);
        }
        walker.finish(&mut rewriter);
        count(&mut rewriter.out);

        self.reader = self.body.open().await?;
        let mut rewriter = Rewriter::new(decisions, charset, to_8bit);
        let walker = Walker::begin(head, &mut rewriter);
        self.how = How::Recode(Box::new((Some(walker), rewriter)));
        Ok(())
    }

    /// The exact size for `SIZE=` (RFC 1870 section 5: without stuffed dots).
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether `BODY=8BITMIME` has to be said.
    pub fn needs_8bit(&self) -> bool {
        self.needs_8bit
    }

    /// Whether `SMTPUTF8` has to be said for the head's sake.
    pub fn needs_utf8(&self) -> bool {
        self.needs_utf8
    }

    /// The next bytes to send, about 64 KiB; `None` at the end. All of them together end in CRLF; the final
    /// `.` and CRLF are the caller's.
    ///
    /// # Errors
    /// The disk's. The end of data must not be sent then.
    pub async fn chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            if let Some(held) = self.held.take() {
                return Ok(Some(held));
            }
            if self.ready.len() >= CHUNK_BYTES || self.ended {
                return Ok((!self.ready.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.ready))));
            }
            let Some(chunk) = self.reader.chunk().await? else {
                self.finish();
                self.ended = true;
                continue;
            };
            match &mut self.how {
                How::Clean { has_dots: false, .. } if self.ready.is_empty() => return Ok(Some(chunk)),
                How::Clean { has_dots: false, .. } if self.ready.len() + chunk.len() > CHUNK_BYTES => {
                    self.held = Some(chunk);
                    return Ok(Some(Bytes::from(std::mem::take(&mut self.ready))));
                }
                How::Clean { has_dots: false, .. } => self.ready.extend_from_slice(&chunk),
                How::Clean { has_dots: true, .. } => self.stuffing.push(&chunk, &mut self.ready),
                How::Recode(recode) => {
                    let (walker, rewriter) = &mut **recode;
                    if let Some(walker) = walker {
                        walker.push(&chunk, rewriter);
                    }
                    self.stuffing.push(&rewriter.out, &mut self.ready);
                    rewriter.out.clear();
                }
            }
        }
    }

    fn finish(&mut self) {
        match &mut self.how {
            How::Clean { lacks_line_end: true, .. } => self.ready.extend_from_slice(b"\r\n"),
            How::Clean { .. } => {}
            How::Recode(recode) => {
                let (walker, rewriter) = &mut **recode;
                if let Some(walker) = walker.take() {
                    walker.finish(rewriter);
                }
                self.stuffing.push(&rewriter.out, &mut self.ready);
                rewriter.out.clear();
            }
        }
    }
}

/// What a look through the content tells, at the speed of memory.
#[derive(Debug)]
struct Scan {
    bytes: u64,
    /// A line begins with a dot.
    dots: bool,
    has_8bit: bool,
    /// NUL, or an ESC, which may be ISO-2022-JP in the head of a part.
    has_odd: bool,
    too_long: bool,
    lone_lf: bool,
    crs: u64,
    crlfs: u64,
    at_line_start: bool,
    last: u8,
    column: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            bytes: 0,
            dots: false,
            has_8bit: false,
            has_odd: false,
            too_long: false,
            lone_lf: false,
            crs: 0,
            crlfs: 0,
            at_line_start: true,
            last: b'\n',
            column: 0,
        }
    }
}

impl Scan {
    fn push(&mut self, chunk: &[u8]) {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return };
        self.bytes += chunk.len() as u64;
        self.has_8bit |= !chunk.is_ascii();
        self.has_odd |= memchr::memchr2(0, 0x1b, chunk).is_some();
        self.crs += memchr::memchr_iter(b'\r', chunk).count() as u64;
        self.dots |= self.at_line_start && *first == b'.';
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', chunk) {
            let before = if at == 0 { self.last } else { chunk[at - 1] };
            if before == b'\r' {
                self.crlfs += 1;
            } else {
                self.lone_lf = true;
            }
            // The CR counts, too; CRLF at 999 and 1000 is the longest line.
            self.too_long |= self.column + (at - start) > MAX_LINE_BYTES + 1;
            self.column = 0;
            start = at + 1;
            self.dots |= chunk.get(start) == Some(&b'.');
        }
        self.column += chunk.len() - start;
        self.last = *last;
        self.at_line_start = *last == b'\n';
    }

    fn is_clean(&self) -> bool {
        // A last line without its end has no CR to count; a lone CR there shows in the totals.
        let too_long = self.too_long || self.column > MAX_LINE_BYTES;
        !(too_long || self.has_odd || self.lone_lf || self.crs != self.crlfs)
    }
}

/// RFC 5321 section 4.5.2, across any split.
#[derive(Debug)]
struct Stuffing {
    at_line_start: bool,
}

impl Default for Stuffing {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

impl Stuffing {
    fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return };
        out.reserve(text.len() + 64);
        if self.at_line_start && *first == b'.' {
            out.push(b'.');
        }
        let mut from = 0;
        for at in memchr::memmem::find_iter(text, b"\n.") {
            out.extend_from_slice(&text[from..=at]);
            out.push(b'.');
            from = at + 1;
        }
        out.extend_from_slice(&text[from..]);
        self.at_line_start = *last == b'\n';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{AccountId, ClientName, QueueId, Recipient, RelayTime, ReversePath, State, WallTime};
    use proptest::prelude::*;

    fn message() -> QueuedMessage {
        QueuedMessage {
            id: QueueId::from_number(1),
            account: AccountId::new("scanner@contoso.com"),
            client: ClientName::new("printers"),
            peer: None,
            reverse_path: ReversePath::Mailbox("scanner@contoso.com".parse().unwrap()),
            recipients: vec![Recipient::pending("a@contoso.com".parse().unwrap())],
            size_bytes: 0,
            received_at: WallTime::from_ms(0),
            queued_since: RelayTime::from_ms(0),
            next_attempt: RelayTime::from_ms(0),
            attempts: 0,
            state: State::Queued,
            finished_at: None,
            last_said: String::new(),
            outcome_unknown: false,
            charset: None,
        }
    }

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
            let body = Body::in_memory(format!("{head}\r\n").into_bytes(), content.to_vec());
            let taken = Taken { eight_bit: to_8bit, utf8: true };
            let mut wire = Wire::prepare(&body, &message(), &sender(), taken).await.unwrap();
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
            text.contains(
                "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<td>"
            )
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
        assert!(
            text.contains("charset=windows-1252\r\n") && text.ends_with("\r\n\r\nGr=FC=DFe\r\n"),
            "{text}"
        );
        let head = format!("{HEAD}Content-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n");
        let text = sent_text(&head, b"Gr\xfc\xdfe\r\n", true);
        assert!(text.contains("Content-Type: text/html;\r\n charset=windows-1252\r\n"), "{text}");
        assert_eq!(text.matches("Content-Transfer-Encoding: 8bit").count(), 1);
    }

    #[test]
    fn sending_may_move_between_threads() {
        fn assert_send<T: Send>(_: T) {}
        let (body, message, sender) = (Body::in_memory(vec![], vec![]), message(), sender());
        assert_send(async {
            let taken = Taken { eight_bit: true, utf8: true };
            let mut wire = Wire::prepare(&body, &message, &sender, taken).await.unwrap();
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
            content
                .push_str(&format!("--b{i}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", i + 1));
        }
        content.push_str(&"x".repeat(3000));
        let head = format!("{HEAD}Content-Type: multipart/mixed; boundary=b0\r\n");
        let text = sent_text(&head, content.as_bytes(), false);
        assert_eq!(
            text.matches('x').count(),
            3000 + "Content-Type: multipart/mixed".matches('x').count() * 61
        );
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
            let mut survey = Survey::new(false);
            let root = format!("{head}\r\n");
            let mut walker = Walker::begin(root.as_bytes(), &mut survey);
            walker.push(content.as_bytes(), &mut survey);
            walker.finish(&mut survey);
            let mut rewriter = Rewriter::new(survey.decisions(), None, false);
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
                let mut survey = Survey::new(to_8bit);
                let mut walker = Walker::begin(root.as_bytes(), &mut survey);
                for c in split(whole) { scan.push(&c); walker.push(&c, &mut survey); }
                walker.finish(&mut survey);
                let mut rewriter = Rewriter::new(survey.decisions(), None, to_8bit);
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
}
