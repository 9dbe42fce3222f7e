//! One address as devices and people write it, in a command as in a field.
//!
//! Invariant: leniency ends at the address itself: what is left of a text is a `Mailbox` or is refused.
//! Must not know: where it was written.

use super::token::{Token, Tokens, is_scheme, quoted_len, route_len};
use crate::letter::words::MAX_LINE_BYTES;
use crate::mail::{AddressError, Mailbox};

/// Reads an address. Forgiven are what stands around it (brackets, quotes, `mailto:`, `SMTP:`, `[SMTP:...]`), a
/// route, comments, and a dot behind the domain.
///
/// # Errors
/// As of `Mailbox`.
pub fn mailbox(written: &str) -> Result<Mailbox, AddressError> {
    let around = |c: char| c.is_ascii_whitespace() || matches!(c, '<' | '>');
    let plain = without_comments(written.trim_matches(around));
    let mut text = plain.as_str();
    if text.len() > MAX_LINE_BYTES {
        return Err(AddressError::Length);
    }
    loop {
        let before = text;
        text = text.trim_matches(around);
        text = without_route(without_wrapping(without_scheme(text)));
        if text == before {
            break;
        }
    }
    without_dot(text).parse()
}

/// `a (x) @ b` is `a@b`; any other blank stays, and is an error.
fn without_comments(written: &str) -> String {
    let mut tokens = Tokens::new(written);
    let mut out = String::with_capacity(written.len());
    let mut blank = false;
    while let Some((start, token)) = tokens.next() {
        match token {
            Token::Blank => blank = true,
            Token::Comment(_) => {}
            _ => {
                let piece = &written[start..tokens.at];
                if blank && !out.is_empty() && !out.ends_with('@') && !piece.starts_with('@') {
                    out.push(' ');
                }
                blank = false;
                out.push_str(piece);
            }
        }
    }
    out
}

/// `mailto:a@b?subject=x`, `SMTP=a@b`.
fn without_scheme(text: &str) -> &str {
    let Some((scheme, rest)) = text.find([':', '=']).map(|i| (&text[..i], &text[i + 1..])) else {
        return text;
    };
    if !is_scheme(scheme.trim_end()) || !rest.contains('@') {
        return text;
    }
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let domain = rest.find('@').unwrap_or(0);
    rest[domain..].find('?').map_or(rest, |query| &rest[..domain + query])
}

/// Quotes of all kinds and square brackets around a whole address.
fn without_wrapping(text: &str) -> &str {
    const PAIRS: [(char, char); 6] = [
        ('\'', '\''),
        ('`', '\''),
        ('`', '`'),
        ('\u{2018}', '\u{2019}'),
        ('\u{201c}', '\u{201d}'),
        ('[', ']'),
    ];
    let inner = if quoted_len(text) == Some(text.len()) && text.starts_with('"') {
        Some(&text[1..text.len() - 1])
    } else {
        PAIRS.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close))
    };
    inner.filter(|t| t.contains('@')).unwrap_or(text)
}

/// `@x,@y:a@b` is `a@b` (RFC 5321 appendix C).
fn without_route(text: &str) -> &str {
    route_len(text).map_or(text, |end| &text[end..])
}

/// A fully qualified name may end in a dot; SMTP does not write it.
fn without_dot(text: &str) -> &str {
    let bare = text.trim_end_matches('.');
    if bare.contains('@') && !bare.ends_with('@') { bare } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_whatever_stands_around_it() {
        for written in [
            "a@b.example",
            " a@b.example\t",
            "<a@b.example>",
            "<<a@b.example>>",
            "a@b.example>",
            "<a@b.example",
            "'a@b.example'",
            "\"a@b.example\"",
            "`a@b.example'",
            "\u{201c}a@b.example\u{201d}",
            "<'a@b.example'>",
            "'<a@b.example>'",
            "<\"a@b.example\">",
            "[a@b.example]",
            "smtp:a@b.example",
            "SMTP:a@b.example",
            "SMTP=a@b.example",
            "smtp: a@b.example",
            "[SMTP:a@b.example]",
            "<[SMTP:a@b.example]>",
            "mailto:a@b.example",
            "MailTo:<a@b.example>",
            "<mailto:a@b.example>",
            "mailto://a@b.example",
            "mailto:a@b.example?subject=x@y",
            "e-mail:a@b.example",
            "'smtp:a@b.example'",
            "a@b.example.",
            "a@b.example..",
            "<a@b.example.>",
            "a@B.Example",
            "@x.example:a@b.example",
            "<@x.example,@y.example:a@b.example>",
            "@[IPv6:::1]:a@b.example",
            "a@b.example (Anna)",
            "(x) a@b.example",
            "a(x)@b.example",
            "a (x) @ (y) b.example",
            "a @b.example",
            "a@ b.example",
        ] {
            assert_eq!(mailbox(written).map(|m| m.to_string()), Ok("a@b.example".to_owned()), "{written}");
        }
    }

    #[test]
    fn what_belongs_to_an_address_stays() {
        for written in [
            "\"a b\"@c.example",
            "\"a@b\"@c.example",
            "\"(a)\"@c.example",
            "\"a\\\"b\"@c.example",
            "o'brien@c.example",
            "'a@c.example",
            "a'@c.example",
            "mailto@c.example",
            "smtp@c.example",
            "prvs=1=a@c.example",
            "a@[192.0.2.1]",
            "a@[ipv6:2001:db8::1]",
            "a.@c.example",
            "a?b@c.example",
        ] {
            assert_eq!(mailbox(written).map(|m| m.to_string()), Ok(written.to_owned()), "{written}");
        }
    }

    #[test]
    fn what_is_no_address_is_none_whatever_stands_around_it() {
        use AddressError::{Character, Incomplete, Routing};
        for (written, why) in [
            ("", Incomplete),
            ("<>", Incomplete),
            ("scanner", Incomplete),
            ("'scanner'", Incomplete),
            ("mailto:scanner", Incomplete),
            ("x.", Incomplete),
            ("ilo.@", Incomplete),
            ("a@.", Character),
            ("@b.example", Incomplete),
            ("a b@c.example", Character),
            ("a@b c", Character),
            ("a@b.example:c@d.example", Routing),
            ("a%b@c.example", Routing),
            ("mailto:a!b@c.example", Routing),
            ("'a@b@c.example'", Routing),
            ("@x:a%b@c.example", Routing),
        ] {
            assert_eq!(mailbox(written), Err(why), "{written}");
        }
    }
}
