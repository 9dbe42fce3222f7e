//! The value of a field as words: plain where possible, quoted or RFC 2047 encoded-words where not, folded between
//! them.
//!
//! Invariant: a field that `Words` writes has no line over 998 bytes and none that is only white space.
//! Must not know: which field wants what; that is `letter::field`.

mod encoded;

pub(crate) use encoded::encoded_word_len;
use encoded::{encoded_words, is_encoded_word};

/// RFC 2047 section 2: a line with an encoded-word is at most 76 characters.
const LINE: usize = 76;
/// RFC 5322 section 2.1.1, without CRLF.
pub const MAX_LINE_BYTES: usize = 998;

/// Words, between which a line may end. One that begins with a blank brings its own; before all others stands a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// Words as they stand.
    pub fn plain(text: &str) -> Self {
        Self(text.split_ascii_whitespace().map(str::to_owned).collect())
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
        let words = || display.split_ascii_whitespace();
        let all_fit = words().all(|w| is_encoded_word(w) || w.bytes().all(is_atext) && !w.contains("=?"));
        let has_encoded = !quoted && words().any(is_encoded_word);
        if !display.is_ascii() || !quoted && all_fit || has_encoded {
            return encoded(display, true);
        }
        let mut text = String::from("\"");
        for c in display.trim().chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        if display.trim().is_empty() { Self::default() } else { Self::plain(&text) }
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

    /// The field of this name, folded at 76 characters between words, with its CRLF. A word too long for any line is
    /// cut (at a character boundary): it will hardly be read, but the message passes.
    pub fn field(&self, name: &str) -> Vec<u8> {
        let mut out = format!("{name}:");
        let mut column = out.len();
        for word in self.0.iter().filter(|w| !w.is_empty()) {
            let mut rest = word.as_str();
            let mut first = true;
            while !rest.is_empty() {
                if !first || column + 1 + rest.len() > LINE && column > 1 {
                    out.push_str("\r\n");
                    column = 0;
                }
                let cut = rest.floor_char_boundary(rest.len().min(MAX_LINE_BYTES - 1 - column));
                out.push(' ');
                out.push_str(&rest[..cut]);
                column += 1 + cut;
                rest = &rest[cut..];
                first = false;
            }
        }
        out.push_str("\r\n");
        out.into_bytes()
    }
}

/// RFC 5322 section 3.2.3.
fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

/// Plain words stay, all others become encoded-words with the spaces between them. In a phrase a plain word has only
/// `atext`.
fn encoded(text: &str, phrase: bool) -> Words {
    let mut out: Vec<String> = Vec::new();
    let mut run = String::new();
    for word in text.split_ascii_whitespace() {
        let encoded = is_encoded_word(word);
        let plain =
            encoded || word.is_ascii() && !word.contains("=?") && (!phrase || word.bytes().all(is_atext));
        if plain {
            if !run.is_empty() {
                // Space between two encoded-words is dropped by every reader, so it goes inside.
                if encoded {
                    run.push(' ');
                }
                out.extend(encoded_words(&std::mem::take(&mut run)));
            }
            out.push(word.to_owned());
        } else {
            if !run.is_empty() || out.last().is_some_and(|w| is_encoded_word(w)) {
                run.push(' ');
            }
            run.push_str(word);
        }
    }
    if !run.is_empty() {
        out.extend(encoded_words(&run));
    }
    Words(out)
}

#[cfg(test)]
mod tests;
