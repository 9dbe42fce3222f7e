//! The value of a field as words: plain where possible, quoted or RFC 2047 encoded-words where not, folded between
//! them.
//!
//! Invariant: a field that `Words` writes has no line over 998 bytes and none that is only white space.
//! Must not know: which field wants what; that is `letter::field`.

mod encoded;

pub(crate) use encoded::encoded_word_len;
pub use encoded::read_text;
use encoded::{encoded_words, is_encoded_word, read_word, without_broken_words};

/// RFC 2047 section 2: a line with an encoded-word is at most 76 characters.
const LINE: usize = 76;
/// RFC 5322 section 2.1.1, without CRLF.
pub const MAX_LINE_BYTES: usize = 998;
/// The longest word that a line has room for, behind a blank.
pub(super) const MAX_WORD_BYTES: usize = MAX_LINE_BYTES - 1;

/// Words, between which a line may end. One that begins with a blank brings its own; before all others stands a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// Words as they stand.
    pub fn plain(text: &str) -> Self {
        Self(pieces(text).map(|(blank, word)| own(blank) + word).collect())
    }

    /// One word, whatever it is.
    pub fn one(word: String) -> Self {
        Self(vec![word])
    }

    /// Unstructured text (RFC 5322 section 2.2.1): what is not ASCII becomes encoded-words, with the spaces between
    /// them.
    pub fn text(text: &str) -> Self {
        encoded(text, false)
    }

    /// A display name: atoms where possible, else a quoted string, else encoded-words.
    pub fn phrase(display: &str, quoted: bool) -> Self {
        let display = display.trim();
        let words = || display.split_ascii_whitespace();
        let all_fit = words().all(|w| is_encoded_word(w) || w.bytes().all(is_atext) && !w.contains("=?"));
        let has_encoded = !quoted && words().any(is_encoded_word);
        let too_long = words().any(|w| w.len() > MAX_WORD_BYTES / 2);
        if !display.is_ascii() || !quoted && all_fit || has_encoded || too_long {
            return encoded(display, true);
        }
        let mut text = String::from("\"");
        for c in display.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        if display.is_empty() { Self::default() } else { Self::plain(&text) }
    }

    /// One more word.
    pub fn push(&mut self, word: String) {
        self.0.push(word);
    }

    /// More words.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The same with something behind the last word.
    #[must_use]
    pub fn ended(mut self, end: &str) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.push_str(end);
        }
        self
    }

    /// The same between two brackets.
    #[must_use]
    pub(super) fn within(mut self, open: &str, close: &str) -> Self {
        if let Some(first) = self.0.first_mut() {
            let word = first.trim_ascii_start();
            *first = format!("{open}{word}");
        }
        self.ended(close)
    }

    /// Elements with something behind each but the last.
    pub fn joined(elements: Vec<Self>, between: &str) -> Self {
        let last = elements.len().saturating_sub(1);
        let ended = |(i, words): (usize, Self)| if i < last { words.ended(between) } else { words };
        Self(elements.into_iter().enumerate().flat_map(|e| ended(e).0).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them are ASCII.
    pub fn is_ascii(&self) -> bool {
        self.0.iter().all(|w| w.is_ascii())
    }

    /// Whether all of them find room on a line.
    pub fn fit(&self) -> bool {
        self.0.iter().all(|w| w.len() <= MAX_WORD_BYTES)
    }

    /// Each that finds no room on a line, in pieces.
    #[must_use]
    pub(super) fn cut(self, pieces: impl Fn(&str) -> Self) -> Self {
        Self(
            self.0
                .into_iter()
                .flat_map(|w| if w.len() > MAX_WORD_BYTES { pieces(&w).0 } else { vec![w] })
                .collect(),
        )
    }

    /// The field of this name, folded at 76 characters between words, with its CRLF. A word too long for any line is
    /// cut (at a character boundary): it will hardly be read, but the message passes.
    pub fn field(&self, name: &str) -> Vec<u8> {
        let mut out = format!("{name}:");
        let mut column = out.len();
        for word in self.0.iter().filter(|w| !w.trim_ascii().is_empty()) {
            // Folding takes nothing away: the blanks behind the line end are those of the word.
            let blank = if word.starts_with(' ') { "" } else { " " };
            let word = format!("{blank}{word}");
            if column + word.len() > LINE && column > 1 {
                out.push_str("\r\n");
                column = 0;
            }
            let mut rest = word.as_str();
            while column + rest.len() > MAX_LINE_BYTES {
                let cut = rest.floor_char_boundary(MAX_LINE_BYTES - column);
                out.push_str(&rest[..cut]);
                out.push_str("\r\n ");
                (column, rest) = (1, &rest[cut..]);
            }
            out.push_str(rest);
            column += rest.len();
        }
        out.push_str("\r\n");
        out.into_bytes()
    }
}

/// The words of a text, each with the blanks before it.
fn pieces(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text.trim_ascii_end();
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| !c.is_ascii_whitespace())?;
        let end = rest[start..].find(|c: char| c.is_ascii_whitespace()).map_or(rest.len(), |i| start + i);
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece.split_at(start))
    })
}

/// Blanks that a word has to bring itself: more than one.
fn own(blank: &str) -> String {
    if blank.len() > 1 { " ".repeat(blank.len().min(LINE)) } else { String::new() }
}

/// RFC 5322 section 3.2.3.
pub(super) fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

/// Plain words stay, all others become encoded-words with the spaces between them. In a phrase a plain word has only
/// `atext`.
fn encoded(text: &str, phrase: bool) -> Words {
    let text = without_broken_words(text);
    let mut out: Vec<String> = Vec::new();
    let (mut before, mut run) = (String::new(), String::new());
    let flush = |before: &mut String, run: &mut String, out: &mut Vec<String>| {
        let words = encoded_words(&std::mem::take(run)).into_iter().enumerate();
        let before = std::mem::take(before);
        out.extend(words.map(|(i, w)| if i == 0 { format!("{before}{w}") } else { w }));
    };
    for (blank, word) in pieces(&text) {
        match Shape::of(word, phrase) {
            Shape::Raw(word) => {
                let is_inside =
                    !run.is_empty() || out.last().is_some_and(|w| is_encoded_word(w.trim_ascii_start()));
                if is_inside {
                    // Space between two encoded-words is dropped by every reader, so it goes inside.
                    run.push_str(blank);
                } else {
                    before = own(blank);
                }
                run.push_str(&word);
            }
            shape => {
                if !run.is_empty() {
                    if matches!(shape, Shape::Encoded) {
                        run.push_str(blank);
                    }
                    flush(&mut before, &mut run, &mut out);
                }
                out.push(own(blank) + word);
            }
        }
    }
    if !run.is_empty() {
        flush(&mut before, &mut run, &mut out);
    }
    Words(out)
}

/// What becomes of a word.
enum Shape {
    Plain,
    Encoded,
    /// To be encoded; what was encoded in it already is read first.
    Raw(String),
}

impl Shape {
    fn of(word: &str, phrase: bool) -> Self {
        let fits = word.len() <= MAX_WORD_BYTES;
        if fits && is_encoded_word(word) {
            return Self::Encoded;
        }
        let read = if word.contains("=?") { read_word(word) } else { None };
        let is_fit = word.is_ascii() && (!phrase || word.bytes().all(is_atext));
        match read {
            // `Re:=?utf-8?Q?...?=`: some readers know what is meant.
            Some(read) => Self::Raw(read),
            None if !is_fit || !fits || word.contains("=?") => Self::Raw(word.to_owned()),
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests;
