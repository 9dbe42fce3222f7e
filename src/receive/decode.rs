//! The body decoder: what a device sends after DATA becomes lines that end in CRLF.
//!
//! Invariant: the end of data is decided on raw bytes alone, before anything is normalised (CRLF.CRLF, or .CRLF
//! directly after DATA), so no other byte sequence can end a message and smuggle a second one in. The outcome is
//! the same for every split of the input. The output has no LF but in CRLF, and no CR alone but where asked for. Memory is a few bytes,
//! whatever the length of a line. Must not know: head and content, limits, time.

use memchr::memchr2;

/// How much is looked at in one pass; small enough to stay in the first-level cache.
const BLOCK_BYTES: usize = 8 * 1024;

/// Where in the raw bytes the decoder stands, with what it holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Behind CRLF, or directly behind DATA: a dot may end the data.
    LineStart,
    /// Behind a bare LF or CR: a dot is content.
    BareLineStart,
    /// Inside a line.
    Line,
    /// A CR that may be half of a CRLF.
    Cr,
    /// Two of them: CRCRLF is one line end of a stack that translates LF twice, so it is not to become two.
    CrCr,
    /// A dot at `LineStart`.
    Dot,
    /// A dot and a CR at `LineStart`.
    DotCr,
    /// A dot at a line start where all line ends were bare LF (`line_endings = "lf"` only).
    LfDot,
    /// LF.LF of such a device: the end, if silence follows.
    LfDotLf,
    /// The end of data was seen.
    End,
}

/// What was seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Raw bytes taken, the end of data included.
    pub raw_bytes: u64,
    /// At least one byte above 127.
    pub eight_bit: bool,
    /// The longest line without its end, in bytes.
    pub longest_line_bytes: u64,
    /// Lines that ended in a bare LF.
    pub bare_lf: u64,
    /// Lines that ended in a bare CR.
    pub bare_cr: u64,
    /// Lines that ended in CRLF.
    pub crlf: u64,
    /// A line of a single dot between bare LFs: a device that never sends CR means the end by it.
    pub lf_dot_lf: bool,
}

impl Seen {
    /// There were lines, and each ended in a bare LF.
    pub fn all_lf(&self) -> bool {
        self.bare_lf > 0 && self.bare_cr == 0 && self.crlf == 0
    }
}

/// Decodes one message.
#[derive(Debug)]
pub struct Decoder {
    at: At,
    lf_only: bool,
    keeps_bare_cr: bool,
    line_bytes: u64,
    lone_dot: bool,
    seen: Seen,
}

impl Decoder {
    /// Begins behind the 354. `lf_only`: the client's `line_endings = "lf"`.
    pub fn new(lf_only: bool) -> Self {
        Self {
            at: At::LineStart,
            lf_only,
            keeps_bare_cr: false,
            line_bytes: 0,
            lone_dot: false,
            seen: Seen::default(),
        }
    }

    /// Whether the end of data was reached.
    pub fn is_finished(&self) -> bool {
        self.at == At::End
    }

    /// Whether silence from here on would be the end of data: LF.LF of a device that only ever sends LF.
    pub fn awaits_silence(&self) -> bool {
        self.at == At::LfDotLf
    }

    /// The silence came. Does nothing unless `awaits_silence`.
    pub fn silence(&mut self) {
        if self.awaits_silence() {
            self.at = At::End;
        }
    }

    /// Whether a CR alone comes out as it is: in the head it is a blank, which is for the reader of the head to say.
    pub fn keep_bare_cr(&mut self, keep: bool) {
        self.keeps_bare_cr = keep;
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Takes raw bytes and appends decoded ones to `out`; returns how many were taken, which is all of them unless
    /// the end of data is among them.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        for block in input.chunks(BLOCK_BYTES) {
            if self.at == At::End {
                break;
            }
            let (removable, or) = look(block);
            let n = if removable { self.careful(block, out) } else { self.clean(block, out) };
            // What is behind the end of data is not this message's.
            self.seen.eight_bit |= or & 0x80 != 0 && (n == block.len() || !block[..n].is_ascii());
            taken += n;
        }
        self.seen.raw_bytes += taken as u64;
        taken
    }

    /// A block with something to remove: byte by byte.
    fn careful(&mut self, block: &[u8], out: &mut Vec<u8>) -> usize {
        for (i, b) in block.iter().enumerate() {
            self.step(*b, out);
            if self.at == At::End {
                return i + 1;
            }
        }
        block.len()
    }

    /// A block without bytes to remove: line by line, copying runs as long as nothing has to change.
    fn clean(&mut self, block: &[u8], out: &mut Vec<u8>) -> usize {
        let mut from = 0;
        let mut i = 0;
        while i < block.len() {
            let undecided = !matches!(self.at, At::LineStart | At::BareLineStart | At::Line);
            if undecided || (block[i] == b'.' && self.at != At::Line) {
                out.extend_from_slice(&block[from..i]);
                self.step(block[i], out);
                i += 1;
                from = i;
                if self.at == At::End {
                    return i;
                }
                continue;
            }
            let rest = &block[i..];
            let Some(end) = memchr2(b'\r', b'\n', rest) else {
                self.line_bytes += rest.len() as u64;
                self.lone_dot = false;
                self.at = At::Line;
                break;
            };
            if end > 0 {
                self.line_bytes += end as u64;
                self.lone_dot = false;
            }
            if rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n') {
                self.line_ended();
                self.seen.crlf += 1;
                self.at = At::LineStart;
                i += end + 2;
            } else {
                out.extend_from_slice(&block[from..i + end]);
                self.at = At::Line;
                self.step(rest[end], out);
                i += end + 1;
                from = i;
            }
        }
        out.extend_from_slice(&block[from.min(block.len())..]);
        block.len()
    }

    fn step(&mut self, b: u8, out: &mut Vec<u8>) {
        match (self.at, b) {
            (At::LineStart, b'.') => self.at = At::Dot,
            (At::BareLineStart, b'.') if self.lf_only && self.seen.all_lf() => self.at = At::LfDot,
            (At::LineStart | At::BareLineStart | At::Line, _) => self.plain(b, out),

            (At::Cr, b'\n') => self.crlf(out),
            (At::Cr, b'\r') => self.at = At::CrCr,
            (At::Cr, _) => {
                self.bare_cr(out);
                self.step(b, out);
            }
            (At::CrCr, b'\n') => self.crlf(out),
            // One of three is let go, so that an endless run of CR needs no memory.
            (At::CrCr, b'\r') => {
                self.bare_cr(out);
                self.at = At::CrCr;
            }
            (At::CrCr, _) => {
                self.bare_cr(out);
                self.bare_cr(out);
                self.step(b, out);
            }

            (At::Dot, b'\r') => self.at = At::DotCr,
            (At::Dot, b'\n') if self.lf_only && self.seen.crlf + self.seen.bare_cr == 0 => {
                self.at = At::LfDotLf;
            }
            (At::Dot | At::LfDot, b'\r' | b'\n') if self.at == At::Dot || b == b'\r' => {
                self.content_dot(out);
                self.plain(b, out);
            }
            (At::LfDot, b'\n') => self.at = At::LfDotLf,
            // RFC 5321 section 4.5.2: the dot was stuffed.
            (At::Dot | At::LfDot, _) => self.plain(b, out),

            (At::DotCr, b'\n') => self.at = At::End,
            (At::DotCr, _) => {
                self.content_dot(out);
                self.at = At::Cr;
                self.step(b, out);
            }

            (At::LfDotLf, _) => {
                self.content_dot(out);
                self.plain(b'\n', out);
                self.step(b, out);
            }
            (At::End, _) => {}
        }
    }

    /// A byte that has no meaning by its place.
    fn plain(&mut self, b: u8, out: &mut Vec<u8>) {
        match b {
            b'\r' => self.at = At::Cr,
            b'\n' => {
                self.seen.lf_dot_lf |= self.lone_dot;
                self.end_line(out);
                self.seen.bare_lf += 1;
                self.at = At::BareLineStart;
            }
            b => {
                let first = matches!(self.at, At::LineStart | At::BareLineStart);
                self.at = At::Line;
                if !is_removed(b) {
                    self.lone_dot = first && b == b'.';
                    self.line_bytes += 1;
                    out.push(b);
                }
            }
        }
    }

    fn content_dot(&mut self, out: &mut Vec<u8>) {
        self.lone_dot = true;
        self.line_bytes += 1;
        out.push(b'.');
        self.at = At::Line;
    }

    fn crlf(&mut self, out: &mut Vec<u8>) {
        self.end_line(out);
        self.seen.crlf += 1;
        self.at = At::LineStart;
    }

    fn bare_cr(&mut self, out: &mut Vec<u8>) {
        self.line_ended();
        out.extend_from_slice(if self.keeps_bare_cr { b"\r" } else { b"\r\n" });
        self.seen.bare_cr += 1;
        self.at = At::BareLineStart;
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.line_ended();
        out.extend_from_slice(b"\r\n");
    }

    fn line_ended(&mut self) {
        self.seen.longest_line_bytes = self.seen.longest_line_bytes.max(self.line_bytes);
        self.line_bytes = 0;
        self.lone_dot = false;
    }
}

/// NUL must not be sent on (RFC 5321 section 4.5.2 by way of RFC 5322), and the other C0 controls break gateways
/// and terminals. TAB stays, and so do ESC, SO and SI: they are how ISO-2022-JP and -KR are written.
const fn is_removed(b: u8) -> bool {
    matches!(b, 0x00..=0x08 | 0x0b | 0x0c | 0x10..=0x1a | 0x1c..=0x1f)
}

/// Whether a block has bytes to remove, and all its bytes or-ed together. Without a branch, so that it is compiled
/// to vector instructions.
fn look(block: &[u8]) -> (bool, u8) {
    let (mut removable, mut or) = (0u8, 0u8);
    for b in block {
        or |= b;
        let control = *b < 0x20;
        let kept = (*b == b'\t') | (*b == b'\n') | (*b == b'\r') | (*b == 0x0e) | (*b == 0x0f) | (*b == 0x1b);
        removable |= u8::from(control & !kept);
    }
    (removable != 0, or)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes in the given pieces; the output, and what was left behind the end of data if there was one.
    fn decoded(pieces: &[&[u8]], lf_only: bool) -> (Vec<u8>, Option<Vec<u8>>, Seen) {
        let mut decoder = Decoder::new(lf_only);
        let (mut out, mut behind) = (vec![], vec![]);
        for piece in pieces {
            let n = decoder.push(piece, &mut out);
            behind.extend_from_slice(&piece[n..]);
        }
        let finished = decoder.is_finished().then_some(behind);
        (out, finished, *decoder.seen())
    }

    #[test]
    fn only_crlf_dot_crlf_ends_the_data() {
        let end: [(&[u8], &[u8], &[u8]); 6] = [
            (b".\r\n", b"", b""),
            (b"a\r\n.\r\nQUIT", b"a\r\n", b"QUIT"),
            (b"a\r\r\n.\r\n", b"a\r\n", b""),
            (b"..\r\n.\r\n", b".\r\n", b""),
            (b".a\r\n...b\r\n.\r\n", b"a\r\n..b\r\n", b""),
            (b"\r\n.\r\n.\r\n", b"\r\n", b".\r\n"),
        ];
        for (raw, content, behind) in end {
            let (out, rest, _) = decoded(&[raw], false);
            assert_eq!((out.as_slice(), rest.as_deref()), (content, Some(behind)), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn what_servers_took_for_an_end_of_data_is_content() {
        let cases: [(&[u8], &[u8]); 16] = [
            (b"a\n.\nb", b"a\r\n.\r\nb"),
            (b"a\n.\r\nb", b"a\r\n.\r\nb"),
            (b"a\r.\r\nb", b"a\r\n.\r\nb"),
            (b"a\r.\rb", b"a\r\n.\r\nb"),
            (b"a\r\n.\nb", b"a\r\n.\r\nb"),
            (b"a\r\n.\rb", b"a\r\n.\r\nb"),
            (b"a\r\r\n.\r\r\nb", b"a\r\n.\r\nb"),
            (b"a\r\n\0.\r\nb", b"a\r\n.\r\nb"),
            (b"a\r\n.\0\r\nb", b"a\r\n\r\nb"),
            (b"a\r\n..\0\r\nb", b"a\r\n.\r\nb"),
            (b"a\r\0\n.\r\nb", b"a\r\n\r\n.\r\nb"),
            (b"a\r\n. \r\nb", b"a\r\n \r\nb"),
            (b"a\r\n .\r\nb", b"a\r\n .\r\nb"),
            (b"a\r\n\x0b.\x0c\r\nb", b"a\r\n.\r\nb"),
            (b"a\r\n\x85.\x85\r\nb", b"a\r\n\x85.\x85\r\nb"),
            (b".\nb", b".\r\nb"),
        ];
        for (raw, content) in cases {
            for lf_only in [false, true] {
                let (out, rest, _) = decoded(&[raw], lf_only);
                assert_eq!(rest, None, "{}", raw.escape_ascii());
                assert_eq!(
                    out.escape_ascii().to_string(),
                    content.escape_ascii().to_string(),
                    "{}",
                    raw.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn controls_go_and_japanese_shifts_and_tabs_stay() {
        let (out, _, _) = decoded(&[b"a\0b\x07\tc \x1b$B%9\x1b(B \x0e\x0f\x1a.\r\n"], false);
        assert_eq!(out, b"ab\tc \x1b$B%9\x1b(B \x0e\x0f.\r\n");
    }

    #[test]
    fn lf_dot_lf_ends_the_data_of_an_lf_only_client_when_silence_follows() {
        let awaits = |raw: &[u8], lf_only: bool| {
            let mut d = Decoder::new(lf_only);
            let mut out = vec![];
            d.push(raw, &mut out);
            let awaited = d.awaits_silence();
            d.silence();
            assert_eq!(awaited, d.is_finished());
            awaited.then_some(out)
        };
        assert_eq!(awaits(b"S: x\n\nhi\n..dot\n.\n", true).unwrap(), b"S: x\r\n\r\nhi\r\n.dot\r\n");
        assert_eq!(awaits(b".\n", true).unwrap(), b"");
        assert_eq!(awaits(b"hi\n.\n", false), None, "another client");
        assert_eq!(awaits(b"hi\r\nho\n.\n", true), None, "a CRLF was seen");
        assert_eq!(awaits(b"hi\n.\nmore", true), None, "bytes followed");
        assert_eq!(awaits(b"hi\n.\nmore\n.\n", true).unwrap(), b"hi\r\n.\r\nmore\r\n");
    }

    #[test]
    fn what_was_seen_is_told() {
        let (_, _, seen) = decoded(&[b"abc\nd\re\r\n\xe4\r\n.\r\n\xff"], false);
        assert_eq!(seen.raw_bytes, 15);
        assert!(seen.eight_bit);
        assert_eq!((seen.bare_lf, seen.bare_cr, seen.crlf, seen.longest_line_bytes), (1, 1, 2, 3));
        assert!(!decoded(&[b"a\r\n.\r\n\xff"], false).2.eight_bit, "that byte is behind the end of data");
        let (_, _, seen) = decoded(&[b"a\n.\n"], false);
        assert!(seen.all_lf() && seen.lf_dot_lf);
    }

    #[test]
    fn an_endless_line_and_an_endless_run_of_cr_need_no_memory() {
        let mut d = Decoder::new(false);
        let mut out = Vec::new();
        for byte in [b'x', b'\r', b'.', b'\n'] {
            for _ in 0..64 {
                out.clear();
                d.push(&[byte; 32 * 1024], &mut out);
                assert!(out.len() <= 2 * 32 * 1024 + 4);
            }
        }
        assert!(d.seen().longest_line_bytes >= 2 << 20);
    }

    /// Bytes that matter more often than chance would have them.
    fn raw() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n".to_vec()),
            Just(b".".to_vec()),
            Just(b"\0".to_vec()),
            Just(b"\r\n.\r\n".to_vec()),
            Just(b"abc".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|p| p.concat())
    }

    proptest! {
        #[test]
        fn any_split_decodes_the_same(raw in raw(), cuts in proptest::collection::vec(0usize..160, 0..6), lf in any::<bool>()) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(raw.len())).chain([0, raw.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &raw[w[0]..w[1]]).collect();
            let bytes: Vec<&[u8]> = raw.chunks(1).collect();
            let whole = decoded(&[&raw], lf);
            prop_assert_eq!(&whole, &decoded(&pieces, lf));
            prop_assert_eq!(&whole, &decoded(&bytes, lf));
        }

        #[test]
        fn no_bare_cr_or_lf_comes_out_and_the_end_is_where_the_raw_bytes_have_it(raw in raw(), lf in any::<bool>()) {
            let (out, rest, seen) = decoded(&[&raw], lf);
            for (i, b) in out.iter().enumerate() {
                match b {
                    b'\r' => prop_assert_eq!(out.get(i + 1).copied().unwrap_or(b'\n'), b'\n'),
                    b'\n' => prop_assert_eq!(i.checked_sub(1).map(|j| out[j]), Some(b'\r')),
                    b => prop_assert!(!is_removed(*b)),
                }
            }
            let behind_data = [b"\r\n".as_slice(), &raw].concat();
            let end = memchr::memmem::find(&behind_data, b"\r\n.\r\n").map(|i| i + 3);
            prop_assert_eq!(rest.map(|r| raw.len() - r.len()), end);
            prop_assert_eq!(seen.raw_bytes, end.unwrap_or(raw.len()) as u64);
        }
    }
}
