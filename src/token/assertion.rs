//! A signed statement in place of a client secret (RFC 7523 section 2.2), as Microsoft wants it: PS256, and
//! the certificate named by its SHA-256.
//!
//! Invariant: an `Assertion` holds a key that fits its certificate and can sign PS256. Must not know: HTTP,
//! clocks.

use super::SettingsError;
use crate::mail::WallTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, SignatureScheme};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;
use x509_cert::der::Decode;

/// Microsoft advises five to ten minutes.
const LIFETIME_S: i64 = 600;

/// A certificate and its key, ready to sign.
pub struct Assertion {
    key: Arc<dyn SigningKey>,
    thumbprint: String,
    not_after: WallTime,
}

impl Assertion {
    /// Reads both from PEM.
    ///
    /// # Errors
    /// When one cannot be read, they do not belong together, or the key is not RSA.
    pub fn new(certificate: &str, key: &SecretString) -> Result<Self, SettingsError> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|e| {
            SettingsError::new("certificate", format!("not a PEM certificate: {e}"), PEM_CERTIFICATE)
        })?;
        let x509 = x509_cert::Certificate::from_der(&certificate).map_err(|e| {
            SettingsError::new("certificate", format!("not a certificate: {e}"), PEM_CERTIFICATE)
        })?;
        let der = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| SettingsError::new("key", "not a PEM private key", PEM_KEY))?;
        let key = any_supported_type(&der)
            .map_err(|_| SettingsError::new("key", "a private key that cannot be used", PEM_KEY))?;
        if key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]).is_none() {
            return Err(SettingsError::new(
                "key",
                "not an RSA key",
                "microsoft takes PS256, so make an RSA key of 2048 bits",
            ));
        }
        let both = CertifiedKey::new(vec![certificate], Arc::clone(&key));
        if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = both.keys_match() {
            return Err(SettingsError::new(
                "key",
                "does not belong to the certificate",
                "name the two files made together",
            ));
        }
        let not_after = x509.tbs_certificate().validity().not_after.to_unix_duration().as_millis();
        Ok(Self {
            key,
            thumbprint: URL_SAFE_NO_PAD
                .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &both.cert[0]).as_ref()),
            not_after: WallTime::from_ms(i64::try_from(not_after).unwrap_or(i64::MAX)),
        })
    }

    /// The certificate's end.
    pub fn not_after(&self) -> WallTime {
        self.not_after
    }

    /// The signed statement of `client_id` to `audience`, good for ten minutes from `now`. `id` must be new
    /// each time.
    ///
    /// # Errors
    /// When the crypto library cannot sign.
    pub fn sign(
        &self,
        client_id: &str,
        audience: &str,
        id: [u8; 16],
        now: WallTime,
    ) -> Result<Zeroizing<String>, Error> {
        let header = serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint });
        let from = now.as_ms().div_euclid(1000);
        let claims = serde_json::json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": from, "nbf": from, "exp": from + LIFETIME_S,
        });
        let encode = |v: &serde_json::Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signer = self
            .key
            .choose_scheme(&[SignatureScheme::RSA_PSS_SHA256])
            .expect("`new` made sure that the key can sign PS256");
        let signature = signer.sign(signed.as_bytes())?;
        Ok(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

const PEM_CERTIFICATE: &str =
    "the file that was uploaded to the app, beginning with -----BEGIN CERTIFICATE-----";
const PEM_KEY: &str = "an RSA key without a passphrase, beginning with -----BEGIN PRIVATE KEY----- \
                       (openssl pkey -in old.pem -out new.pem removes one)";

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assertion({})", self.thumbprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate and its key, made by rcgen.
    fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, SecretString) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2027, 3, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem().into())
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let (certificate, key) = pair(&rcgen::PKCS_RSA_SHA256);
        let a = Assertion::new(&certificate, &key).unwrap();
        assert_eq!(a.not_after().to_string(), "2027-03-01T00:00:00Z");
    }

    #[test]
    fn a_key_that_cannot_sign_for_its_certificate_is_told_at_once() {
        let (certificate, key) = pair(&rcgen::PKCS_RSA_SHA256);
        let (_, another) = pair(&rcgen::PKCS_RSA_SHA256);
        let (elliptic_certificate, elliptic) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        let cases = [
            ("certificate", "", &key),
            ("certificate", key.expose_secret(), &key),
            ("key", &certificate, &SecretString::from("")),
            ("key", &certificate, &SecretString::from(certificate.as_str())),
            ("key", &certificate, &another),
            ("key", &elliptic_certificate, &elliptic),
        ];
        for (part, certificate, key) in cases {
            let e = Assertion::new(certificate, key).unwrap_err();
            assert_eq!(e.key, part, "{e}");
            assert!(!e.to_string().contains("MII"), "{e}");
        }
    }

    #[test]
    fn an_assertion_names_the_application_the_endpoint_and_ten_minutes() {
        let (certificate, key) = pair(&rcgen::PKCS_RSA_SHA256);
        let a = Assertion::new(&certificate, &key).unwrap();
        let now = WallTime::from_ms(1_795_435_200_999);
        let jwt = a.sign("app", "https://login/token", [7; 16], now).unwrap();
        let parts: Vec<serde_json::Value> = jwt
            .split('.')
            .take(2)
            .map(|p| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(p).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0]["alg"], "PS256");
        assert_eq!(parts[0]["x5t#S256"].as_str().unwrap().len(), 43);
        assert_eq!(
            parts[1],
            serde_json::json!({"aud": "https://login/token", "iss": "app", "sub": "app",
                "jti": "BwcHBwcHBwcHBwcHBwcHBw", "iat": 1_795_435_200, "nbf": 1_795_435_200, "exp": 1_795_435_800})
        );
    }
}
