//! The proxy that stands between this host and the rest of the world, for what goes over TLS.
//!
//! Invariant: its password is in no `Debug` and no error; nothing but the tunnel is asked of it, so it sees names and
//! no contents. Must not know: connections.

use super::Uri;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// Why an address is no proxy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not `http://host:port`.
    #[error("not the address of a proxy: expected http://host:port")]
    Address,
    /// A proxy that wants TLS itself.
    #[error("a proxy over https is not supported: expected http://host:port")]
    Scheme,
}

/// Where it is, and for whom it is not asked.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    login: Option<SecretString>,
    not_for: Vec<String>,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`. A host of `not_for`, or one below it, is connected to straight.
    ///
    /// # Errors
    /// It is no such address.
    pub fn new(address: &SecretString, not_for: &[String]) -> Result<Self, ProxyError> {
        let url: Uri = address.expose_secret().trim().parse().map_err(|_| ProxyError::Address)?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(ProxyError::Scheme),
            _ => return Err(ProxyError::Address),
        }
        if url.path() != "/" || url.query().is_some() {
            return Err(ProxyError::Address);
        }
        let authority = url.authority().ok_or(ProxyError::Address)?;
        let host = super::host(&url);
        if host.is_empty() {
            return Err(ProxyError::Address);
        }
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| {
            let plain = percent_encoding::percent_decode_str(login).collect::<Vec<u8>>();
            SecretString::from(STANDARD.encode(Zeroizing::new(plain)))
        });
        let not_for = not_for.iter().map(|h| h.trim_start_matches('.').to_ascii_lowercase()).collect();
        Ok(Self { host: host.to_owned(), port: url.port_u16().unwrap_or(3128), login, not_for })
    }

    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Whether it stands between us and this host. Never before our own: no proxy reaches a loopback of ours.
    pub(super) fn stands_before(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let is_loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_excepted = self.not_for.iter().any(|except| {
            host == *except || host.strip_suffix(except.as_str()).is_some_and(|rest| rest.ends_with('.'))
        });
        !is_loopback && !is_excepted
    }

    /// The request for a tunnel.
    pub(super) fn connect(&self, host: &str, port: u16) -> Zeroizing<Vec<u8>> {
        let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let login = self
            .login
            .as_ref()
            .map_or_else(String::new, |l| format!("Proxy-Authorization: Basic {}\r\n", l.expose_secret()));
        Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n").into_bytes())
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let login = |p: &Self| p.login.as_ref().map(|l| l.expose_secret().to_owned());
        (&self.host, self.port, &self.not_for) == (&other.host, other.port, &other.not_for)
            && login(self) == login(other)
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

/// The status in the first line of a proxy's answer.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?;
    let text = std::str::from_utf8(line.get(2..5)?).ok()?;
    text.parse().ok().filter(|s| (100..=599).contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(address: &str) -> Result<Proxy, ProxyError> {
        Proxy::new(&address.into(), &["contoso.local".to_owned(), ".intra".to_owned()])
    }

    #[test]
    fn an_address_is_read_or_refused() {
        for (address, host, port) in [
            ("http://proxy.contoso.local:8080", "proxy.contoso.local", 8080),
            ("http://proxy.contoso.local", "proxy.contoso.local", 3128),
            ("http://10.0.0.1:3128/", "10.0.0.1", 3128),
            ("http://[fd00::1]:3128", "fd00::1", 3128),
            ("http://user:pass@proxy:3128", "proxy", 3128),
            ("http://user:p%40ss@proxy:3128\n", "proxy", 3128),
        ] {
            assert_eq!(proxy(address).unwrap().address(), (host, port), "{address}");
        }
        for address in ["", "proxy:8080", "proxy", "ftp://proxy:1", "http://proxy/path", "http://:80"] {
            assert_eq!(proxy(address), Err(ProxyError::Address), "{address}");
        }
        assert_eq!(proxy("https://proxy:8080"), Err(ProxyError::Scheme));
    }

    #[test]
    fn the_tunnel_is_asked_for_by_name_with_the_login_and_the_login_is_nowhere_else() {
        let plain = proxy("http://proxy:8080").unwrap();
        assert_eq!(
            *plain.connect("login.microsoftonline.com", 443),
            b"CONNECT login.microsoftonline.com:443 HTTP/1.1\r\nHost: login.microsoftonline.com:443\r\n\r\n"
        );
        let with_login = proxy("http://relay:p%40ss@proxy:8080").unwrap();
        let asked = String::from_utf8(with_login.connect("::1", 443).to_vec()).unwrap();
        assert!(asked.starts_with("CONNECT [::1]:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nProxy-Authorization: Basic cmVsYXk6cEBzcw==\r\n"), "{asked}");
        assert_eq!(format!("{with_login:?}"), "Proxy(proxy:8080)");
    }

    #[test]
    fn who_is_near_is_asked_straight() {
        let proxy = proxy("http://proxy:8080").unwrap();
        for (host, stands_before) in [
            ("login.microsoftonline.com", true),
            ("hooks.Contoso.local", false),
            ("contoso.local", false),
            ("notcontoso.local", true),
            ("teams.intra", false),
            ("localhost", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("10.0.0.1", true),
        ] {
            assert_eq!(proxy.stands_before(host), stands_before, "{host}");
        }
    }

    #[test]
    fn a_proxys_first_line_is_read_strictly() {
        for (line, read) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 407 x\r\n\r\n", Some(407)),
            ("HTTP/1.1 999 x", None),
            ("220 smtp.example ESMTP\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), read, "{line}");
        }
    }
}
