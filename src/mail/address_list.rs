//! Address lists of header fields (From, To, Cc, Reply-To), as devices write them.
//!
//! Invariant: every address given back by `mailbox` is one; texts come from `encoded_word::decode`, so they hold
//! no line end. Must not know: which address may be used.

use super::Mailbox;
use super::encoded_word::{encoded_word_len, phrase};

/// One element of an address list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The name of the group that begins here (`Team: a@b, c@d;`).
    pub group: Option<String>,
    /// The display name without quotes; empty when there is none.
    pub display: String,
    /// Whether any of the display name was a quoted string.
    pub quoted: bool,
    /// What stands where the address should be.
    pub address: String,
    /// The group ends behind this entry.
    pub ends_group: bool,
}

impl Entry {
    /// The address, if it is one; a source route, `mailto:` and single quotes around it are forgiven.
    pub fn mailbox(&self) -> Option<Mailbox> {
        let mut text = self.address.trim().trim_matches(['<', '>']);
        if text.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("mailto:")) {
            text = &text[7..];
        }
        if text.starts_with('@') {
            text = text.split_once(':').map_or(text, |(_, behind)| behind);
        }
        let bare = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text);
        bare.parse().ok()
    }

    /// The words of `display <address>` for `encoded_word::fold`.
    pub fn words(&self, mailbox: &Mailbox) -> Vec<String> {
        named(&self.display, self.quoted, mailbox)
    }

    fn is_empty(&self) -> bool {
        self.group.is_none() && !self.ends_group && self.display.is_empty() && self.address.is_empty()
    }
}

/// The words of `display <mailbox>`, in ASCII where it can be; a name that only repeats the address (`a@b <a@b>`) is left out.
pub fn named(display: &str, quoted: bool, mailbox: &Mailbox) -> Vec<String> {
    let display = display.trim();
    let repeats = display.parse::<Mailbox>().is_ok_and(|m| m.is_same(mailbox));
    let mut words = if repeats { vec![] } else { phrase(display, quoted) };
    let mailbox = mailbox.in_ascii();
    words.push(if words.is_empty() { mailbox.to_string() } else { format!("<{mailbox}>") });
    words
}

/// Reads a list. Elements are separated by commas or semicolons; what is wrong stays in `Entry::address` as text.
pub fn parse(text: &str) -> Vec<Entry> {
    let mut list = Vec::new();
    let mut reading = Reading::default();
    let mut in_group = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut take = c.len_utf8();
        match c {
            '"' => {
                take = quoted_len(rest);
                reading.quoted(&rest[..take]);
            }
            '(' if reading.angle.is_none() => {
                take = comment_len(rest);
                reading.comment = rest[1..take].trim_end_matches(')').to_owned();
            }
            '<' => reading.angle = Some(String::new()),
            '>' => reading.closed |= reading.angle.is_some(),
            ',' | ';' if reading.is_outside() => {
                let mut entry = std::mem::take(&mut reading).finish();
                entry.ends_group = c == ';' && in_group;
                in_group &= c != ';';
                if !entry.is_empty() {
                    list.push(entry);
                }
            }
            ':' if reading.is_outside() && reading.may_be_group() => {
                reading.group = Some(std::mem::take(&mut reading.display).trim().to_owned());
                reading.raw.clear();
                in_group = true;
            }
            _ => {
                take = encoded_word_len(rest).unwrap_or(take);
                reading.plain(&rest[..take]);
            }
        }
        rest = &rest[take..];
    }
    let mut entry = reading.finish();
    entry.ends_group = in_group;
    if !entry.is_empty() {
        list.push(entry);
    }
    list
}

#[derive(Default)]
struct Reading {
    group: Option<String>,
    raw: String,
    display: String,
    comment: String,
    any_quoted: bool,
    angle: Option<String>,
    closed: bool,
}

impl Reading {
    fn is_outside(&self) -> bool {
        self.angle.is_none() || self.closed
    }

    fn may_be_group(&self) -> bool {
        let name = self.display.trim();
        self.group.is_none()
            && self.angle.is_none()
            && !name.is_empty()
            && !name.contains('@')
            && !name.eq_ignore_ascii_case("mailto")
    }

    fn plain(&mut self, text: &str) {
        match &mut self.angle {
            Some(angle) if !self.closed => angle.push_str(text),
            Some(_) => {}
            None => {
                self.raw.push_str(text);
                self.display.push_str(text);
            }
        }
    }

    fn quoted(&mut self, text: &str) {
        match &mut self.angle {
            Some(angle) if !self.closed => angle.push_str(text),
            Some(_) => {}
            None => {
                self.raw.push_str(text);
                self.any_quoted = true;
                let mut escaped = false;
                for c in text.strip_prefix('"').unwrap_or(text).chars() {
                    match c {
                        '\\' if !escaped => escaped = true,
                        '"' if !escaped => {}
                        c => {
                            self.display.push(c);
                            escaped = false;
                        }
                    }
                }
            }
        }
    }

    fn finish(self) -> Entry {
        let Self { group, raw, mut display, comment, any_quoted, angle, .. } = self;
        let mut quoted = any_quoted;
        let mut address = angle.unwrap_or_default().trim().to_owned();
        if address.is_empty() {
            // No angle brackets: the last word with an `@` is the address, what stands before it a name.
            let raw = raw.trim();
            let start = if raw.starts_with('"') && raw.parse::<Mailbox>().is_ok() {
                0
            } else {
                raw.rfind('@').map_or(0, |at| raw[..at].rfind(char::is_whitespace).map_or(0, |i| i + 1))
            };
            let start = if raw.is_char_boundary(start) { start } else { 0 };
            address = raw[start..].to_owned();
            display = raw[..start].trim().trim_matches('"').to_owned();
            quoted &= start > 0;
            if display.is_empty() {
                display = comment.trim().to_owned();
                quoted = !display.is_empty();
            }
        }
        Entry { group, display: display.trim().to_owned(), quoted, address, ends_group: false }
    }
}

/// The length of the quoted string that `text` begins with; all of it when it never ends.
fn quoted_len(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

fn comment_len(text: &str) -> usize {
    let (mut depth, mut escaped) = (0_u32, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        parse(text)
            .iter()
            .map(|e| format!("{}|{}", e.display, e.mailbox().map_or_else(|| "-".into(), |m| m.to_string())))
            .collect()
    }

    #[test]
    fn what_devices_write_is_understood() {
        for (text, entries) in [
            ("a@b.example", vec!["|a@b.example"]),
            ("<a@b.example>", vec!["|a@b.example"]),
            ("a@b.example <a@b.example>", vec!["a@b.example|a@b.example"]),
            ("\"Scanner, 3rd floor\" <a@b.example>", vec!["Scanner, 3rd floor|a@b.example"]),
            ("Scanner a@b.example", vec!["Scanner|a@b.example"]),
            ("a@b.example (Scanner)", vec!["Scanner|a@b.example"]),
            ("\"front desk\"@b.example", vec!["|\"front desk\"@b.example"]),
            ("<X <a@b.example>>", vec!["|a@b.example"]),
            ("a@b.example; c@d.example,", vec!["|a@b.example", "|c@d.example"]),
            ("=?utf-8?Q?M,_A?= <a@b.example>", vec!["=?utf-8?Q?M,_A?=|a@b.example"]),
            ("'a@b.example'", vec!["|a@b.example"]),
            ("mailto:a@b.example", vec!["|a@b.example"]),
            (
                "Team: a@b.example, c@d.example; e@f.example",
                vec!["|a@b.example", "|c@d.example", "|e@f.example"],
            ),
            ("a@b.example <>", vec!["|a@b.example"]),
            ("say \"hi\" <a@b.example>", vec!["say hi|a@b.example"]),
            ("scanner", vec!["|-"]),
            ("\"never closed <a@b.example>", vec!["never closed|a@b.example"]),
            ("(((", vec!["((|-"]),
            ("", vec![]),
            (" , ;", vec![]),
        ] {
            assert_eq!(read(text), entries, "{text}");
        }
    }

    #[test]
    fn groups_keep_their_name_and_end() {
        let list = parse("undisclosed-recipients:;");
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].group.as_deref(), Some("undisclosed-recipients"));
        assert!(list[0].ends_group);
    }

    #[test]
    fn a_name_that_repeats_the_address_is_left_out() {
        let m: Mailbox = "a@b.example".parse().unwrap();
        assert_eq!(named("A@B.example", false, &m), ["a@b.example"]);
        assert_eq!(named("c@d.example", false, &m), ["\"c@d.example\"", "<a@b.example>"]);
    }
}
