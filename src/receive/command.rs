//! One command line of a device, read for what it means.
//!
//! Invariant: tolerance is about syntax alone; what comes out is a valid value or a refusal, and no address that
//! routes (`%`, `!`, a second `@`) ever comes out as a recipient. Pure: bytes in, `Command` out.
//! Must not know: the session, who the peer is, what may be said when.

use crate::mail::{AddressError, Escaped, Mailbox, ReversePath};
use crate::receive::foreign;
use secrecy::zeroize::Zeroizing;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// HELO with whatever was given as a name; may be empty.
    Helo(Vec<u8>),
    /// EHLO likewise.
    Ehlo(Vec<u8>),
    /// MAIL.
    Mail {
        /// The sender.
        from: ReversePath,
        /// Its parameters.
        parameters: Parameters,
    },
    /// RCPT, with one recipient or, from some devices, several.
    Rcpt(Vec<Mailbox>),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// HELP.
    Help,
    /// VRFY.
    Vrfy,
    /// EXPN.
    Expn,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth {
        /// The mechanism, in capitals.
        mechanism: String,
        /// The initial response, still in base64.
        initial: Option<Zeroizing<Vec<u8>>>,
    },
    /// A line without anything on it: a stray line end, answered by nothing.
    Empty,
}

/// What MAIL said besides the sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// SIZE (RFC 1870), 0 when it is missing or no number.
    pub size_bytes: u64,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// Parameters nobody here knows, escaped.
    pub unknown: Vec<String>,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// No such verb.
    Unknown,
    /// BDAT, TURN, ETRN and the like: known and not done here.
    NotImplemented,
    /// The verb's arguments make no sense; what was expected.
    Syntax(&'static str),
    /// A recipient that is no address.
    Recipient(AddressError),
}

/// Reads a line; line end included or not.
///
/// # Errors
/// It is no command that can be carried out.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    // netcat-like stacks end a line in LF, some in CRCRLF.
    let line = foreign::trimmed(line);
    let verb_end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (verb, rest) = (&line[..verb_end], line[verb_end..].trim_ascii());
    Ok(match verb.to_ascii_uppercase().as_slice() {
        b"" => Command::Empty,
        b"HELO" => Command::Helo(rest.to_vec()),
        b"EHLO" => Command::Ehlo(rest.to_vec()),
        b"MAIL" => mail(rest)?,
        b"RCPT" => Command::Rcpt(recipients(keyword(rest, b"TO").ok_or(SYNTAX_RCPT)?)?),
        b"DATA" => Command::Data,
        b"RSET" => Command::Rset,
        b"NOOP" => Command::Noop,
        b"QUIT" => Command::Quit,
        b"HELP" => Command::Help,
        b"VRFY" => Command::Vrfy,
        b"EXPN" => Command::Expn,
        b"STARTTLS" if rest.is_empty() => Command::StartTls,
        b"STARTTLS" => return Err(CommandError::Syntax("STARTTLS takes no parameter")),
        b"AUTH" => auth(rest)?,
        b"BDAT" | b"TURN" | b"ETRN" | b"SEND" | b"SOML" | b"SAML" | b"ATRN" | b"BURL" => {
            return Err(CommandError::NotImplemented);
        }
        _ => return Err(CommandError::Unknown),
    })
}

/// Whether the line is AUTH, which may be longer than others and holds a secret.
pub fn is_auth(line: &[u8]) -> bool {
    line.trim_ascii_start().get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
}

const SYNTAX_MAIL: CommandError = CommandError::Syntax("expected MAIL FROM:<address>");
const SYNTAX_RCPT: CommandError = CommandError::Syntax("expected RCPT TO:<address>");

/// What follows `FROM:` or `TO:`, with space before the colon or behind it, or without the colon.
fn keyword<'a>(rest: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (said, after) = rest.split_at_checked(word.len())?;
    if !said.eq_ignore_ascii_case(word) {
        return None;
    }
    let trimmed = after.trim_ascii_start();
    match trimmed.strip_prefix(b":") {
        Some(path) => Some(path.trim_ascii()),
        None if trimmed.len() < after.len() || trimmed.starts_with(b"<") => Some(trimmed.trim_ascii()),
        None => None,
    }
}

fn auth(rest: &[u8]) -> Result<Command, CommandError> {
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    let mechanism = words.next().ok_or(CommandError::Syntax("expected AUTH PLAIN or AUTH LOGIN"))?;
    Ok(Command::Auth {
        mechanism: String::from_utf8_lossy(mechanism).to_ascii_uppercase(),
        initial: words.next().map(|w| Zeroizing::new(w.to_vec())),
    })
}

fn mail(rest: &[u8]) -> Result<Command, CommandError> {
    let said = keyword(rest, b"FROM").ok_or(SYNTAX_MAIL)?;
    let (path, parameters) = split_path(said);
    let mut known = Parameters::default();
    for word in parameters.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()) {
        let (key, value) = match memchr::memchr(b'=', word) {
            Some(i) => (&word[..i], &word[i + 1..]),
            None => (word, &b""[..]),
        };
        match key.to_ascii_uppercase().as_slice() {
            b"SIZE" => known.size_bytes = number(value),
            b"SMTPUTF8" => known.smtputf8 = true,
            b"BODY" | b"AUTH" | b"RET" | b"ENVID" => {}
            _ => known.unknown.push(Escaped(word).to_string()),
        }
    }
    Ok(Command::Mail { from: reverse_path(path), parameters: known })
}

/// Digits, as many as there are; more than fit are more than any limit.
fn number(digits: &[u8]) -> u64 {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(u64::MAX)
}

fn reverse_path(path: &[u8]) -> ReversePath {
    let brackets = inner(path);
    let address = brackets.last().copied().unwrap_or(path).trim_ascii();
    // A lone `<` or `>` is a bracket that lost the other one.
    let address = address.strip_prefix(b"<").unwrap_or(address);
    let address = strip_route(address.strip_suffix(b">").unwrap_or(address).trim_ascii());
    if address.is_empty() {
        return ReversePath::Null;
    }
    mailbox(address)
        .map_or_else(|_| ReversePath::Unusable(Escaped(address).to_string()), ReversePath::Mailbox)
}

/// Every recipient of one RCPT; all of them are addresses, or none is taken.
fn recipients(said: &[u8]) -> Result<Vec<Mailbox>, CommandError> {
    let (path, _) = split_path(said);
    let brackets = inner(path);
    let groups: Vec<&[u8]> = if brackets.is_empty() {
        vec![path.strip_suffix(b">").unwrap_or(path.strip_prefix(b"<").unwrap_or(path))]
    } else {
        brackets
    };
    let mut found: Vec<Mailbox> = Vec::with_capacity(1);
    for group in groups {
        for address in split_list(strip_route(group.trim_ascii())) {
            let mailbox = mailbox(strip_route(address)).map_err(CommandError::Recipient)?;
            if !found.iter().any(|m| m == &mailbox) {
                found.push(mailbox);
            }
        }
    }
    if found.is_empty() { Err(SYNTAX_RCPT) } else { Ok(found) }
}

/// The path (brackets, display name and all) and the parameters behind it.
fn split_path(said: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    let mut end = None;
    // A quote that is never closed is a character like any other.
    let quotes = said.iter().filter(|b| **b == b'"').count() % 2 == 0;
    for (i, b) in said.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quotes => quoted = !quoted,
            _ if quoted => {}
            b'<' => depth += 1,
            b'>' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    end = Some(i + 1);
                    // `<a@b>,<c@d>` goes on; anything else behind the bracket is parameters.
                    let next = said[i + 1..].trim_ascii_start().first();
                    if !matches!(next, Some(b',' | b';' | b'<')) {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(end) = end {
        return (&said[..end], &said[end..]);
    }
    // No brackets: words up to the first that is a parameter.
    let mut at = 0;
    while let Some(space) = said[at..].iter().position(u8::is_ascii_whitespace) {
        let word = said[at + space..].trim_ascii_start();
        let word = &word[..word.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len())];
        let key_end =
            word.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'-').unwrap_or(word.len());
        if !word.is_empty() && (key_end == word.len() || word[key_end] == b'=') {
            return (said[..at + space].trim_ascii(), &said[at + space..]);
        }
        at += space + 1;
    }
    (said.trim_ascii(), b"")
}

/// What stands in each innermost pair of brackets.
fn inner(path: &[u8]) -> Vec<&[u8]> {
    let mut found = vec![];
    let mut open = None;
    let (mut quoted, mut escaped) = (false, false);
    let quotes = path.iter().filter(|b| **b == b'"').count() % 2 == 0;
    for (i, b) in path.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quotes => quoted = !quoted,
            _ if quoted => {}
            b'<' => open = Some(i + 1),
            b'>' => found.extend(open.take().map(|from| &path[from..i])),
            _ => {}
        }
    }
    found
}

/// `@x,@y:a@b` is `a@b` (RFC 5321 appendix C).
fn strip_route(address: &[u8]) -> &[u8] {
    let address = address.trim_ascii();
    if !address.starts_with(b"@") {
        return address;
    }
    let mut literal = false;
    for (i, b) in address.iter().enumerate() {
        match b {
            b'[' => literal = true,
            b']' => literal = false,
            b':' if !literal => return address[i + 1..].trim_ascii(),
            _ => {}
        }
    }
    address
}

/// `a@b;c@d` and `a@b,c@d`, not within quotes.
fn split_list(list: &[u8]) -> Vec<&[u8]> {
    let mut parts = vec![];
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    for (i, b) in list.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b';' if !quoted => {
                parts.push(list[from..i].trim_ascii());
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(list[from..].trim_ascii());
    parts.retain(|p| !p.is_empty());
    parts
}

fn mailbox(address: &[u8]) -> Result<Mailbox, AddressError> {
    let text = std::str::from_utf8(address).map_err(|_| AddressError::Character)?;
    // A fully qualified name may end in a dot; SMTP does not write it.
    text.strip_suffix('.').filter(|t| t.contains('@') && !t.ends_with(['.', '@'])).unwrap_or(text).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(line: &str) -> String {
        match parse(line.as_bytes()) {
            Ok(Command::Mail { from, .. }) => match from {
                ReversePath::Unusable(said) => format!("unusable {said}"),
                other => other.to_string(),
            },
            other => format!("{other:?}"),
        }
    }

    fn to(line: &str) -> String {
        match parse(line.as_bytes()) {
            Ok(Command::Rcpt(to)) => to.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn senders_are_read_as_devices_write_them() {
        for (line, path) in [
            ("MAIL FROM:<a@b>", "<a@b>"),
            ("MAIL FROM: <a@b>", "<a@b>"),
            ("mail FROM :<a@b>", "<a@b>"),
            ("MAIL from:a@b", "<a@b>"),
            ("MAIL FROM a@b", "<a@b>"),
            ("MAIL FROM:<a@b> ", "<a@b>"),
            ("MAIL\tFROM:<a@b>\r\r\n", "<a@b>"),
            ("  MAIL FROM:< a@b >", "<a@b>"),
            ("MAIL FROM:<>", "<>"),
            ("MAIL FROM: <> BODY=8BITMIME", "<>"),
            ("MAIL FROM:", "<>"),
            ("MAIL FROM:<a@b", "<a@b>"),
            ("MAIL FROM:a@b>", "<a@b>"),
            ("MAIL FROM:\"X\" <a@b>", "<a@b>"),
            ("MAIL FROM:X Y <a@b> SIZE=1", "<a@b>"),
            ("MAIL FROM:<X <a@b>>", "<a@b>"),
            ("MAIL FROM:<@x:a@b>", "<a@b>"),
            ("MAIL FROM:a@b SIZE=10", "<a@b>"),
            ("MAIL FROM:<\"a <b\"@c>", "<\"a <b\"@c>"),
            ("MAIL FROM:<a@b> ENVID=<x@y>", "<a@b>"),
            ("MAIL FROM:<scanner>", "unusable scanner"),
            ("MAIL FROM:<x@1.2.3.4>", "<x@1.2.3.4>"),
            ("MAIL FROM:<x@[1.2.3.4]>", "<x@[1.2.3.4]>"),
            ("MAIL FROM:<ilo.@>", "unusable ilo.@"),
            ("MAIL FROM:<x.>", "unusable x."),
            ("MAIL FROM:<a@b.>", "<a@b>"),
            ("MAIL FROM:<a%b@c>", "unusable a%b@c"),
            ("MAIL FROM:<a b@c>", "unusable a b@c"),
        ] {
            assert_eq!(from(line), path, "{line}");
        }
        assert!(matches!(
            parse(b"MAIL FROM:<\x83\x58@b>"),
            Ok(Command::Mail { from: ReversePath::Unusable(said), .. }) if said == "\\x83X@b"
        ));
    }

    #[test]
    fn recipients_are_split_and_routes_stripped() {
        for (line, list) in [
            ("RCPT TO:<a@b>", "a@b"),
            ("rcpt to: a@b", "a@b"),
            ("RCPT TO :<a@b>", "a@b"),
            ("RCPT TO:\"Doe, J\" <a@b>", "a@b"),
            ("RCPT TO:Doe, J <a@b>", "a@b"),
            ("RCPT TO:<X <a@b>>", "a@b"),
            ("RCPT TO:<a@b;c@d>", "a@b c@d"),
            ("RCPT TO:<a@b, c@d>", "a@b c@d"),
            ("RCPT TO:<a@b>,<c@d>", "a@b c@d"),
            ("RCPT TO:<a@b>; <c@d> NOTIFY=NEVER", "a@b c@d"),
            ("RCPT TO:a@b,c@d", "a@b c@d"),
            ("RCPT TO:a@b; c@d", "a@b c@d"),
            ("RCPT TO:<a@b;>", "a@b"),
            ("RCPT TO:<a@b,a@b>", "a@b"),
            ("RCPT TO:<@x,@y:a@b>", "a@b"),
            ("RCPT TO:<@[IPv6:::1]:a@b>", "a@b"),
            ("RCPT TO:<\"a;b\"@c>", "\"a;b\"@c"),
            ("RCPT TO:<a@b> ORCPT=rfc822;a@b NOTIFY=FAILURE", "a@b"),
        ] {
            assert_eq!(to(line), list, "{line}");
        }
    }

    #[test]
    fn a_recipient_that_routes_or_is_no_address_is_refused_with_all_beside_it() {
        use AddressError::{Character, Incomplete, Routing};
        for (line, why) in [
            ("RCPT TO:<a%b@c>", Routing),
            ("RCPT TO:<a!b@c>", Routing),
            ("RCPT TO:<a@b@c>", Routing),
            ("RCPT TO:<@x:a@b@c>", Routing),
            ("RCPT TO:<a@b;c%d@e>", Routing),
            ("RCPT TO:<postmaster>", Incomplete),
            ("RCPT TO:<a@b;c>", Incomplete),
            ("RCPT TO:<a b@c>", Character),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::Recipient(why)), "{line}");
        }
        assert_eq!(parse(b"RCPT TO:<\xff@b>"), Err(CommandError::Recipient(Character)));
        assert_eq!(parse(b"RCPT TO:<>"), Err(SYNTAX_RCPT));
        assert_eq!(parse(b"RCPT"), Err(SYNTAX_RCPT));
    }

    #[test]
    fn parameters_are_taken_unannounced_and_unknown_ones_noted() {
        let parameters = |line: &str| match parse(line.as_bytes()) {
            Ok(Command::Mail { parameters: p, .. }) => (p.size_bytes, p.smtputf8, p.unknown.join(" ")),
            other => panic!("{other:?}"),
        };
        assert_eq!(parameters("MAIL FROM:<a@b> SIZE=0"), (0, false, String::new()));
        assert_eq!(parameters("MAIL FROM:<a@b> SIZE="), (0, false, String::new()));
        assert_eq!(parameters("MAIL FROM:<a@b>SIZE=12"), (12, false, String::new()));
        assert_eq!(parameters("MAIL FROM:a@b size=12 smtputf8"), (12, true, String::new()));
        assert_eq!(parameters("MAIL FROM:<a@b> SIZE=99999999999999999999"), (u64::MAX, false, String::new()));
        assert_eq!(
            parameters("MAIL FROM:<a@b> AUTH=<> BODY=8BITMIME RET=HDRS X-FOO=\u{1b} MT-PRIORITY=1"),
            (0, false, "X-FOO=\\u{1b} MT-PRIORITY=1".into())
        );
    }

    #[test]
    fn names_and_verbs_are_taken_as_they_come() {
        for (line, name) in [
            (&b"HELO NPIF65E56\n"[..], &b"NPIF65E56"[..]),
            (b"helo ESP-CAM_MJPEG\r\n", b"ESP-CAM_MJPEG"),
            (b"HELO 127.0.0.1", b"127.0.0.1"),
            (b"HELO relay.contoso.com.", b"relay.contoso.com."),
            (b"HELO my printer", b"my printer"),
            (b"HELO fe80::1\r\r\n", b"fe80::1"),
            (b"HELO M\xfcller", b"M\xfcller"),
            (b"HELO \x83\x8a\x83\x52", b"\x83\x8a\x83\x52"),
            (b"HELO", b""),
        ] {
            assert_eq!(parse(line), Ok(Command::Helo(name.to_vec())));
        }
        assert_eq!(parse(b"EHLO x"), Ok(Command::Ehlo(b"x".to_vec())));
        assert_eq!(parse(b"data \n"), Ok(Command::Data));
        assert_eq!(parse(b"\r\n"), Ok(Command::Empty));
        assert_eq!(parse(b"GET / HTTP/1.1"), Err(CommandError::Unknown));
        assert_eq!(parse(b"BDAT 5 LAST"), Err(CommandError::NotImplemented));
        assert_eq!(
            parse(b"auth plain AGEAYg=="),
            Ok(Command::Auth {
                mechanism: "PLAIN".into(),
                initial: Some(Zeroizing::new(b"AGEAYg==".to_vec()))
            })
        );
        assert!(is_auth(b" auth LOGIN") && !is_auth(b"AUT"));
    }
}
