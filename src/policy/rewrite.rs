//! Which sender leaves the relay, and a head that every smart host takes.
//!
//! Invariant: what `rewrite_head` returns has exactly one From, of addresses the account may send as; no line over
//! 998 bytes, no NUL and no CR or LF but at line ends; nothing outside ASCII but addresses that need SMTPUTF8, and
//! after `downgraded` not those either. The same input gives the same bytes, so every attempt sends the same head.
//! Must not know: the body, the wire, what the smart host announces.

use crate::mail::address_list::{self, Entry};
use crate::mail::encoded_word::{MAX_LINE_BYTES, decode, fold, phrase, words};
use crate::mail::header::{Field, fields};
use crate::mail::parameters;
use crate::mail::{AddressPattern, Mailbox, ReversePath};

/// A field name longer than this is no name, and could not be folded.
const MAX_NAME_BYTES: usize = 200;
/// Of the addresses in a From that may not be used, so many are kept in Reply-To.
const MAX_REPLY_TO: usize = 10;
/// Beyond these nobody reads on, and comparing each with each would take long.
const MAX_ADDRESSES: usize = 100;
const MAX_PARAMETERS: usize = 100;

/// Who an account may send as.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The account's own mailbox.
    pub mailbox: Mailbox,
    /// What else may be used (SendAs rights in the tenant).
    pub send_as: Vec<AddressPattern>,
}

impl Sender {
    /// Whether this address may stand in MAIL FROM and From. A literal or a bare host name never may, nor an
    /// address that needs SMTPUTF8: Exchange Online has no such mailboxes.
    pub fn may_use(&self, address: &Mailbox) -> bool {
        address.is_same(&self.mailbox)
            || address.has_public_domain()
                && address.is_ascii()
                && self.send_as.iter().any(|p| p.matches(address))
    }

    /// MAIL FROM at the smart host: the device's address where it may be used, else the mailbox. `<>` becomes the
    /// mailbox, too: Exchange Online takes no null sender from a client.
    pub fn reverse_path(&self, from: &ReversePath) -> Mailbox {
        from.mailbox().filter(|m| self.may_use(m)).unwrap_or(&self.mailbox).clone()
    }
}

/// The head as it leaves: From, Reply-To and Sender put right, Bcc and Return-Path gone, everything encoded and
/// folded. `charset` is the device's for raw 8-bit fields. Ends with the empty line.
pub fn rewrite_head(head: &[u8], sender: &Sender, charset: Option<&str>) -> Vec<u8> {
    let all: Vec<Field<'_>> = lenient_fields(head).collect();
    let list = |name: &str| -> Vec<Vec<Entry>> {
        all.iter().filter(|f| f.is(name)).map(|f| entries(f, charset)).collect()
    };
    let originator = Originator::decide(&list("From"), &list("Reply-To"), &list("Sender"), sender);
    let mut out = Vec::with_capacity(head.len() + 256);
    let mut written = Written::default();
    for field in &all {
        if field.is("From") {
            if !std::mem::replace(&mut written.from, true) {
                originator.write(&mut out);
            }
        } else if field.is("Reply-To") {
            if !originator.has_reply_to || std::mem::replace(&mut written.reply_to, true) {
                continue;
            }
            out.extend(encode_field(field, charset));
        } else if !["Sender", "Bcc", "Resent-Bcc", "Return-Path"].iter().any(|n| field.is(n)) {
            out.extend(encode_field(field, charset));
        }
    }
    if !written.from {
        originator.write(&mut out);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Any head (of the message, of a part, of an embedded message) with its fields encoded and folded, and otherwise
/// as it is. Ends with the empty line.
pub fn encode_head(head: &[u8], charset: Option<&str>) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(head.len());
    for field in lenient_fields(head) {
        out.extend(encode_field(&field, charset));
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// A head that `rewrite_head` or `encode_head` made, for a server that does not offer SMTPUTF8: addresses that need it
/// can be read but not answered. A field without one stays byte for byte.
pub fn downgraded(head: Vec<u8>) -> Vec<u8> {
    if head.is_ascii() {
        return head;
    }
    let mut out: Vec<u8> = Vec::with_capacity(head.len());
    for field in fields(&head) {
        if field.raw.is_ascii() {
            out.extend_from_slice(field.raw);
            continue;
        }
        let name: String = field.name().iter().map(|b| char::from(*b)).collect();
        let list = address_list::parse(&decode(&field.unfolded(), None));
        out.extend(fold(&name, &address_words(&list, Letters::Downgraded)));
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[derive(Default)]
struct Written {
    from: bool,
    reply_to: bool,
}

/// From, Sender and Reply-To of the message that leaves.
struct Originator {
    from: Vec<(Entry, Mailbox)>,
    sender: Option<(Entry, Mailbox)>,
    reply_to: Vec<(Entry, Mailbox)>,
    has_reply_to: bool,
}

impl Originator {
    fn decide(from: &[Vec<Entry>], reply_to: &[Vec<Entry>], senders: &[Vec<Entry>], sender: &Sender) -> Self {
        let addressed = |lists: &[Vec<Entry>]| -> Vec<(Entry, Mailbox)> {
            let mut found: Vec<(Entry, Mailbox)> = Vec::new();
            for entry in lists.iter().flatten().take(MAX_ADDRESSES) {
                if let Some(m) = entry.mailbox().filter(|m| !found.iter().any(|(_, known)| known.is_same(m)))
                {
                    found.push((entry.clone(), m));
                }
            }
            found
        };
        let listed = addressed(from);
        let has_reply_to = !addressed(reply_to).is_empty();
        let usable = |(_, m): &&(Entry, Mailbox)| sender.may_use(m);
        let kept: Vec<(Entry, Mailbox)> = if from.len() == 1 && listed.iter().all(|l| usable(&l)) {
            listed.clone()
        } else {
            listed.iter().find(usable).cloned().into_iter().collect()
        };
        let dropped = listed.len() > kept.len();
        let from =
            if kept.is_empty() { vec![(renamed(from, &listed), sender.mailbox.clone())] } else { kept };
        let reply_to = if dropped && !has_reply_to {
            // An address only SMTPUTF8 could carry would cost the whole message at a server without it.
            let answerable = listed.into_iter().filter(|(_, m)| m.has_public_domain() && m.is_ascii());
            answerable.take(MAX_REPLY_TO).collect()
        } else {
            vec![]
        };
        // RFC 5322 section 3.6.2: several authors need one Sender; one who is the author himself needs none.
        let named = addressed(senders).into_iter().find(|s| usable(&s));
        let sender = match from.as_slice() {
            [(_, only)] => named.filter(|(_, m)| !m.is_same(only)),
            _ => Some(named.unwrap_or_else(|| (Entry::default(), sender.mailbox.clone()))),
        };
        Self { from, sender, reply_to, has_reply_to }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(fold("From", &joined(&self.from)));
        if let Some(sender) = &self.sender {
            out.extend(fold("Sender", &joined(std::slice::from_ref(sender))));
        }
        if !self.reply_to.is_empty() {
            out.extend(fold("Reply-To", &joined(&self.reply_to)));
        }
    }
}

/// The display name that goes with the mailbox: the one given, or what stood in place of an address.
fn renamed(from: &[Vec<Entry>], listed: &[(Entry, Mailbox)]) -> Entry {
    let first = listed.first().map(|(e, _)| e).or_else(|| from.iter().flatten().next());
    let Some(first) = first else { return Entry::default() };
    let mut entry = first.clone();
    if entry.display.is_empty() && listed.is_empty() {
        entry.display.clone_from(&entry.address);
    }
    let named = address_list::mailbox(&entry.display);
    if entry.mailbox().is_some_and(|m| named.is_ok_and(|d| d.is_same(&m))) {
        entry.display.clear();
    }
    entry
}

fn joined(list: &[(Entry, Mailbox)]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (entry, mailbox) in list {
        if let Some(last) = out.last_mut() {
            last.push(',');
        }
        out.extend(entry.words(mailbox));
    }
    out
}

fn entries(field: &Field<'_>, charset: Option<&str>) -> Vec<Entry> {
    address_list::parse(&decode(&field.unfolded(), charset))
}

/// As `fields`, but a line that is no field is left out and does not end the head.
fn lenient_fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = head;
    std::iter::from_fn(move || {
        loop {
            if let Some(field) = fields(rest).next() {
                rest = &rest[field.raw.len()..];
                return Some(field);
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            if rest[..end].trim_ascii().is_empty() {
                return None;
            }
            rest = &rest[end..];
        }
    })
}

/// How a value may be changed without changing what it says.
enum Kind {
    Addresses,
    Parameters,
    /// No text: a byte outside ASCII has no business there.
    Token,
    Text,
}

fn kind(field: &Field<'_>) -> Kind {
    let one_of = |names: &[&str]| names.iter().any(|n| field.is(n));
    if one_of(&["To", "Cc", "From", "Sender", "Reply-To", "Resent-To", "Resent-Cc", "Resent-From"])
        || one_of(&["Resent-Sender", "Disposition-Notification-To", "Return-Receipt-To", "Errors-To"])
    {
        Kind::Addresses
    } else if one_of(&["Content-Type", "Content-Disposition"]) {
        Kind::Parameters
    } else if one_of(&["Message-ID", "References", "In-Reply-To", "Received", "Date", "MIME-Version"])
        || one_of(&["Content-Transfer-Encoding", "Content-ID", "DKIM-Signature", "Resent-Message-ID"])
    {
        Kind::Token
    } else {
        Kind::Text
    }
}

/// The field with its CRLF, as it may leave. A clean one stays byte for byte.
fn encode_field(field: &Field<'_>, charset: Option<&str>) -> Vec<u8> {
    if is_clean(field.raw) {
        return field.raw.to_vec();
    }
    let name: String = field.name().iter().take(MAX_NAME_BYTES).map(|b| char::from(*b)).collect();
    let value = decode(&field.unfolded(), charset);
    if value.is_ascii() {
        let words: Vec<String> = value.split_ascii_whitespace().map(str::to_owned).collect();
        return fold(&name, &words);
    }
    match kind(field) {
        Kind::Addresses => {
            // Only what came as UTF-8 is meant as an address of RFC 6531; bytes of another charset are a mistake.
            let is_utf8 = std::str::from_utf8(field.raw).is_ok();
            let letters = if is_utf8 { Letters::Any } else { Letters::Ascii };
            let words = address_words(&address_list::parse(&value), letters);
            if words.is_empty() { vec![] } else { fold(&name, &words) }
        }
        Kind::Parameters => fold(&name, &parameter_words(&value)),
        Kind::Token => {
            let ascii: String = value.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
            fold(&name, &ascii.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
        }
        Kind::Text => fold(&name, &words(&value, false)),
    }
}

/// ASCII, no control but the line ends and tabs, no line too long or blank.
fn is_clean(raw: &[u8]) -> bool {
    let Some(text) = raw.strip_suffix(b"\r\n") else { return false };
    let mut lines = text.split(|b| *b == b'\n').peekable();
    let mut first = true;
    while let Some(mut line) = lines.next() {
        if lines.peek().is_some() {
            let Some(ended) = line.strip_suffix(b"\r") else { return false };
            line = ended;
        }
        let printable = line.iter().all(|b| matches!(b, b'\t' | 32..=126));
        if line.len() > MAX_LINE_BYTES || !printable || !first && line.trim_ascii().is_empty() {
            return false;
        }
        first = false;
    }
    true
}

/// Which addresses of a list may stand as addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Letters {
    /// Those of RFC 6531, too: the server offers SMTPUTF8.
    Any,
    /// Those without letters beyond ASCII; others are no addresses but mistakes.
    Ascii,
    /// Those whose local part has none; others can be read but not answered (RFC 6857).
    Downgraded,
}

/// The words of a list. Only display names are encoded. What is no address at all (a company's name in To) becomes the
/// name of an empty group, the one form in which RFC 5322 lets a name stand alone; a group cannot hold another, so
/// what stood in one goes behind it.
fn address_words(list: &[Entry], letters: Letters) -> Vec<String> {
    let mut elements: Vec<Vec<String>> = vec![];
    let mut group: Option<Group> = None;
    for entry in list {
        if let Some(name) = &entry.group {
            elements.extend(group.take().map(Group::close).unwrap_or_default());
            group = Some(Group { name: phrase(name, false), ..Group::default() });
        }
        let member = entry.mailbox().filter(|m| letters != Letters::Ascii || m.is_ascii());
        let member = member
            .map(|m| entry.words(&m))
            .filter(|words| letters != Letters::Downgraded || words.iter().all(|w| w.is_ascii()));
        let stands_for_itself = member.is_some();
        let words = member.unwrap_or_else(|| nobody(&shown(entry, letters)));
        match &mut group {
            _ if words.is_empty() => {}
            Some(group) if stands_for_itself => group.members.push(words),
            Some(group) => group.behind.push(words),
            None => elements.push(words),
        }
        if entry.ends_group {
            elements.extend(group.take().map(Group::close).unwrap_or_default());
        }
    }
    elements.extend(group.map(Group::close).unwrap_or_default());
    with_commas(elements)
}

/// A group that is being read.
#[derive(Default)]
struct Group {
    name: Vec<String>,
    members: Vec<Vec<String>>,
    behind: Vec<Vec<String>>,
}

impl Group {
    fn close(self) -> Vec<Vec<String>> {
        let mut words = ended(self.name, ":");
        words.extend(with_commas(self.members));
        let mut elements = vec![ended(words, ";")];
        elements.extend(self.behind);
        elements
    }
}

/// An empty group of this name; nothing for no name.
fn nobody(name: &str) -> Vec<String> {
    ended(phrase(name, true), ":;")
}

/// What is to be read where no address can stand.
fn shown(entry: &Entry, letters: Letters) -> String {
    match (entry.display.as_str(), entry.address.as_str()) {
        ("", address) => address.to_owned(),
        (display, address) if letters == Letters::Downgraded && entry.mailbox().is_some() => {
            format!("{display} {address}")
        }
        (display, _) => display.to_owned(),
    }
}

fn ended(mut words: Vec<String>, end: &str) -> Vec<String> {
    if let Some(last) = words.last_mut() {
        last.push_str(end);
    }
    words
}

fn with_commas(elements: Vec<Vec<String>>) -> Vec<String> {
    let last = elements.len().saturating_sub(1);
    let with_comma = |(i, words)| if i < last { ended(words, ",") } else { words };
    elements.into_iter().enumerate().flat_map(with_comma).collect()
}

/// `type/subtype; name=value; ...` with what is not ASCII coded by RFC 2231.
fn parameter_words(value: &str) -> Vec<String> {
    let mut parts = parameters::split(value);
    parts.truncate(MAX_PARAMETERS);
    let coded = |name: &str| {
        parts.iter().any(|p| p.split('=').next().is_some_and(|n| n.trim() == format!("{name}*")))
    };
    let mut out: Vec<String> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let before = out.len();
        match part.split_once('=') {
            _ if part.is_ascii() => out.extend(part.split_ascii_whitespace().map(str::to_owned)),
            Some((name, text)) if i > 0 && is_parameter_name(name.trim()) && !coded(name.trim()) => {
                out.extend(parameters::coded(name.trim(), &parameters::unquoted(text.trim())));
            }
            // Neither a type nor a parameter, or there in coded form already.
            _ => {}
        }
        if before > 0 && out.len() > before {
            out[before - 1].push(';');
        }
    }
    out
}

fn is_parameter_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 60
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_*".contains(&b))
}

/// A value for a field of one's own: `text` (decoded, so without line ends) as folded words, at most `limit`
/// characters of it.
pub fn text_field(name: &str, text: &str, limit: usize) -> Vec<u8> {
    let cut: String = text.chars().take(limit).collect();
    fold(name, &words(&cut, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(send_as: &[&str]) -> Sender {
        Sender {
            mailbox: "scanner@contoso.com".parse().unwrap(),
            send_as: send_as.iter().map(|p| p.parse().unwrap()).collect(),
        }
    }

    fn rewritten(head: &str, send_as: &[&str]) -> String {
        String::from_utf8(rewrite_head(head.as_bytes(), &sender(send_as), None)).unwrap()
    }

    #[test]
    fn the_reverse_path_is_the_devices_only_where_it_may_be_used() {
        let path = |from: &str, send_as: &[&str]| {
            let from = match from {
                "<>" => ReversePath::Null,
                "ilo.@" => ReversePath::Unusable("ilo.@".into()),
                m => ReversePath::Mailbox(m.parse().unwrap()),
            };
            sender(send_as).reverse_path(&from).to_string()
        };
        let own = "scanner@contoso.com";
        assert_eq!(path("<>", &["*"]), own);
        assert_eq!(path("ilo.@", &["*"]), own);
        assert_eq!(path("Scanner@Contoso.com", &[]), "Scanner@contoso.com");
        assert_eq!(path("hp@contoso.com", &[]), own);
        assert_eq!(path("hp@contoso.com", &["*@contoso.com"]), "hp@contoso.com");
        assert_eq!(path("hp@printserver", &["*"]), own, "no public domain");
        assert_eq!(path("hp@[10.0.0.1]", &["*"]), own);
        assert_eq!(path("hp@10.0.0.1", &["*"]), own);
    }

    #[test]
    fn there_is_one_from_that_may_be_used_and_the_original_gets_the_answers() {
        let allowed: &[&str] = &["*@contoso.com"];
        for (head, send_as, expected) in [
            (
                "From: \"Scanner 3rd floor\" <hp@old.example>\r\n",
                allowed,
                "From: \"Scanner 3rd floor\" <scanner@contoso.com>\r\nReply-To: \"Scanner 3rd floor\" <hp@old.example>\r\n\r\n",
            ),
            ("From: hp@contoso.com\r\n", allowed, "From: hp@contoso.com\r\n\r\n"),
            (
                "From: Doe, Jane <jane@contoso.com>\r\n",
                allowed,
                "From: \"Doe, Jane\" <jane@contoso.com>\r\n\r\n",
            ),
            (
                "From: Doe, Jane <jane@old.example>\r\n",
                &[],
                "From: \"Doe, Jane\" <scanner@contoso.com>\r\nReply-To: \"Doe, Jane\" <jane@old.example>\r\n\r\n",
            ),
            ("From: smtp:hp@contoso.com.\r\n", allowed, "From: hp@contoso.com\r\n\r\n"),
            ("From: HP <hp@contoso.com>\r\n\r\n", allowed, "From: HP <hp@contoso.com>\r\n\r\n"),
            (
                "From: hp@contoso.com\r\n",
                &[],
                "From: scanner@contoso.com\r\nReply-To: hp@contoso.com\r\n\r\n",
            ),
            (
                "From: hp@old.example\r\nReply-To: it@contoso.com\r\n",
                &[],
                "From: scanner@contoso.com\r\nReply-To: it@contoso.com\r\n\r\n",
            ),
            (
                "From: hp@old.example\r\nReply-To: \r\n",
                &[],
                "From: scanner@contoso.com\r\nReply-To: hp@old.example\r\n\r\n",
            ),
            ("Subject: x\r\n", &[], "Subject: x\r\nFrom: scanner@contoso.com\r\n\r\n"),
            ("From:\r\n", &[], "From: scanner@contoso.com\r\n\r\n"),
            ("From: Scanner 3\r\n", &[], "From: Scanner 3 <scanner@contoso.com>\r\n\r\n"),
            ("From: \"Scanner 3\" <>\r\n", &[], "From: \"Scanner 3\" <scanner@contoso.com>\r\n\r\n"),
            ("From: hp@printserver\r\n", &[], "From: scanner@contoso.com\r\n\r\n"),
            ("From: hp@contoso.com <hp@contoso.com>\r\n", allowed, "From: hp@contoso.com\r\n\r\n"),
            (
                "From: hp@x.example <hp@x.example>\r\n",
                allowed,
                "From: scanner@contoso.com\r\nReply-To: hp@x.example\r\n\r\n",
            ),
            (
                "From: a@contoso.com\r\nTo: t@contoso.com\r\nFrom: b@contoso.com\r\n",
                allowed,
                "From: a@contoso.com\r\nReply-To: a@contoso.com, b@contoso.com\r\nTo: t@contoso.com\r\n\r\n",
            ),
            ("From: a@contoso.com\r\nFrom: a@contoso.com\r\n", allowed, "From: a@contoso.com\r\n\r\n"),
            (
                "From: a@contoso.com, b@contoso.com\r\n",
                allowed,
                "From: a@contoso.com, b@contoso.com\r\nSender: scanner@contoso.com\r\n\r\n",
            ),
            (
                "From: a@contoso.com, b@contoso.com\r\nSender: b@contoso.com\r\n",
                allowed,
                "From: a@contoso.com, b@contoso.com\r\nSender: b@contoso.com\r\n\r\n",
            ),
            (
                "From: x@y.example, b@contoso.com\r\n",
                allowed,
                "From: b@contoso.com\r\nReply-To: x@y.example, b@contoso.com\r\n\r\n",
            ),
            ("Sender: root@y.example\r\nFrom: a@contoso.com\r\n", allowed, "From: a@contoso.com\r\n\r\n"),
            (
                "Sender: b@contoso.com\r\nFrom: a@contoso.com\r\n",
                allowed,
                "From: a@contoso.com\r\nSender: b@contoso.com\r\n\r\n",
            ),
            ("From: jürgen@old.example\r\n", &[], "From: scanner@contoso.com\r\n\r\n"),
        ] {
            assert_eq!(rewritten(head, send_as), expected, "{head}");
        }
    }

    #[test]
    fn blind_copies_and_return_paths_do_not_leave() {
        assert_eq!(
            rewritten(
                "Return-Path: <a@b>\r\nBcc: boss@contoso.com\r\nbcc:\r\n x@y\r\nFrom: scanner@contoso.com\r\n",
                &[]
            ),
            "From: scanner@contoso.com\r\n\r\n"
        );
    }

    #[test]
    fn raw_text_is_encoded_and_addresses_are_not() {
        for (field, expected) in [
            (
                &b"Subject: Lieferschein f\xfcr M\xfcller\r\n"[..],
                "Subject: Lieferschein =?UTF-8?Q?f=C3=BCr_M=C3=BCller?=\r\n",
            ),
            (
                b"To: M\xfcller, Anna <anna@contoso.com>\r\n",
                "To: =?UTF-8?Q?M=C3=BCller=2C?= Anna <anna@contoso.com>\r\n",
            ),
            (
                b"To: \"M\xfcller, Anna\" <anna@contoso.com>, b@c.example\r\n",
                "To: =?UTF-8?Q?M=C3=BCller=2C?= Anna <anna@contoso.com>, b@c.example\r\n",
            ),
            (b"Cc: anna@contoso.com (M\xfcller)\r\n", "Cc: =?UTF-8?Q?M=C3=BCller?= <anna@contoso.com>\r\n"),
            (
                b"To: M\xfcller: a@b.example, c@d.example;, e@f.example\r\n",
                "To: =?UTF-8?Q?M=C3=BCller?=: a@b.example, c@d.example;, e@f.example\r\n",
            ),
            ("To: jürgen@münchen.example\r\n".as_bytes(), "To: jürgen@münchen.example\r\n"),
            (b"To: m\xfcller@contoso.com\r\n", "To: =?UTF-8?Q?m=C3=BCller=40contoso=2Ecom?=:;\r\n"),
            (
                "To: Anna <anna@münchen.example>, b@c.example\r\n".as_bytes(),
                "To: Anna <anna@xn--mnchen-3ya.example>, b@c.example\r\n",
            ),
            (
                b"To: T: a@b.example, m\xfc@c.example, d@e.example;, f@g.example\r\n",
                "To: T: a@b.example, d@e.example;, =?UTF-8?Q?m=C3=BC=40c=2Eexample?=:;,\r\n f@g.example\r\n",
            ),
            (b"Message-ID: <\xe4@b>\r\n", "Message-ID: <?@b>\r\n"),
            (b"X: a\0b\rc\r\n", "X: abc\r\n"),
            (b"X: a\r\n \r\n b\r\n", "X: a b\r\n"),
            (
                b"Content-Disposition: attachment; size=5;\r\n filename=\"M\xfcller; 1.pdf\"\r\n",
                "Content-Disposition: attachment; size=5;\r\n filename*=UTF-8''M%C3%BCller%3B%201.pdf\r\n",
            ),
        ] {
            let out = encode_head(field, None);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"), "{field:?}");
        }
        let out = encode_head(b"Subject: \x83\x8c\x83|\x81[\x83g\r\n", Some("shift_jis"));
        assert_eq!(out, b"Subject: =?UTF-8?B?44Os44Od44O844OI?=\r\n\r\n");
    }

    #[test]
    fn without_smtputf8_an_address_that_needs_it_can_be_read_and_not_answered() {
        for (field, expected) in [
            ("To: a@b.example\r\n", "To: a@b.example\r\n"),
            ("To: jürgen@b.example\r\n", "To: =?UTF-8?Q?j=C3=BCrgen=40b=2Eexample?=:;\r\n"),
            (
                "To: Jürgen <jürgen@b.example>, c@d.example\r\n",
                "To: =?UTF-8?Q?J=C3=BCrgen?= =?UTF-8?Q?_j=C3=BCrgen=40b=2Eexample?=:;, c@d.example\r\n",
            ),
            ("Cc: Anna <anna@münchen.example>\r\n", "Cc: Anna <anna@xn--mnchen-3ya.example>\r\n"),
            (
                "Reply-To: c@d.example, jürgen@münchen.example\r\n",
                "Reply-To: c@d.example, =?UTF-8?Q?j=C3=BCrgen=40m=C3=BCnchen=2Eexample?=:;\r\n",
            ),
            (
                "To: Büro: jürgen@b.example, c@d.example;, e@f.example\r\n",
                "To: =?UTF-8?Q?B=C3=BCro?=: c@d.example;, =?UTF-8?Q?j=C3=BCrgen=40b=2Eexample?=:;, e@f.example\r\n",
            ),
            (
                "To: Büro: jürgen@b.example\r\n",
                "To: =?UTF-8?Q?B=C3=BCro?=:;, =?UTF-8?Q?j=C3=BCrgen=40b=2Eexample?=:;\r\n",
            ),
        ] {
            let out = String::from_utf8(downgraded(encode_head(field.as_bytes(), None))).unwrap();
            let out = out.replace("\r\n ", " ");
            assert_eq!(out, format!("{expected}\r\n"), "{field}");
        }
    }

    #[test]
    fn a_clean_field_stays_as_it_is() {
        let head = b"Subject : one\r\n  two\r\nX-A:\r\nX-B:\r\n\tfolded  twice\r\n\r\n";
        assert_eq!(encode_head(head, None), head);
    }

    #[test]
    fn a_display_name_cannot_begin_a_field() {
        for head in [
            &b"From: \"x\r\n Bcc: victim@y.example\" <a@old.example>\r\n"[..],
            b"From: \"x\rBcc: victim@y.example\" <a@old.example>\r\n",
            b"From: =?utf-8?Q?x=0D=0ABcc:_victim@y.example?= <a@old.example>\r\n",
            b"From: x\x0bBcc: y\x85 <a@old.example>\r\n",
            b"From: \"x\" <a@old.example>\r\nReply-To: \"\r\n\r\n",
        ] {
            let out = rewrite_head(head, &sender(&[]), None);
            for field in fields(&out) {
                assert!(field.is("From") || field.is("Reply-To"), "{}", String::from_utf8_lossy(&out));
            }
            let text = String::from_utf8(out).unwrap();
            assert!(text.matches("\r\n\r\n").count() == 1 && text.ends_with("\r\n\r\n"), "{text}");
        }
    }

    mod any_head {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn leaves_with_one_from_and_clean_lines(
                lines in prop::collection::vec(
                    ("(From|To|Subject|Content-Type|Sender|Reply-To|X-[a-z]{1,4}|[!-9;-~]{1,1500}): ?",
                     prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"<>@,;:\"\\( ab\r\n=?".to_vec())], 0..80),
                     0usize..40),
                    0..12),
                charset in prop::option::of(prop::sample::select(vec!["shift_jis", "iso-2022-jp", "utf-8", "latin1", "nonsense"])),
            ) {
                let mut head = Vec::new();
                for (name, value, times) in lines {
                    head.extend_from_slice(name.as_bytes());
                    for _ in 0..times { head.extend_from_slice(&value); }
                    head.extend_from_slice(b"\r\n");
                }
                let out = rewrite_head(&head, &sender(&["*@contoso.com"]), charset);
                let below = downgraded(out.clone());
                prop_assert!(below.is_ascii());
                prop_assert_eq!(fields(&below).map(|f| f.name().to_vec()).collect::<Vec<_>>(),
                    fields(&out).map(|f| f.name().to_vec()).collect::<Vec<_>>());
                prop_assert!(below.split(|b| *b == b'\n').all(|l| l.len() <= MAX_LINE_BYTES + 1));
                prop_assert!(out.ends_with(b"\r\n\r\n") || out == b"\r\n");
                prop_assert!(std::str::from_utf8(&out).is_ok());
                prop_assert_eq!(fields(&out).filter(|f| f.is("From")).count(), 1);
                let body = fields(&out).map(|f| f.raw.len()).sum::<usize>();
                prop_assert_eq!(body + 2, out.len(), "nothing but fields");
                for line in out[..out.len() - 2].split(|b| *b == b'\n') {
                    if line.is_empty() { continue; }
                    prop_assert!(line.ends_with(b"\r"));
                    let line = &line[..line.len() - 1];
                    prop_assert!(line.len() <= MAX_LINE_BYTES);
                    prop_assert!(!line.iter().any(|b| matches!(b, 0 | b'\r')));
                }
            }
        }
    }
}
