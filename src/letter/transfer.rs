//! Content-transfer-encodings (RFC 2045 section 6), streamed.
//!
//! Invariant: what comes out has CRLF line ends, no line over 998 bytes (76 but for `Copy` and `Cut`), and does
//! not depend on how the input was split. Must not know: parts, boundaries, dot-stuffing.

use crate::letter::words::MAX_LINE_BYTES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// RFC 2045 section 6.7 (5) and 6.8.
const LINE: usize = 76;
/// So many bytes make a base64 line of 76 characters.
const BASE64_LINE_BYTES: usize = 57;

/// What is done to the lines of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Nothing: every line is short enough.
    Copy,
    /// Lines are cut at 998 bytes; where 8-bit may not leave, `?` stands for it. For what nobody reads
    /// (preambles) and what cannot be understood.
    Cut {
        /// Whether 8-bit may leave.
        to_8bit: bool,
    },
    /// Base64 of any line length, wrapped anew.
    Rewrap,
    /// Quoted-printable with lines too long or raw 8-bit in it.
    SoftBreak,
    /// Text into quoted-printable.
    QuotedPrintable,
    /// Anything into base64.
    Base64,
}

/// Encodes the content of one part.
#[derive(Debug)]
pub(crate) struct Coder {
    coding: Coding,
    column: usize,
    carry: Vec<u8>,
    break_due: bool,
}

impl Coder {
    pub(crate) fn new(coding: Coding) -> Self {
        Self { coding, column: 0, carry: Vec::new(), break_due: false }
    }

    /// Takes a line or a piece of one, without its CRLF.
    pub(crate) fn push(&mut self, text: &[u8], ends_line: bool, out: &mut Vec<u8>) {
        match self.coding {
            Coding::Copy => {
                out.extend_from_slice(text);
                if ends_line {
                    out.extend_from_slice(b"\r\n");
                }
            }
            Coding::Cut { to_8bit } => self.cut(text, ends_line, to_8bit, out),
            Coding::Rewrap => {
                for b in text.iter().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
                {
                    out.push(*b);
                    self.column += 1;
                    if self.column == LINE {
                        self.end_line(out);
                    }
                }
            }
            Coding::SoftBreak => self.soft_break(text, ends_line, out),
            Coding::QuotedPrintable => self.quoted_printable(text, ends_line, out),
            Coding::Base64 => {
                if std::mem::replace(&mut self.break_due, ends_line) {
                    self.carry.extend_from_slice(b"\r\n");
                }
                self.carry.extend_from_slice(text);
                let whole = self.carry.len() / BASE64_LINE_BYTES * BASE64_LINE_BYTES;
                self.base64(whole, out);
            }
        }
    }

    /// The part has ended. The line end before a boundary belongs to the boundary (RFC 2046 section 5.1.1).
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        match self.coding {
            Coding::Rewrap if self.column > 0 => self.end_line(out),
            Coding::Base64 => self.base64(self.carry.len(), out),
            _ => {}
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    fn cut(&mut self, mut text: &[u8], ends_line: bool, to_8bit: bool, out: &mut Vec<u8>) {
        while !text.is_empty() {
            if self.column == MAX_LINE_BYTES {
                self.end_line(out);
            }
            let mut room = text.len().min(MAX_LINE_BYTES - self.column);
            if room < text.len() {
                // Not inside a character, if this is UTF-8.
                let inside = text[..room + 1].iter().rev().take_while(|b| **b & 0xc0 == 0x80).count();
                room -= if inside < 4 && inside < room { inside } else { 0 };
            }
            let (now, later) = text.split_at(room);
            if to_8bit {
                out.extend_from_slice(now);
            } else {
                out.extend(now.iter().map(|b| if b.is_ascii() { *b } else { b'?' }));
            }
            self.column += now.len();
            text = later;
            if !text.is_empty() {
                self.end_line(out);
            }
        }
        if ends_line {
            self.end_line(out);
        }
    }

    fn base64(&mut self, bytes: usize, out: &mut Vec<u8>) {
        for line in self.carry[..bytes].chunks(BASE64_LINE_BYTES) {
            out.extend_from_slice(STANDARD.encode(line).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        self.carry.drain(..bytes);
    }

    fn token(&mut self, token: &[u8], out: &mut Vec<u8>) {
        if self.column + token.len() >= LINE {
            out.push(b'=');
            self.end_line(out);
        }
        out.extend_from_slice(token);
        self.column += token.len();
    }

    fn coded(&mut self, byte: u8, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        self.token(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]], out);
    }

    fn quoted_printable(&mut self, text: &[u8], ends_line: bool, out: &mut Vec<u8>) {
        for &byte in text {
            // White space is coded only at the end of a line, so it waits for what follows.
            if let Some(blank) = self.carry.pop() {
                self.token(&[blank], out);
            }
            match byte {
                b' ' | b'\t' => self.carry.push(byte),
                33..=126 if byte != b'=' => self.token(&[byte], out),
                _ => self.coded(byte, out),
            }
        }
        if ends_line {
            if let Some(blank) = self.carry.pop() {
                self.coded(blank, out);
            }
            self.end_line(out);
        }
    }

    /// A break never comes inside `=XX`; a line's own soft break stays at its end.
    fn soft_break(&mut self, text: &[u8], ends_line: bool, out: &mut Vec<u8>) {
        let mut line = std::mem::take(&mut self.carry);
        line.extend_from_slice(text);
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            if rest[0] == b'=' && rest.len() < 3 && !ends_line {
                break;
            }
            if rest == b"=" {
                out.push(b'=');
                at += 1;
            } else if rest[0] == b'=' && rest.len() >= 3 && rest[1..3].iter().all(u8::is_ascii_hexdigit) {
                self.token(&rest[..3], out);
                at += 3;
            } else if rest[0].is_ascii() {
                self.token(&rest[..1], out);
                at += 1;
            } else {
                self.coded(rest[0], out);
                at += 1;
            }
        }
        self.carry = line.split_off(at);
        if ends_line {
            self.end_line(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(coding: Coding, lines: &[&[u8]], split: usize) -> String {
        let mut out = Vec::new();
        let mut coder = Coder::new(coding);
        for line in lines {
            let mut rest = *line;
            while rest.len() > split {
                coder.push(&rest[..split], false, &mut out);
                rest = &rest[split..];
            }
            coder.push(rest, true, &mut out);
        }
        coder.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_coding_does_what_it_says_however_the_input_is_split() {
        let long = "x".repeat(1000);
        let cases: [(Coding, &[&[u8]], String); 6] = [
            (Coding::Copy, &[b"a", b"", b"b"], "a\r\n\r\nb\r\n".into()),
            (
                Coding::Cut { to_8bit: false },
                &[long.as_bytes(), b"\xfc"],
                format!("{}\r\nxx\r\n?\r\n", "x".repeat(998)),
            ),
            (Coding::Rewrap, &[b"QUJD ", b"", b"RA=="], "QUJDRA==\r\n".into()),
            (Coding::QuotedPrintable, &[b"a=\xfc b ", b"\t", b"."], "a=3D=FC b=20\r\n=09\r\n.\r\n".into()),
            (Coding::SoftBreak, &[b"a=3D\xfc=", b"b"], "a=3D=FC=\r\nb\r\n".into()),
            (Coding::Base64, &[b"a", b"b"], "YQ0KYg==\r\n".into()),
        ];
        for (coding, lines, expected) in cases {
            for split in [1, 2, 3, 7, 4096] {
                assert_eq!(coded(coding, lines, split), expected, "{coding:?} {split}");
            }
        }
    }

    #[test]
    fn encoded_lines_are_76_characters_at_most() {
        let long: Vec<u8> = (0..=255).cycle().take(5000).filter(|b| !b"\0\r\n".contains(b)).collect();
        for coding in [Coding::QuotedPrintable, Coding::Base64, Coding::SoftBreak, Coding::Rewrap] {
            let out = coded(coding, &[&long], 1000);
            assert!(out.split("\r\n").all(|l| l.len() <= 76), "{coding:?} {out}");
            assert!(out.is_ascii());
        }
    }
}
