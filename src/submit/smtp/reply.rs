//! Reading replies: bytes in, whole replies out.
//!
//! Invariant: whatever the split of the bytes, the same replies come out; a peer can make it hold at most
//! `MAX_REPLY_BYTES` and one fed chunk; what is not SMTP is said to be so and never guessed at.
//! Must not know: sockets, clocks, or what any reply means.

use crate::mail::{EnhancedStatus, Escaped, Reply};

/// RFC 5321 section 4.5.3.1.5 says 512; servers that quote an earlier error send more.
pub const MAX_LINE_BYTES: usize = 4 * 1024;
/// All lines of one reply together.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;
/// No EHLO response or quoted policy comes near this.
pub const MAX_LINES: usize = 128;

/// What came is no SMTP reply, or is beyond the caps. The connection is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unparsable(String);

/// Takes bytes as they arrive and gives replies as they become whole; several may be waiting (RFC 2920).
#[derive(Debug, Default)]
pub struct ReplyReader {
    waiting: Vec<u8>,
    /// So much of `waiting` is known to hold no line end: a drip-fed line is not scanned over and over.
    scanned: usize,
    text: String,
    status: Option<EnhancedStatus>,
    /// The latest line's.
    code: u16,
    lines: usize,
    reply_bytes: usize,
}

impl ReplyReader {
    /// A reader with nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived. The caller empties `reply` before it feeds again, which bounds what is held here.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next whole reply, or none before more bytes arrive. Of a multi-line reply with differing codes the
    /// last line's counts (RFC 5321 section 4.2.1 lets a client take any; the last is what Exchange means).
    ///
    /// # Errors
    /// `Unparsable`, also on every later call.
    pub fn reply(&mut self) -> Result<Option<Reply>, Unparsable> {
        let mut consumed = 0;
        let found = loop {
            let rest = &self.waiting[consumed..];
            let from = self.scanned.saturating_sub(consumed).min(rest.len());
            let Some(end) = memchr::memchr(b'\n', &rest[from..]).map(|i| from + i) else {
                self.scanned = self.waiting.len();
                if rest.len() > MAX_LINE_BYTES {
                    return Err(unparsable("a line without end", rest));
                }
                break None;
            };
            let line = &rest[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (code, last, text) = split_line(line)?;
            self.code = code;
            self.lines += 1;
            self.reply_bytes += end + 1;
            if end > MAX_LINE_BYTES || self.reply_bytes > MAX_REPLY_BYTES || self.lines > MAX_LINES {
                return Err(unparsable("a reply without end", line));
            }
            consumed += end + 1;
            let text = String::from_utf8_lossy(text).into_owned();
            self.append(&text);
            if last {
                break Some(Reply { code, status: self.status.take(), text: std::mem::take(&mut self.text) });
            }
        };
        self.waiting.drain(..consumed);
        self.scanned -= consumed.min(self.scanned);
        if found.is_some() {
            self.lines = 0;
            self.reply_bytes = 0;
            if self.waiting.is_empty() {
                // An idle connection holds no memory for the next reply.
                self.waiting = Vec::new();
            }
        }
        Ok(found)
    }

    /// A refusal that was begun and will not be ended: its code stands on the first line already, and what the server
    /// wanted to say besides is lost. Of anything else a part says nothing: a 250 may be kept from us because the
    /// server broke down before it had what it confirms. Nothing is held afterwards.
    pub fn refusal_begun(&mut self) -> Option<Reply> {
        let rest = std::mem::take(self);
        let mut begun = Self { waiting: vec![], scanned: 0, ..rest };
        let line = rest.waiting.strip_suffix(b"\r").unwrap_or(&rest.waiting);
        let line = &line[..line.len().min(MAX_LINE_BYTES)];
        // Whole lines are left only behind one that is no reply.
        if !line.contains(&b'\n')
            && let Ok((code, _, text)) = split_line(line)
        {
            begun.code = code;
            begun.lines += 1;
            begun.append(&String::from_utf8_lossy(text));
        }
        (begun.lines > 0 && begun.code >= 400).then_some(Reply {
            code: begun.code,
            status: begun.status,
            text: begun.text,
        })
    }

    /// Whether nothing is held: no reply waits, none has begun.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lines == 0
    }

    /// Servers repeat the enhanced status on every line (RFC 2034 section 4); once is enough, and a sentence
    /// broken over two lines then reads as one.
    fn append(&mut self, line: &str) {
        let split = EnhancedStatus::split(line);
        if self.lines == 1 {
            self.status = split.map(|(status, _)| status);
        } else {
            self.text.push('\n');
        }
        self.text.push_str(match split {
            Some((status, rest)) if Some(status) == self.status => rest,
            _ => line,
        });
    }
}

/// Code, whether it is the last line, and the text behind.
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), Unparsable> {
    let (code, rest) = match line {
        [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let digit = |d: &u8| u16::from(d - b'0');
            (digit(a) * 100 + digit(b) * 10 + digit(c), rest)
        }
        _ => return Err(unparsable("no reply code", line)),
    };
    match rest {
        [] => Ok((code, true, rest)),
        [b' ', text @ ..] => Ok((code, true, text)),
        [b'-', text @ ..] => Ok((code, false, text)),
        _ => Err(unparsable("no reply code", line)),
    }
}

fn unparsable(what: &str, seen: &[u8]) -> Unparsable {
    Unparsable(format!("{what}: {}", Escaped(&seen[..seen.len().min(120)])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every reply in `bytes`, fed in the given pieces; the error ends it.
    fn read(pieces: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Reply>, Option<Unparsable>) {
        let mut reader = ReplyReader::new();
        let mut replies = vec![];
        for piece in pieces {
            reader.feed(&piece);
            loop {
                match reader.reply() {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(e) => return (replies, Some(e)),
                }
            }
        }
        (replies, None)
    }

    fn whole(bytes: &[u8]) -> Vec<String> {
        let (replies, error) = read([bytes.to_vec()]);
        replies.iter().map(ToString::to_string).chain(error.map(|e| e.to_string())).collect()
    }

    #[test]
    fn replies_are_read_as_servers_write_them() {
        let cases: [(&[u8], &[&str]); 10] = [
            (
                b"451 4.7.0 Temporary server error. Please try again later. PRX4\r\n",
                &["451 4.7.0 Temporary server error. Please try again later. PRX4"],
            ),
            (b"451 4.7.500 Server busy\n", &["451 4.7.500 Server busy"]),
            (b"250-one\r\n250-two\n250 three\r\n", &["250 one / two / three"]),
            (b"550-5.7.1 not\r\n550 5.7.1 you\r\n", &["550 5.7.1 not / you"]),
            (b"550-5.7.1 not\r\n550 5.7.2 you\r\n", &["550 5.7.1 not / 5.7.2 you"]),
            (b"250\r\n", &["250"]),
            (b"250 \r\n", &["250"]),
            (b"250-is not the end\r\n550 no\r\n", &["550 is not the end / no"]),
            (b"250 a\r\n250 b\r\n354 c\r\n", &["250 a", "250 b", "354 c"]),
            (b"250 caf\xe9\r\n", &["250 caf\u{fffd}"]),
        ];
        for (bytes, replies) in cases {
            assert_eq!(whole(bytes), replies, "{}", Escaped(bytes));
        }
    }

    #[test]
    fn what_is_no_smtp_is_said_to_be_so() {
        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "25\r\n",
            "199 early\r\n",
            "600 late\r\n",
            "25x y\r\n",
            "250_x\r\n",
            "2500 x\r\n",
            "250-one\r\nnonsense\r\n",
            "\u{15}\u{3}\u{1}\0\u{2}\u{2}\n",
        ] {
            let said = whole(bad.as_bytes());
            assert!(said[0].starts_with("no reply code"), "{bad:?}: {said:?}");
        }
    }

    #[test]
    fn a_server_that_never_ends_is_stopped_at_the_caps() {
        let line = [b"250 ".as_slice(), &vec![b'x'; MAX_LINE_BYTES], b"\r\n"].concat();
        assert!(whole(&line)[0].starts_with("a reply without end"));
        assert!(whole(&line[..line.len() - 2])[0].starts_with("a line without end"));
        let many = b"250-x\r\n".repeat(MAX_LINES + 1);
        assert!(whole(&many)[0].starts_with("a reply without end"));
        let wide = [b"250-".as_slice(), &vec![b'x'; 4000], b"\r\n"].concat().repeat(17);
        assert!(whole(&wide)[0].starts_with("a reply without end"));
        assert_eq!(whole(&[&b"250-x\r\n".repeat(MAX_LINES - 1)[..], b"250 y\r\n"].concat()).len(), 1);
    }

    #[test]
    fn a_refusal_counts_from_its_code_on_and_nothing_else_does_before_its_end() {
        for (bytes, said) in [
            ("550 5.1.1 no such user", Some("550 5.1.1 no such user")),
            ("550 5.1.1 no such user\r", Some("550 5.1.1 no such user")),
            ("550 5.1", Some("550 5.1")),
            ("550", Some("550")),
            ("55", None),
            ("", None),
            ("550-5.7.1 not\r\n", Some("550 5.7.1 not")),
            ("550-5.7.1 not\r\n550 5.7.1 y", Some("550 5.7.1 not / y")),
            ("550-5.7.1 not\r\n55", Some("550 5.7.1 not")),
            ("250-a\r\n550 5.7.1 n", Some("550 a / 5.7.1 n")),
            ("432 4.3.2 too many", Some("432 4.3.2 too many")),
            ("250 2.0.0 OK", None),
            ("250-2.0.0 OK\r\n", None),
            ("354 go", None),
            ("HTTP/1.1 400 Bad", None),
            ("550-5.7.1 not\r\nmore of it\r\n", Some("550 5.7.1 not")),
            ("250-2.0.0 OK\r\nmore of it\r\n", None),
            ("more of it\r\n550 no\r\n", None),
        ] {
            let mut reader = ReplyReader::new();
            reader.feed(bytes.as_bytes());
            assert!(matches!(reader.reply(), Ok(None) | Err(_)), "{bytes:?}");
            let begun = reader.refusal_begun().map(|r| r.to_string());
            assert_eq!(begun.as_deref(), said, "{bytes:?}");
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_begun_reply_is_not_nothing() {
        let mut reader = ReplyReader::new();
        assert!(reader.is_empty());
        reader.feed(b"250-one\r\n");
        assert_eq!(reader.reply(), Ok(None));
        assert!(!reader.is_empty());
        reader.feed(b"250 two\r\n4");
        assert_eq!(reader.reply().unwrap().unwrap().text, "one\ntwo");
        assert!(!reader.is_empty(), "a byte of the next is here");
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_reads_the_same(
            bytes in proptest::collection::vec(
                prop_oneof![
                    Just(b"250-a\r\n".to_vec()), Just(b"451 4.7.0 PRX4\r\n".to_vec()), Just(b"354\n".to_vec()),
                    Just(b"550-5.7.1 x\r\n".to_vec()), Just(b"250 5.7.1 y\n".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..8),
                ],
                0..12,
            ),
            sizes in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let bytes = bytes.concat();
            let mut pieces = vec![];
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = after;
            }
            prop_assert_eq!(read(pieces), read([bytes]));
        }

        #[test]
        fn what_is_written_is_read_back(
            codes in proptest::collection::vec(200u16..600, 1..5),
            lines in proptest::collection::vec("[ -~]{0,60}", 1..6),
        ) {
            let mut wire = String::new();
            for code in &codes {
                for (i, line) in lines.iter().enumerate() {
                    let sep = if i + 1 == lines.len() { ' ' } else { '-' };
                    wire.push_str(&format!("{code}{sep}x {line}\r\n"));
                }
            }
            let (replies, error) = read([wire.into_bytes()]);
            prop_assert_eq!(error, None);
            let text = lines.iter().map(|l| format!("x {l}")).collect::<Vec<_>>().join("\n");
            prop_assert_eq!(replies, codes.iter().map(|c| Reply::new(*c, &text)).collect::<Vec<_>>());
        }
    }
}
