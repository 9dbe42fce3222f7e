//! The pieces that an address list is made of (RFC 5322 section 3.2), as devices write them.
//!
//! Invariant: the pieces lie one behind the other, and reading all of them takes time in proportion to the text.
//! A quote, bracket or comment that is never closed is a character like any other. Must not know: what they mean.

use crate::letter::words::encoded_word_len;

/// RFC 5321 section 4.5.3.1.3; and so many beginnings of a route without its end take no time.
const MAX_ROUTE_BYTES: usize = 256;

/// A piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// White space.
    Blank,
    /// Atoms, quoted strings, domain literals and encoded-words that touch one another.
    Word(&'t str),
    /// What stands between `<` and `>`.
    Angle(&'t str),
    /// What stands between `(` and `)`.
    Comment(&'t str),
    /// `,` or `;`.
    Separator(char),
    /// `:` behind what may be the name of a group.
    Colon,
    /// A bracket without its other one.
    Stray,
}

/// Takes a text apart.
pub(super) struct Tokens<'t> {
    text: &'t str,
    /// Where the next piece begins.
    pub(super) at: usize,
    /// Of these there is none that is closed any more.
    no_quotes: bool,
    no_comments: bool,
}

/// What stands before an address in place of `mailto:`.
const SCHEMES: [&str; 4] = ["mailto", "smtp", "email", "e-mail"];

/// Whether this is one of the words that devices put before an address.
pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|s| word.eq_ignore_ascii_case(s))
}

impl<'t> Tokens<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, no_quotes: false, no_comments: false }
    }

    /// The next piece and where it begins.
    pub(super) fn next(&mut self) -> Option<(usize, Token<'t>)> {
        let start = self.at;
        let rest = &self.text[start..];
        let (token, length) = match rest.chars().next()? {
            c if is_blank(c) => (Token::Blank, rest.find(|c| !is_blank(c)).unwrap_or(rest.len())),
            c @ (',' | ';') => (Token::Separator(c), 1),
            '>' => (Token::Stray, 1),
            '<' => match self.angle(rest) {
                Some(end) => (Token::Angle(&rest[1..end]), end + 1),
                None => (Token::Stray, 1),
            },
            ':' => (Token::Colon, 1),
            c => match (c == '(').then(|| self.comment(rest)).flatten() {
                Some(end) => (Token::Comment(&rest[1..end - 1]), end),
                None => {
                    let end = self.word(rest);
                    (Token::Word(&rest[..end]), end)
                }
            },
        };
        self.at += length;
        Some((start, token))
    }

    /// The length of the word at the start of a text that does not begin with anything else.
    fn word(&mut self, text: &str) -> usize {
        let mut end = route_len(text).unwrap_or(0);
        while let Some(c) = text[end..].chars().next() {
            let rest = &text[end..];
            end += match c {
                '"' => {
                    let length = self.quoted(rest);
                    let behind = length.and_then(|n| rest[n..].chars().next());
                    // `"Scanner"a@b`: a name, and no blank before the address.
                    if end == 0 && behind.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                        return length.unwrap_or(1);
                    }
                    length.unwrap_or(1)
                }
                '(' if self.comment(rest).is_some() => break,
                '[' => literal_len(rest).unwrap_or(1),
                ':' if !may_hold_colon(&text[..end]) => break,
                ',' | ';' | '<' | '>' => break,
                c if is_blank(c) => break,
                c => encoded_word_len(rest).unwrap_or(c.len_utf8()),
            };
        }
        end
    }

    /// The length of the quoted string at the start of the text.
    pub(super) fn quoted(&mut self, text: &str) -> Option<usize> {
        let end = if self.no_quotes { None } else { quoted_len(text) };
        self.no_quotes |= end.is_none();
        end
    }

    fn comment(&mut self, text: &str) -> Option<usize> {
        let end = if self.no_comments { None } else { comment_len(text) };
        self.no_comments |= end.is_none();
        end
    }

    /// Where the bracket at the start of the text is closed; the inner of two is the one that counts.
    fn angle(&mut self, text: &str) -> Option<usize> {
        let mut end = 1;
        while let Some(c) = text[end..].chars().next() {
            end += match c {
                '>' => return Some(end),
                '<' => return None,
                '"' => self.quoted(&text[end..]).unwrap_or(1),
                c => c.len_utf8(),
            };
        }
        None
    }
}

/// The ideographic space stands between a name and an address in Japan.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{3000}'
}

/// `mailto:`, `@x:` of a route, or something of an address already, which is no name of a group.
fn may_hold_colon(word: &str) -> bool {
    is_scheme(word) || word.contains('@')
}

/// `@x,@y:` at the start of a text (RFC 5321 appendix C).
pub(super) fn route_len(text: &str) -> Option<usize> {
    if !text.starts_with('@') {
        return None;
    }
    let mut end = 0;
    while let Some(c) = text[end..].chars().next().filter(|_| end < MAX_ROUTE_BYTES) {
        end += match c {
            ':' => return Some(end + 1),
            '[' => literal_len(&text[end..])?,
            '@' | ',' | '.' | '-' | '_' | ' ' => 1,
            c if c.is_alphanumeric() => c.len_utf8(),
            _ => return None,
        };
    }
    None
}

/// `[192.0.2.1]`, or `[SMTP:a@b]` as Exchange writes it.
fn literal_len(text: &str) -> Option<usize> {
    let end = 1 + text[1..].find(|c: char| matches!(c, ']' | '[' | '<' | '"') || is_blank(c))?;
    text[end..].starts_with(']').then_some(end + 1)
}

/// The length of the quoted string that the text begins with.
pub(super) fn quoted_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

fn comment_len(text: &str) -> Option<usize> {
    let (mut depth, mut escaped) = (0_u32, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A display name without its quotes and comments, and whether any of it was a quoted string.
pub(super) fn display(text: &str) -> (String, bool) {
    let mut tokens = Tokens::new(text);
    let (mut name, mut any_quoted, mut at) = (String::new(), false, 0);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            '"' => match tokens.quoted(rest) {
                Some(length) => {
                    any_quoted = true;
                    push_unescaped(&mut name, &rest[1..length - 1]);
                    length
                }
                None => 1,
            },
            '(' => match tokens.comment(rest) {
                Some(length) => length,
                None => {
                    name.push(c);
                    1
                }
            },
            '<' | '>' => 1,
            c => {
                let length = encoded_word_len(rest).unwrap_or(c.len_utf8());
                name.push_str(&rest[..length]);
                length
            }
        };
    }
    (name.trim().to_owned(), any_quoted)
}

fn push_unescaped(out: &mut String, text: &str) {
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
}
