//! One command line of a device, read for what it means.
//!
//! Invariant: tolerance is about syntax alone; what comes out is a valid value or a refusal, and no address that
//! routes (`%`, `!`, a second `@`) ever comes out as a recipient. Pure: bytes in, `Command` out.
//! Must not know: the session, who the peer is, what may be said when.

use crate::letter::address_list;
use crate::mail::{AddressError, Escaped, Mailbox, ReversePath};
use crate::receive::foreign;
use secrecy::zeroize::Zeroizing;
use std::borrow::Cow;

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
    let said = Said::new(keyword(rest, b"FROM").ok_or(SYNTAX_MAIL)?);
    let (addresses, parameters) = said.read();
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
    let from = match (addresses.iter().find_map(|a| mailbox(a).ok()), addresses.first()) {
        (Some(mailbox), _) => ReversePath::Mailbox(mailbox),
        (None, Some(said)) => ReversePath::Unusable(Escaped(said).to_string()),
        (None, None) => ReversePath::Null,
    };
    Ok(Command::Mail { from, parameters: known })
}

/// Digits, as many as there are; more than fit are more than any limit.
fn number(digits: &[u8]) -> u64 {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(u64::MAX)
}

/// Every recipient of one RCPT; all of them are addresses, or none is taken.
fn recipients(said: &[u8]) -> Result<Vec<Mailbox>, CommandError> {
    let mut found: Vec<Mailbox> = Vec::with_capacity(1);
    for address in Said::new(said).read().0 {
        let mailbox = mailbox(&address).map_err(CommandError::Recipient)?;
        if !found.iter().any(|m| m == &mailbox) {
            found.push(mailbox);
        }
    }
    if found.is_empty() { Err(SYNTAX_RCPT) } else { Ok(found) }
}

fn mailbox(address: &[u8]) -> Result<Mailbox, AddressError> {
    address_list::mailbox(std::str::from_utf8(address).map_err(|_| AddressError::Character)?)
}

/// What stands behind `FROM:` or `TO:`, as text. In a line that is no UTF-8 (Shift_JIS, Latin-1) every byte above
/// 127 is a character that means nothing, so that the line can be read, and the byte is found again.
struct Said<'a> {
    raw: &'a [u8],
    text: Cow<'a, str>,
}

/// The first of 256 characters for private use.
const BYTES: u32 = 0xF_0000;

impl<'a> Said<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let stand_in =
            |b: &u8| if b.is_ascii() { Some(char::from(*b)) } else { char::from_u32(BYTES + u32::from(*b)) };
        let text = match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => raw.iter().filter_map(stand_in).collect::<String>().into(),
        };
        Self { raw, text }
    }

    /// The addresses, as bytes, and the parameters behind them.
    fn read(&self) -> (Vec<Vec<u8>>, &'a [u8]) {
        let (entries, end) = address_list::path(&self.text);
        let addresses = entries.iter().map(|e| self.bytes(&e.address)).collect();
        let end = match &self.text {
            Cow::Borrowed(_) => end,
            Cow::Owned(text) => text[..end].chars().count(),
        };
        (addresses, &self.raw[end..])
    }

    fn bytes(&self, text: &str) -> Vec<u8> {
        let of =
            |c: char| u8::try_from(u32::from(c).checked_sub(BYTES).unwrap_or(u32::from(c))).unwrap_or(b'?');
        match &self.text {
            Cow::Borrowed(_) => text.as_bytes().to_vec(),
            Cow::Owned(_) => text.chars().map(of).collect(),
        }
    }
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
            ("MAIL FROM:a b@c", "unusable a b@c"),
            ("MAIL FROM:dev@x AUTH=<>", "<dev@x>"),
            ("MAIL FROM:dev@x AUTH=<z@y> SIZE=1", "<dev@x>"),
            ("MAIL FROM:<dev@x> AUTH=z@y", "<dev@x>"),
            ("MAIL FROM:<> AUTH=<z@y>", "<>"),
            ("MAIL FROM:<> SMTPUTF8", "<>"),
            ("MAIL FROM: SIZE=1 AUTH=<z@y>", "<>"),
            ("MAIL FROM:scanner AUTH=<z@y>", "unusable scanner"),
            ("MAIL FROM:'a@b'", "<a@b>"),
            ("MAIL FROM:<\"a@b\">", "<a@b>"),
            ("MAIL FROM:smtp:a@b SIZE=1", "<a@b>"),
            ("MAIL FROM:<mailto:a@b>", "<a@b>"),
            ("MAIL FROM:[SMTP:a@b]", "<a@b>"),
            ("MAIL FROM:<a@b> (scanner)", "<a@b>"),
            ("MAIL FROM:\"Doe, J <x@y>\" <a@b>", "<a@b>"),
        ] {
            assert_eq!(from(line), path, "{line}");
        }
        assert!(matches!(
            parse(b"MAIL FROM:<\x83\x58@b>"),
            Ok(Command::Mail { from: ReversePath::Unusable(said), .. }) if said == "\\x83X@b"
        ));
    }

    #[test]
    fn a_name_in_the_charset_of_the_device_is_no_trouble_for_its_address() {
        let to = parse(b"RCPT TO:\"\x83\x58\x83L, \xa0\" <a@b> X=\xff");
        assert_eq!(to, Ok(Command::Rcpt(vec!["a@b".parse().unwrap()])));
        match parse(b"MAIL FROM:\x83\x58 <a@b> SIZE=7 X=\xff") {
            Ok(Command::Mail { from, parameters }) => {
                assert_eq!((from.to_string().as_str(), parameters.size_bytes), ("<a@b>", 7));
                assert_eq!(parameters.unknown, ["X=\\xff"]);
            }
            other => panic!("{other:?}"),
        }
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
            ("RCPT TO:a@x ORCPT=rfc822;<b@y>", "a@x"),
            ("RCPT TO:<a@x> ORCPT=rfc822;<b@y>", "a@x"),
            ("RCPT TO:<a@x>ORCPT=rfc822;<b@y>", "a@x"),
            ("RCPT TO:a@x NOTIFY=NEVER ORCPT=rfc822;b@y,<c@z>", "a@x"),
            ("RCPT TO:<a@x> foo <b@y>", "a@x"),
            ("RCPT TO:a@b.", "a@b"),
            ("RCPT TO:<a@b..>", "a@b"),
            ("RCPT TO:'a@b'", "a@b"),
            ("RCPT TO:\"a@b\"", "a@b"),
            ("RCPT TO:<'a@b'>,<'c@d'>", "a@b c@d"),
            ("RCPT TO:SMTP:a@b", "a@b"),
            ("RCPT TO:SMTP=a@b", "a@b"),
            ("RCPT TO:<smtp:a@b;smtp:c@d>", "a@b c@d"),
            ("RCPT TO:[SMTP:a@b]", "a@b"),
            ("RCPT TO:mailto:a@b?subject=x", "a@b"),
            ("RCPT TO:a@b (the boss)", "a@b"),
            ("RCPT TO:<a(x)@b>", "a@b"),
            ("RCPT TO:Team: a@b, c@d;", "a@b c@d"),
            ("RCPT TO:a@b c@d", "a@b c@d"),
            ("RCPT TO:<\"a@b\"@c>", "\"a@b\"@c"),
            ("RCPT TO:@x:a@b", "a@b"),
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
            ("RCPT TO:john smith@c", Character),
            ("RCPT TO:c, a@b", Character),
            ("RCPT TO:a@b, c", Incomplete),
            ("RCPT TO:a@b, c%d@e SIZE=1", Routing),
            ("RCPT TO:'a%b@c'", Routing),
            ("RCPT TO:smtp:a!b@c", Routing),
            ("RCPT TO:<@x:smtp:a@b@c>", Routing),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::Recipient(why)), "{line}");
        }
        assert_eq!(parse(b"RCPT TO:<\xff@b>"), Err(CommandError::Recipient(Character)));
        assert_eq!(parse(b"RCPT TO:\x83\xa0b@c"), Err(CommandError::Recipient(Character)));
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
