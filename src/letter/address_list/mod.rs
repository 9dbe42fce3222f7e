//! Address lists, as devices write them: of header fields (From, To, Cc, Reply-To) and of MAIL and RCPT.
//!
//! Invariant: every address given back by `mailbox` is one; what stands in a parameter of a command is never an
//! address. Texts of fields come from `words::decode`, so they hold no line end.
//! Must not know: which address may be used.

mod proper;
mod token;
pub(crate) mod words;
mod written;

pub(crate) use proper::is_proper;
pub use written::mailbox;

use crate::letter::words::Words;
use crate::mail::Mailbox;
use token::{Token, Tokens};

/// One element of an address list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The name of the group that begins here (`Team: a@b, c@d;`).
    pub group: Option<String>,
    /// The display name without quotes; empty when there is none.
    pub display: String,
    /// Whether the display name needs quotes: some of it was a quoted string, or it has a comma.
    pub quoted: bool,
    /// What stands where the address should be.
    pub address: String,
    /// The group ends behind this entry.
    pub ends_group: bool,
}

impl Entry {
    /// The address, if it is one; see `mailbox` for what is forgiven.
    pub fn mailbox(&self) -> Option<Mailbox> {
        mailbox(&self.address).ok()
    }

    /// The words of `display <address>`.
    pub fn words(&self, mailbox: &Mailbox) -> Words {
        named(&self.display, self.quoted, mailbox)
    }
}

/// The words of `display <mailbox>`, in ASCII where it can be; a name that only repeats the address (`a@b <a@b>`) is
/// left out.
pub fn named(display: &str, quoted: bool, mailbox: &Mailbox) -> Words {
    let display = display.trim();
    let repeats = self::mailbox(display).is_ok_and(|m| m.is_same(mailbox));
    let mut words = if repeats { Words::default() } else { Words::phrase(display, quoted) };
    let mailbox = mailbox.in_ascii();
    words.push(if words.is_empty() { mailbox.to_string() } else { format!("<{mailbox}>") });
    words
}

/// Reads the value of a field. Elements are separated by commas or semicolons; what is wrong stays in
/// `Entry::address` as text.
pub fn parse(text: &str) -> Vec<Entry> {
    Reading::of(text, false).list
}

/// Reads what follows `FROM:` or `TO:`, in the same way: the addresses, and where the parameters begin. Those are
/// `key=value` behind an address or a name, or any word behind an address; brackets in them are no address.
pub fn path(text: &str) -> (Vec<Entry>, usize) {
    let mut reading = Reading::of(text, true);
    reading.list.retain(|e| !e.address.is_empty());
    (reading.list, reading.end)
}

/// Parameters that may stand where there is no address at all: `MAIL FROM: SIZE=10`.
const PARAMETERS: [&str; 7] = ["SIZE", "BODY", "AUTH", "RET", "ENVID", "NOTIFY", "ORCPT"];

#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
    has_at: bool,
}

/// A list that is being read. `words` are those of the element that nothing was made of yet; an element before it
/// that had no address at all is among them: of `Doe, Jane <jane@x>` it is the beginning of the name.
struct Reading<'t> {
    text: &'t str,
    is_command: bool,
    list: Vec<Entry>,
    words: Vec<Word>,
    any_at: bool,
    /// `<>` was the path of a command.
    is_null: bool,
    /// The last piece touches the next word.
    glue: bool,
    group: Option<String>,
    in_group: bool,
    comment: &'t str,
    /// Elements of the list when this one began.
    before: usize,
    end: usize,
}

impl<'t> Reading<'t> {
    fn of(text: &'t str, is_command: bool) -> Self {
        let mut reading = Self {
            text,
            is_command,
            list: vec![],
            words: vec![],
            any_at: false,
            is_null: false,
            glue: false,
            group: None,
            in_group: false,
            comment: "",
            before: 0,
            end: text.len(),
        };
        let mut tokens = Tokens::new(text);
        while let Some((start, token)) = tokens.next() {
            match token {
                Token::Blank | Token::Stray => reading.glue = false,
                Token::Comment(said) => reading.comment = said,
                Token::Word(word) if reading.begins_parameters(word) => {
                    reading.end = start;
                    break;
                }
                Token::Word(word) => reading.word(start, word),
                Token::Angle(inside) => reading.angle(inside, start),
                Token::Separator(c) => {
                    reading.separator(c);
                    if reading.end < text.len() {
                        break;
                    }
                }
                Token::Colon => reading.colon(start),
            }
        }
        reading.last();
        reading
    }

    fn has_entry(&self) -> bool {
        self.list.len() > self.before
    }

    fn begins_parameters(&self, word: &str) -> bool {
        if !self.is_command || self.is_null {
            return self.is_null;
        }
        let key = word.split_once('=').map(|(key, _)| key);
        let key = key.filter(|k| !k.is_empty() && k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        if !self.has_entry() && self.words.is_empty() {
            return !word.contains('@')
                && key.is_some_and(|k| PARAMETERS.iter().any(|p| k.eq_ignore_ascii_case(p)));
        }
        key.is_some() || (self.has_entry() || self.any_at) && !word.contains('@')
    }

    /// `smtp: a@b`, and in a field `a @ b` (RFC 5322 section 3.4.1): the blank between them means nothing.
    fn goes_on(&self, word: &str) -> bool {
        let Some(last) = self.words.last().map(|w| &self.text[w.start..w.end]) else { return false };
        last.strip_suffix(':').is_some_and(token::is_scheme)
            || !self.is_command
                && (last.ends_with('@') || word.starts_with('@') && token::route_len(word).is_none())
    }

    /// `"Scanner"a@b`, where only the blank is missing.
    fn is_behind_name(&self, word: &str) -> bool {
        let last = self.words.last().map(|w| &self.text[w.start..w.end]);
        last.is_some_and(|w| w.starts_with('"') && w.len() > 1 && w.ends_with('"'))
            && word.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }

    fn word(&mut self, start: usize, word: &str) {
        let end = start + word.len();
        let has_at = outside_quotes(word);
        let joins = self.glue && !self.is_behind_name(word) || self.goes_on(word);
        self.any_at |= has_at;
        match self.words.last_mut().filter(|_| joins) {
            Some(last) => {
                last.end = end;
                last.has_at |= has_at;
            }
            None => self.words.push(Word { start, end, has_at }),
        }
        self.glue = true;
    }

    fn angle(&mut self, inside: &str, start: usize) {
        self.glue = false;
        let addresses = addresses(inside);
        if addresses.is_empty() {
            if self.is_command {
                self.forget_words();
                self.is_null = true;
            }
            return;
        }
        let (mut display, mut quoted) = self.name(start);
        self.forget_words();
        for address in addresses {
            self.push(Entry { display, quoted, address, ..Entry::default() });
            (display, quoted) = (String::new(), false);
        }
    }

    fn forget_words(&mut self) {
        self.words.clear();
        self.any_at = false;
    }

    fn separator(&mut self, c: char) {
        self.glue = false;
        if c == ',' && !self.has_entry() && !self.any_at && !self.words.is_empty() {
            return;
        }
        self.element();
        if c == ';' && std::mem::take(&mut self.in_group) {
            self.ends_group();
        }
        self.before = self.list.len();
    }

    fn ends_group(&mut self) {
        let group = self.group.take();
        match self.list.last_mut().filter(|_| group.is_none()) {
            Some(last) => last.ends_group = true,
            None => self.list.push(Entry { group, ends_group: true, ..Entry::default() }),
        }
    }

    fn colon(&mut self, start: usize) {
        if !self.in_group && !self.has_entry() && !self.words.is_empty() && !self.any_at {
            self.group = Some(self.name(start).0);
            self.in_group = true;
            self.forget_words();
            self.glue = false;
        } else {
            self.word(start, ":");
        }
    }

    fn last(&mut self) {
        self.element();
        if self.in_group {
            self.ends_group();
        }
    }

    /// The words so far as a display name.
    fn name(&self, end: usize) -> (String, bool) {
        let Some(first) = self.words.first() else { return (String::new(), false) };
        let (name, quoted) = token::display(&self.text[first.start..end]);
        // `Doe, <jane@x>`, from an address book where the first name is missing.
        let name = name.trim_end_matches([',', ' ']).to_owned();
        let quoted = quoted && !name.is_empty() || name.contains(',');
        (name, quoted)
    }

    fn push(&mut self, mut entry: Entry) {
        entry.group = self.group.take();
        self.list.push(entry);
    }

    /// The end of an element: what was not in brackets.
    fn element(&mut self) {
        let words = std::mem::take(&mut self.words);
        let written = |w: &Word| &self.text[w.start..w.end];
        let mut at: Vec<usize> = (0..words.len()).filter(|i| words[*i].has_at).collect();
        let last = at.last().copied();
        at.retain(|i| mailbox(written(&words[*i])).is_ok());
        if at.is_empty() && !self.has_entry() {
            at.extend(last);
        }
        let mut named = 0;
        for i in at {
            self.bare(&words[named..i], words[i]);
            named = i + 1;
        }
        self.words = words[named..].to_vec();
        self.leftover();
        self.forget_words();
        self.comment = "";
    }

    /// An address without brackets, and the words before it.
    fn bare(&mut self, before: &[Word], word: Word) {
        let mut start = word.start;
        if let Some(first) = before.first().filter(|_| self.is_command) {
            // `RCPT TO:john smith@x` is not for smith.
            start = first.start;
        } else if let Some(end) = before.last().map(|w| w.end) {
            self.words = before.to_vec();
            if self.text[end..start].contains(',') {
                // `scanner, a@b`: those are two.
                self.no_address();
            }
        }
        let (display, quoted) = self.name(start);
        self.words.clear();
        let address = self.text[start..word.end].to_owned();
        self.push(Entry { display, quoted, address, ..Entry::default() });
    }

    /// Words behind the last address are its name, if it has none; words without any address stand for one.
    fn leftover(&mut self) {
        if !self.has_entry() && !self.words.is_empty() {
            return self.no_address();
        }
        let end = self.words.last().map_or(0, |w| w.end);
        let (mut name, mut quoted) = self.name(end);
        if name.is_empty() {
            (name, quoted) = (self.comment.trim().to_owned(), true);
        }
        if name.is_empty() {
            return;
        }
        if !self.has_entry() {
            self.push(Entry { display: name, quoted, ..Entry::default() });
        } else if let Some(last) = self.list.last_mut().filter(|e| e.display.is_empty()) {
            (last.display, last.quoted) = (name, quoted);
        }
    }

    fn no_address(&mut self) {
        let [first, rest @ ..] = self.words.as_slice() else { return };
        let (start, mut end) = (first.start, rest.last().map_or(first.end, |w| w.end));
        if let Some(second) = rest.first().filter(|_| self.is_command) {
            // `MAIL FROM:scanner SMTPUTF8`: who has no address has one word.
            (end, self.end) = (first.end, self.end.min(second.start));
        }
        let address = self.text[start..end].to_owned();
        // `"Scanner 3" <>` is a name, whose quotes are none of it.
        let (display, quoted) = Some(self.name(end)).filter(|(_, quoted)| *quoted).unwrap_or_default();
        self.words.clear();
        self.push(Entry { display, quoted, address, ..Entry::default() });
    }
}

/// Whether a word has an `@` that is not in a quoted string, or is nothing but a quoted address.
fn outside_quotes(word: &str) -> bool {
    let is_quoted = word.starts_with('"') && token::quoted_len(word) == Some(word.len());
    if is_quoted {
        return mailbox(word).is_ok();
    }
    let mut tokens = Tokens::new(word);
    let mut at = 0;
    while let Some(c) = word[at..].chars().next() {
        at += match c {
            '@' => return true,
            '"' => tokens.quoted(&word[at..]).unwrap_or(1),
            c => c.len_utf8(),
        };
    }
    false
}

/// What stands in a pair of brackets: one address, or, from some devices, several; a route is no list.
fn addresses(inside: &str) -> Vec<String> {
    let inside = inside.trim();
    let route = token::route_len(inside).unwrap_or(0);
    let mut tokens = Tokens::new(inside);
    tokens.at = route;
    let mut from = 0;
    let mut found = vec![];
    while let Some((start, token)) = tokens.next() {
        if matches!(token, Token::Separator(_)) {
            found.push(inside[from..start].trim().to_owned());
            from = tokens.at;
        }
    }
    found.push(inside[from..].trim().to_owned());
    found.retain(|a| !a.is_empty());
    found
}

#[cfg(test)]
mod tests;
