//! Mailbox addresses and the reverse-path.
//!
//! Invariant: a `Mailbox` is safe to put between `<` and `>` in a command: no control, no space or bracket
//! outside a quoted local part, exactly one routing `@`; nor anything invisible, so it can be shown as it is. Its
//! domain is in lower case. What is written of it is read back as the same.
//! Tolerance of odd command syntax lives in `receive::command`; here an address is right or it is not.

use super::text::is_invisible;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// RFC 5321 section 4.5.3.1: 64 octets; devices with long job names pass it, servers take more.
const MAX_LOCAL_BYTES: usize = 128;
const MAX_DOMAIN_BYTES: usize = 255;

/// `local@domain`. UTF-8 (RFC 6531) is allowed; see `is_ascii`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mailbox {
    local: String,
    domain: String,
}

/// Why a text is not a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`, or nothing before or behind it.
    #[error("not an address: expected name@domain")]
    Incomplete,
    /// `a%b@c`, `a!b@c`, `a@b@c`: asks for relaying through somebody.
    #[error("routing in an address (%, ! or a second @) is not allowed")]
    Routing,
    /// A character that cannot stand there.
    #[error("not an address: it has a character that is not allowed")]
    Character,
    /// Longer than RFC 5321 section 4.5.3.1 (with some mercy) allows.
    #[error("the address is too long")]
    Length,
}

impl Mailbox {
    /// The part before the `@`, quotes included.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain or address literal, in lower case.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether it can be sent without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }

    /// The same address in ASCII, its domain in A-labels (RFC 5890), as every server takes it; as it is where its
    /// local part is beyond ASCII.
    pub fn in_ascii(&self) -> Self {
        if self.domain.is_ascii() || !self.local.is_ascii() {
            return self.clone();
        }
        let domain = idna::domain_to_ascii(&self.domain).ok();
        domain.and_then(|d| format!("{}@{d}", self.local).parse().ok()).unwrap_or_else(|| self.clone())
    }

    /// The same mailbox as far as anybody but its own server may tell (Exchange ignores case).
    pub fn is_same(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local.to_lowercase() == other.local.to_lowercase()
    }

    /// Whether its domain is a literal, a bare IPv4 address, or has no dot: nothing a smart host takes as sender.
    pub fn has_public_domain(&self) -> bool {
        self.domain.contains('.')
            && !self.domain.starts_with('[')
            && self.domain.parse::<std::net::Ipv4Addr>().is_err()
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, AddressError> {
        let quoted_end = quoted_prefix(s)?;
        let at = match quoted_end {
            Some(end) if s[end..].starts_with('@') => end,
            Some(_) => return Err(AddressError::Character),
            None => s.find('@').ok_or(AddressError::Incomplete)?,
        };
        // Judged as it will be stored: lower case can be longer, and of other characters (U+0130).
        let (local, domain) = (&s[..at], s[at + 1..].to_lowercase());
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Incomplete);
        }
        if local.len() > MAX_LOCAL_BYTES || domain.len() > MAX_DOMAIN_BYTES {
            return Err(AddressError::Length);
        }
        if domain.contains('@') || local.contains(['%', '!']) {
            return Err(AddressError::Routing);
        }
        if quoted_end.is_none() && !is_dot_string(local) {
            return Err(AddressError::Character);
        }
        if !is_domain(&domain) && !is_literal(&domain) {
            return Err(AddressError::Character);
        }
        Ok(Self { local: local.to_owned(), domain })
    }
}

/// The end of a leading quoted local part; `None` when the text does not begin with a quote.
fn quoted_prefix(s: &str) -> Result<Option<usize>, AddressError> {
    if !s.starts_with('"') {
        return Ok(None);
    }
    let mut escaped = false;
    for (i, c) in s.char_indices().skip(1) {
        match c {
            c if c.is_control() || is_invisible(c) => return Err(AddressError::Character),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if i > 1 => return Ok(Some(i + 1)),
            '"' => return Err(AddressError::Incomplete),
            _ => {}
        }
    }
    Err(AddressError::Incomplete)
}

/// Atoms between dots. A leading, doubled or trailing dot is against RFC 5321, but Japanese carriers issued such
/// addresses and Exchange takes them in part, so that is the smart host's to judge.
fn is_dot_string(local: &str) -> bool {
    local.chars().all(|c| {
        !c.is_ascii() && !c.is_control() && !c.is_whitespace() && !is_invisible(c)
            || c.is_ascii_alphanumeric()
            || "#$&'*+-/=?^_`{|}~.".contains(c)
    })
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| {
                if c.is_ascii() {
                    c.is_ascii_alphanumeric() || c == '-' || c == '_'
                } else {
                    c.is_alphanumeric()
                }
            })
    })
}

fn is_literal(domain: &str) -> bool {
    let Some(inner) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) else { return false };
    inner.parse::<std::net::Ipv4Addr>().is_ok()
        || inner
            .get(..5)
            .filter(|tag| tag.eq_ignore_ascii_case("IPv6:"))
            .is_some_and(|_| inner[5..].parse::<std::net::Ipv6Addr>().is_ok())
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl From<Mailbox> for String {
    fn from(m: Mailbox) -> Self {
        m.to_string()
    }
}

impl TryFrom<String> for Mailbox {
    type Error = AddressError;
    fn try_from(s: String) -> Result<Self, AddressError> {
        s.parse()
    }
}

/// MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReversePath {
    /// `<>`: a status mail; never answered.
    Null,
    /// An address.
    Mailbox(Mailbox),
    /// What a device said in place of an address (`ilo.@`, `x`, Shift_JIS bytes), in escaped form: accepted,
    /// kept for the log, and never sent on or answered.
    Unusable(String),
}

impl ReversePath {
    /// The address to tell about a failure, if there is one.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Mailbox(m) => Some(m),
            _ => None,
        }
    }
}

impl fmt::Display for ReversePath {
    /// `<a@b>`, `<>`, or the escaped words of the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(m) => write!(f, "<{m}>"),
            Self::Unusable(said) => write!(f, "<{said}>"),
        }
    }
}

/// `a@b`, `*@b`, `*@*.b` or `*`, as in `allowed_recipients` and `send_as`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum AddressPattern {
    /// Every address.
    Any,
    /// One address; the case of both parts is ignored.
    One(Mailbox),
    /// Every address of the domain.
    Domain(String),
    /// Every address of a domain below this one.
    Below(String),
}

impl AddressPattern {
    /// Whether the address is one of these.
    pub fn matches(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Any => true,
            Self::One(m) => m.is_same(mailbox),
            Self::Domain(d) => mailbox.domain() == d,
            Self::Below(d) => {
                mailbox.domain().strip_suffix(d.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }
}

impl FromStr for AddressPattern {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, AddressError> {
        if s == "*" || s == "*@*" {
            return Ok(Self::Any);
        }
        let domain = |d: &str| {
            let d = d.to_lowercase();
            if is_domain(&d) { Ok(d) } else { Err(AddressError::Character) }
        };
        if let Some(below) = s.strip_prefix("*@*.") {
            return domain(below).map(Self::Below);
        }
        if let Some(of) = s.strip_prefix("*@") {
            return domain(of).map(Self::Domain);
        }
        s.parse().map(Self::One)
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(m) => write!(f, "{m}"),
            Self::Domain(d) => write!(f, "*@{d}"),
            Self::Below(d) => write!(f, "*@*.{d}"),
        }
    }
}

impl From<AddressPattern> for String {
    fn from(p: AddressPattern) -> Self {
        p.to_string()
    }
}

impl TryFrom<String> for AddressPattern {
    type Error = AddressError;
    fn try_from(s: String) -> Result<Self, AddressError> {
        s.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_devices_and_people_use_are_read() {
        for good in [
            "scanner@contoso.com",
            "o'brien+scan@contoso.com",
            "\"front desk\"@contoso.com",
            "\"a@b\"@contoso.com",
            "x@[192.0.2.1]",
            "x@[IPv6:2001:db8::1]",
            "jürgen@münchen.example",
            "a.@docomo.example",
            "printer@print_server",
        ] {
            assert_eq!(
                good.parse::<Mailbox>().unwrap().to_string().to_lowercase(),
                good.to_lowercase(),
                "{good}"
            );
        }
        assert_eq!("A@CONTOSO.com".parse::<Mailbox>().unwrap().to_string(), "A@contoso.com");
    }

    #[test]
    fn a_domain_beyond_ascii_has_a_form_that_everybody_takes() {
        for (address, ascii) in [
            ("a@contoso.com", "a@contoso.com"),
            ("A@München.example", "A@xn--mnchen-3ya.example"),
            ("a@straße.example", "a@xn--strae-oqa.example"),
            ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
            ("a@büro.xn--mnchen-3ya.example", "a@xn--bro-hoa.xn--mnchen-3ya.example"),
            ("jürgen@münchen.example", "jürgen@münchen.example"),
            ("\"a b\"@münchen.example", "\"a b\"@xn--mnchen-3ya.example"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("a@print_server", "a@print_server"),
        ] {
            assert_eq!(address.parse::<Mailbox>().unwrap().in_ascii().to_string(), ascii, "{address}");
        }
        // Labels are counted as they are written; one that grows too long stays.
        let long = format!("a@{}.example", "\u{4f8b}\u{3048}".repeat(10)).parse::<Mailbox>().unwrap();
        assert!(long.in_ascii().is_ascii() || long.in_ascii() == long);
    }

    #[test]
    fn what_could_route_or_break_a_command_is_refused() {
        use AddressError::{Character, Incomplete, Length, Routing};
        let long = format!("{}@b", "x".repeat(129));
        for (bad, why) in [
            ("", Incomplete),
            ("scanner", Incomplete),
            ("@contoso.com", Incomplete),
            ("scanner@", Incomplete),
            ("a%b@c.example", Routing),
            ("a!b@c.example", Routing),
            ("a@b@c.example", Routing),
            ("a b@c.example", Character),
            ("a@b c", Character),
            ("a>b@c", Character),
            ("a@b>", Character),
            ("a\r\n@b", Character),
            ("a@b..c", Character),
            ("\"a\r\"@b", Character),
            ("\"a\"b@c", Character),
            (long.as_str(), Length),
        ] {
            assert_eq!(bad.parse::<Mailbox>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn what_is_read_can_be_stored_and_read_again() {
        let grown = format!("x@{}.example", "\u{23a}".repeat(31));
        for text in ["x@\u{130}.example", "x@\u{212a}.example", grown.as_str(), "\"a b\"@B.example"] {
            let Ok(mailbox) = text.parse::<Mailbox>() else { continue };
            assert_eq!(mailbox.to_string().parse(), Ok(mailbox), "{text}");
        }
        assert_eq!("x@\u{130}.example".parse::<Mailbox>(), Err(AddressError::Character));
        assert_eq!(grown.parse::<Mailbox>(), Err(AddressError::Character), "a label of 93 bytes");
    }

    #[test]
    fn an_address_hides_nothing_from_a_reader() {
        for c in ['\u{202e}', '\u{200b}', '\u{feff}', '\u{61c}'] {
            for text in [format!("a{c}b@contoso.com"), format!("\"a{c}b\"@contoso.com")] {
                assert_eq!(text.parse::<Mailbox>(), Err(AddressError::Character), "{text:?}");
            }
        }
    }

    #[test]
    fn patterns_match_what_they_say() {
        let m = |s: &str| s.parse::<Mailbox>().unwrap();
        for (pattern, address, matches) in [
            ("*", "a@b.example", true),
            ("*@contoso.com", "A@CONTOSO.COM", true),
            ("*@contoso.com", "a@sub.contoso.com", false),
            ("*@*.contoso.com", "a@sub.contoso.com", true),
            ("*@*.contoso.com", "a@contoso.com", false),
            ("*@*.contoso.com", "a@evilcontoso.com", false),
            ("it@contoso.com", "IT@contoso.com", true),
            ("it@contoso.com", "its@contoso.com", false),
        ] {
            let p: AddressPattern = pattern.parse().unwrap();
            assert_eq!(p.matches(&m(address)), matches, "{pattern} {address}");
            assert_eq!(p.to_string().parse::<AddressPattern>().unwrap(), p);
        }
    }
}
