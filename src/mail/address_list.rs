//! Address lists, as devices write them: of header fields (From, To, Cc, Reply-To) and of MAIL and RCPT.
//!
//! Invariant: every address given back by `mailbox` is one; what stands in a parameter of a command is never an
//! address. Texts of fields come from `encoded_word::decode`, so they hold no line end.
//! Must not know: which address may be used.

mod token;
mod written;

pub use written::mailbox;

use super::Mailbox;
use super::encoded_word::phrase;
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

    /// The words of `display <address>` for `encoded_word::fold`.
    pub fn words(&self, mailbox: &Mailbox) -> Vec<String> {
        named(&self.display, self.quoted, mailbox)
    }
}

/// The words of `display <mailbox>`, in ASCII where it can be; a name that only repeats the address (`a@b <a@b>`) is left out.
pub fn named(display: &str, quoted: bool, mailbox: &Mailbox) -> Vec<String> {
    let display = display.trim();
    let repeats = self::mailbox(display).is_ok_and(|m| m.is_same(mailbox));
    let mut words = if repeats { vec![] } else { phrase(display, quoted) };
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

    fn word(&mut self, start: usize, word: &str) {
        let end = start + word.len();
        let has_at = outside_quotes(word);
        let joins = self.glue || self.goes_on(word);
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
            ("<X <a@b.example>>", vec!["X|a@b.example"]),
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
            ("(((", vec!["|-"]),
            ("Doe, Jane <j@b.example>", vec!["Doe, Jane|j@b.example"]),
            ("Doe, Jane, Dr. <j@b.example>", vec!["Doe, Jane, Dr.|j@b.example"]),
            ("\"Doe\", Jane <j@b.example>", vec!["Doe, Jane|j@b.example"]),
            ("Doe , Jane<j@b.example>", vec!["Doe , Jane|j@b.example"]),
            ("Doe, Jane j@b.example", vec!["Doe, Jane|j@b.example"]),
            ("Doe, <j@b.example>", vec!["Doe|j@b.example"]),
            ("a@b.example, Doe, Jane <j@b.example>", vec!["|a@b.example", "Doe, Jane|j@b.example"]),
            (
                "Doe, Jane <j@b.example>, Roe, Rick <r@b.example>",
                vec!["Doe, Jane|j@b.example", "Roe, Rick|r@b.example"],
            ),
            ("Team: Doe, Jane <j@b.example>;", vec!["Doe, Jane|j@b.example"]),
            ("scanner, a@b.example", vec!["|-", "|a@b.example"]),
            ("Doe; Jane <j@b.example>", vec!["|-", "Jane|j@b.example"]),
            ("a@b.example c@d.example", vec!["|a@b.example", "|c@d.example"]),
            ("<a@b.example> <c@d.example>", vec!["|a@b.example", "|c@d.example"]),
            ("<a@b.example>, Anna <c@d.example>", vec!["|a@b.example", "Anna|c@d.example"]),
            ("<a@b.example;c@d.example>", vec!["|a@b.example", "|c@d.example"]),
            ("Anna <a@b.example> (boss)", vec!["Anna|a@b.example"]),
            ("<a@b.example> (boss)", vec!["boss|a@b.example"]),
            ("(boss) a@b.example", vec!["boss|a@b.example"]),
            ("a(x)@(y)b.example", vec!["y|a@b.example"]),
            ("a @ b.example", vec!["|a@b.example"]),
            ("Anna (the \"boss\" <x@y>) <a@b.example>", vec!["Anna|a@b.example"]),
            ("a@b.example Anna", vec!["Anna|a@b.example"]),
            ("(Scanner)", vec!["Scanner|-"]),
            ("[SMTP:a@b.example]", vec!["|a@b.example"]),
            ("Anna [SMTP:a@b.example]", vec!["Anna|a@b.example"]),
            ("smtp: a@b.example", vec!["|a@b.example"]),
            ("Anna <SMTP:a@b.example>", vec!["Anna|a@b.example"]),
            ("Anna <'a@b.example'>", vec!["Anna|a@b.example"]),
            ("\"a@b.example\"", vec!["|a@b.example"]),
            ("\"a@b.example\" <a@b.example>", vec!["a@b.example|a@b.example"]),
            ("\"anna@home\" a@b.example", vec!["|anna@home", "|a@b.example"]),
            ("Anna @home <a@b.example>", vec!["Anna @home|a@b.example"]),
            ("a@b.example., c@d.example.", vec!["|a@b.example", "|c@d.example"]),
            ("@x.example:a@b.example, <@x,@y:c@d.example>", vec!["|a@b.example", "|c@d.example"]),
            ("\"(not a comment)\" <a@b.example>", vec!["(not a comment)|a@b.example"]),
            ("Scanner (3rd floor <a@b.example>", vec!["Scanner (3rd floor|a@b.example"]),
            ("<a@b.example, c@d.example", vec!["|a@b.example", "|c@d.example"]),
            ("<\"a, b\"@c.example>, d@e.example", vec!["|\"a, b\"@c.example", "|d@e.example"]),
            ("ilo.@", vec!["|-"]),
            ("\u{5c71}\u{7530}\u{3000}a@b.example", vec!["\u{5c71}\u{7530}|a@b.example"]),
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
        assert_eq!(named("'a@b.example'", false, &m), ["a@b.example"], "as Outlook writes it");
        assert_eq!(named("c@d.example", false, &m), ["\"c@d.example\"", "<a@b.example>"]);
    }

    fn of_command(text: &str) -> (Vec<String>, &str) {
        let (list, end) = path(text);
        (list.into_iter().map(|e| e.address).collect(), text[end..].trim())
    }

    #[test]
    fn an_address_ends_where_the_parameters_begin() {
        for (text, addresses, parameters) in [
            ("<a@b>", vec!["a@b"], ""),
            ("<a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
            ("<a@b>SIZE=1", vec!["a@b"], "SIZE=1"),
            ("a@b SIZE=1", vec!["a@b"], "SIZE=1"),
            ("a@x ORCPT=rfc822;<b@y>", vec!["a@x"], "ORCPT=rfc822;<b@y>"),
            ("<a@x> ORCPT=rfc822;<b@y>", vec!["a@x"], "ORCPT=rfc822;<b@y>"),
            ("<a@x> ORCPT=rfc822;b@y", vec!["a@x"], "ORCPT=rfc822;b@y"),
            ("a@x ORCPT=rfc822;b@y,<c@z>", vec!["a@x"], "ORCPT=rfc822;b@y,<c@z>"),
            ("a@x NOTIFY=NEVER <b@y>", vec!["a@x"], "NOTIFY=NEVER <b@y>"),
            ("<a@x> X-FOO=<b@y>", vec!["a@x"], "X-FOO=<b@y>"),
            ("<a@x> foo <b@y>", vec!["a@x"], "foo <b@y>"),
            ("dev@x AUTH=<>", vec!["dev@x"], "AUTH=<>"),
            ("dev@x SMTPUTF8 AUTH=<z@y>", vec!["dev@x"], "SMTPUTF8 AUTH=<z@y>"),
            ("<dev@x> AUTH=<> SIZE=9", vec!["dev@x"], "AUTH=<> SIZE=9"),
            ("<> AUTH=<a@b>", vec![], "AUTH=<a@b>"),
            ("<> SMTPUTF8", vec![], "SMTPUTF8"),
            ("<>X-FOO=<a@b>", vec![], "X-FOO=<a@b>"),
            ("< > a@b", vec![], "a@b"),
            ("Scanner <> SIZE=1", vec![], "SIZE=1"),
            ("", vec![], ""),
            ("SIZE=10 AUTH=<>", vec![], "SIZE=10 AUTH=<>"),
            ("prvs=1=a@b SIZE=1", vec!["prvs=1=a@b"], "SIZE=1"),
            ("SMTP=a@b SIZE=1", vec!["SMTP=a@b"], "SIZE=1"),
            ("smtp: a@b SIZE=1", vec!["smtp: a@b"], "SIZE=1"),
            ("scanner AUTH=<>", vec!["scanner"], "AUTH=<>"),
            ("scanner SMTPUTF8", vec!["scanner"], "SMTPUTF8"),
            ("ilo.@ SMTPUTF8", vec!["ilo.@"], "SMTPUTF8"),
            ("X Y <a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
            ("Doe, J <a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
            ("\"X <x@y>\" <a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
            ("<a@b SIZE=1", vec!["a@b"], "SIZE=1"),
            ("a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
            ("<a@b>,<c@d> SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
            ("a@b, c@d SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
            ("a@b c@d SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
            ("<a@b>, SIZE=1", vec!["a@b"], "SIZE=1"),
            ("<a@b>; NOTIFY=NEVER,<c@d>", vec!["a@b"], "NOTIFY=NEVER,<c@d>"),
            ("Team: a@b, <c@d>; SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
            ("a@b (x@y) SIZE=1", vec!["a@b"], "SIZE=1"),
            ("john smith@x SIZE=1", vec!["john smith@x"], "SIZE=1"),
            ("\"john smith\"@x SIZE=1", vec!["\"john smith\"@x"], "SIZE=1"),
            ("a @b", vec!["a @b"], ""),
        ] {
            assert_eq!(
                of_command(text),
                (addresses.into_iter().map(str::to_owned).collect(), parameters),
                "{text}"
            );
        }
    }

    #[test]
    fn reading_takes_time_in_proportion_to_the_text() {
        // Of this thread alone: the machine may be busy.
        let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
        let began = spent();
        for piece in [
            "(", "\"", "<", ">", "[", "@", "@,", ",", "a,", "a ", "a@", "a@b ", "\\\"", "<>", "a <> ", ":",
            "a:", "=?", "'", "((", "<\"", "\"<", "(\"", "@x:", "[@", "smtp:", ";", "a;", "<a<", "(a)",
            "\"a\"", "<a,", "''@", "a b,",
        ] {
            let text = piece.repeat(30_000 / piece.len());
            let (list, _) = path(&text);
            assert!(parse(&text).len() <= text.len() && list.len() <= text.len());
        }
        assert!(spent() - began < 5, "{} s", spent() - began);
    }

    mod any_text {
        use super::*;
        use proptest::prelude::*;

        fn junk() -> impl Strategy<Value = String> {
            let characters: Vec<char> = "<>@,;:\"()[] ab\\='.?\u{3000}\u{e9}\u{f0083}".chars().collect();
            prop::collection::vec(prop::sample::select(characters), 0..60).prop_map(String::from_iter)
        }

        proptest! {
            #[test]
            fn is_read_and_what_is_given_back_was_said(text in junk()) {
                for entry in parse(&text) {
                    prop_assert!(text.contains(&entry.address), "{entry:?}");
                    if let Some(mailbox) = entry.mailbox() {
                        prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox));
                    }
                }
                let (entries, end) = path(&text);
                for entry in entries {
                    prop_assert!(text[..end].contains(&entry.address), "{entry:?}");
                }
            }

            #[test]
            fn in_a_parameter_is_no_address(text in junk()) {
                for before in ["a@x ", "<a@x> ", "<a@x>", "X <a@x> "] {
                    let text = format!("{before}K={text}");
                    let (entries, end) = path(&text);
                    prop_assert_eq!(entries.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["a@x"]);
                    prop_assert_eq!(end, before.len());
                }
            }
        }
    }
}
