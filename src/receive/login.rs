//! AUTH PLAIN and AUTH LOGIN (RFC 4954), as devices speak them.
//!
//! Invariant: a secret lives in zeroizing memory only, is compared in constant time and never printed.
//! Must not know: who is admitted; a login admits nobody.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};

/// Devices leave the padding out, or set bits that no byte uses.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

type Secret = Zeroizing<Vec<u8>>;

/// An exchange that is under way: what the next line is.
#[derive(Debug)]
pub enum Exchange {
    /// The response of AUTH PLAIN.
    Plain,
    /// The user name of AUTH LOGIN.
    User,
    /// The password of AUTH LOGIN, in base64 still, with the user name before it.
    Password(Secret),
}

/// What to do next.
#[derive(Debug)]
pub enum Turn {
    /// Send this and wait for a line.
    Ask(&'static str, Exchange),
    /// User name and password are known; both may be garbage.
    Credentials(Option<Credentials>),
    /// `*`.
    Cancelled,
    /// Not a mechanism that is offered.
    Mechanism,
}

/// What a device claims to be.
pub struct Credentials {
    user: Secret,
    password: Secret,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Begins with the AUTH command.
pub fn begin(mechanism: &str, initial: Option<Secret>) -> Turn {
    match (mechanism, initial) {
        ("PLAIN", None) => Turn::Ask("334 \r\n", Exchange::Plain),
        ("LOGIN", None) => Turn::Ask("334 VXNlcm5hbWU6\r\n", Exchange::User),
        ("PLAIN", Some(response)) => next(Exchange::Plain, &response),
        ("LOGIN", Some(user)) => next(Exchange::User, &user),
        _ => Turn::Mechanism,
    }
}

/// Goes on with a line of the device.
pub fn next(exchange: Exchange, line: &[u8]) -> Turn {
    let line = line.trim_ascii();
    if line == b"*" {
        return Turn::Cancelled;
    }
    match exchange {
        Exchange::Plain => Turn::Credentials(plain(line)),
        Exchange::User => {
            Turn::Ask("334 UGFzc3dvcmQ6\r\n", Exchange::Password(Zeroizing::new(line.to_vec())))
        }
        Exchange::Password(user) => Turn::Credentials(
            decoded(&user).zip(decoded(line)).map(|(user, password)| Credentials { user, password }),
        ),
    }
}

fn decoded(line: &[u8]) -> Option<Secret> {
    if line == b"=" {
        return Some(Zeroizing::default());
    }
    BASE64.decode(line).ok().map(Zeroizing::new)
}

/// RFC 4616: authorization identity NUL user NUL password.
fn plain(line: &[u8]) -> Option<Credentials> {
    let response = decoded(line)?;
    let mut parts = response.splitn(3, |b| *b == 0).skip(1);
    let (user, password) = (parts.next()?, parts.next()?);
    Some(Credentials { user: Zeroizing::new(user.to_vec()), password: Zeroizing::new(password.to_vec()) })
}

impl Credentials {
    /// The user whose login this is. Looks at every user, whichever matches.
    pub fn check<'a>(&self, users: &'a [(String, SecretString)]) -> Option<&'a str> {
        let mut found = None;
        for (user, password) in users {
            let same: Choice = self.user.as_slice().ct_eq(user.as_bytes())
                & self.password.as_slice().ct_eq(password.expose_secret().as_bytes());
            if bool::from(same) {
                found = Some(user.as_str());
            }
        }
        found
    }

    /// The name claimed; peer text.
    pub fn user(&self) -> &[u8] {
        &self.user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<(String, SecretString)> {
        vec![("printer".into(), "s3cret".into()), ("camera".into(), "".into())]
    }

    fn b64(text: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.encode(text).into_bytes()
    }

    fn login(mechanism: &str, initial: Option<&str>, lines: &[&str]) -> Result<Option<String>, Turn> {
        let mut turn = begin(mechanism, initial.map(|t| Zeroizing::new(b64(t))));
        for line in lines {
            match turn {
                Turn::Ask(_, exchange) => turn = next(exchange, &b64(line)),
                other => return Err(other),
            }
        }
        match turn {
            Turn::Credentials(Some(c)) => Ok(c.check(&users()).map(ToOwned::to_owned)),
            other => Err(other),
        }
    }

    #[test]
    fn both_mechanisms_with_and_without_an_initial_response() {
        let printer = Some("printer".to_owned());
        assert_eq!(login("PLAIN", Some("\0printer\0s3cret"), &[]).unwrap(), printer);
        assert_eq!(login("PLAIN", None, &["anyone\0printer\0s3cret"]).unwrap(), printer);
        assert_eq!(login("LOGIN", None, &["printer", "s3cret"]).unwrap(), printer);
        assert_eq!(login("LOGIN", Some("printer"), &["s3cret"]).unwrap(), printer);
        assert_eq!(login("LOGIN", None, &["camera", ""]).unwrap(), Some("camera".to_owned()));
    }

    #[test]
    fn a_wrong_or_partial_login_is_none() {
        for response in ["\0printer\0s3cre", "\0printer\0s3cretx", "\0camera\0s3cret", "\0\0", "\0printer\0"]
        {
            assert_eq!(login("PLAIN", Some(response), &[]).unwrap(), None, "{response:?}");
        }
        assert!(matches!(login("PLAIN", Some("printer"), &[]), Err(Turn::Credentials(None))));
        assert!(matches!(login("CRAM-MD5", None, &[]), Err(Turn::Mechanism)));
        assert!(matches!(next(Exchange::User, b"*\r\n"), Turn::Cancelled));
        assert!(matches!(next(Exchange::Plain, b"%%%"), Turn::Credentials(None)));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let turn = begin("PLAIN", Some(Zeroizing::new(b64("\0printer\0s3cret"))));
        assert!(!format!("{turn:?}").contains("115"), "no bytes of it either");
    }
}
