//! What a server announced in its answer to EHLO.
//!
//! Invariant: nothing announced is lost and no odd line is an error; a keyword nobody knows is simply kept.
//! Must not know: which of it is used.

use crate::mail::Reply;

/// The announced keywords with their parameters, in the server's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    keywords: Vec<(String, String)>,
}

impl Capabilities {
    /// Reads the lines behind the greeting. `AUTH=LOGIN` (as before RFC 2554) is read as `AUTH LOGIN`.
    pub fn read(ehlo: &Reply) -> Self {
        let keywords = ehlo
            .text
            .split('\n')
            .skip(1)
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (keyword, parameters) =
                    line.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((line, ""));
                (keyword.to_ascii_uppercase(), parameters.trim().to_owned())
            })
            .collect();
        Self { keywords }
    }

    /// Whether the keyword was announced; its name in capitals.
    pub fn has(&self, keyword: &str) -> bool {
        self.keywords.iter().any(|(k, _)| k == keyword)
    }

    /// The largest message the server takes, in bytes (RFC 1870); none when it does not say or says 0.
    pub fn max_size_bytes(&self) -> Option<u64> {
        self.keywords
            .iter()
            .filter(|(k, _)| k == "SIZE")
            .find_map(|(_, p)| p.split_whitespace().next()?.parse().ok())
            .filter(|size| *size > 0)
    }

    /// Whether this AUTH mechanism was announced, on whichever line.
    pub fn has_auth(&self, mechanism: &str) -> bool {
        self.auth_mechanisms().any(|m| m.eq_ignore_ascii_case(mechanism))
    }

    /// Every AUTH mechanism, as announced.
    pub fn auth_mechanisms(&self) -> impl Iterator<Item = &str> {
        self.keywords.iter().filter(|(k, _)| k == "AUTH").flat_map(|(_, p)| p.split([' ', '\t', '=', ',']))
    }

    /// Keywords and parameters as announced, for people. Peer text: escape before printing.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keywords.iter().map(|(k, p)| (k.as_str(), p.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_announcements_are_read_for_what_they_are() {
        let capabilities = Capabilities::read(&Reply::new(
            250,
            "AM0PR01CA0001.outlook.office365.com Hello [192.0.2.1]\nSIZE 157286400\npipelining\nAUTH=LOGIN\n\
             AUTH XOAUTH2 X-NEW-ONE\n\nXCLIENT NAME=x y\n8BITMIME \n=\n\u{fffd}\u{fffd}",
        ));
        assert_eq!(capabilities.max_size_bytes(), Some(157_286_400));
        assert!(
            capabilities.has("PIPELINING") && capabilities.has("8BITMIME") && !capabilities.has("STARTTLS")
        );
        assert!(capabilities.has_auth("login") && capabilities.has_auth("X-NEW-ONE"));
        assert!(!capabilities.has_auth("PLAIN"));
        assert!(!capabilities.has("AM0PR01CA0001.OUTLOOK.OFFICE365.COM"), "the greeting is no keyword");
        assert_eq!(capabilities.lines().last(), Some(("\u{fffd}\u{fffd}", "")));
    }

    #[test]
    fn a_size_of_nothing_is_no_limit() {
        for (line, limit) in [
            ("SIZE", None),
            ("SIZE 0", None),
            ("SIZE many", None),
            ("SIZE=1000", Some(1000)),
            ("SIZE 99999999999999999999999", None),
        ] {
            let reply = Reply::new(250, &format!("host\n{line}"));
            assert_eq!(Capabilities::read(&reply).max_size_bytes(), limit, "{line}");
        }
        assert_eq!(Capabilities::read(&Reply::new(250, "host")), Capabilities::default());
    }
}
