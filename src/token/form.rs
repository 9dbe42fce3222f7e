//! Request bodies: form fields, some of them secret.
//!
//! Invariant: a body is wiped when dropped, and never grows once a secret is in it (growing would leave a
//! copy). Must not know: which grant it is for.

use secrecy::zeroize::Zeroizing;

/// Room for everything a grant needs: an assertion or a refresh token is 1 to 2 KiB, escaped at most thrice
/// that.
const ROOM_BYTES: usize = 16 * 1024;

/// The fields, as `application/x-www-form-urlencoded`.
pub(super) fn encode(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let needed: usize = fields.iter().map(|(k, v)| k.len() + 3 * v.len() + 2).sum();
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(needed.max(ROOM_BYTES)));
    form.extend_pairs(fields);
    Zeroizing::new(form.finish().into_bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_secret_with_every_awkward_character_survives() {
        let body = super::encode(&[("client_secret", "a&b=c+d e~f%g/ü"), ("scope", "https://x/.default")]);
        let back: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        assert_eq!(back[0].1, "a&b=c+d e~f%g/ü");
        assert_eq!(back[1].1, "https://x/.default");
        assert!(!body.contains(&b' '));
    }
}
