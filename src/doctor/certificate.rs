//! What a server's certificate says about itself, for people.
//!
//! Must not know: whether it is believed; rustls decides that.

use crate::mail::{Escaped, WallTime};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Exchange Online's has twenty and more.
const NAMES_SHOWN: usize = 3;

/// The parts an admin asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// Issuer and names, escaped.
    pub(super) said: String,
    /// Whole days until its end, rounded down.
    pub(super) days_left: i64,
}

/// Reads them; none when it is not what it should be.
pub(super) fn describe(der: &[u8], now: WallTime) -> Option<Described> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let tbs = certificate.tbs_certificate();
    let not_after =
        i64::try_from(tbs.validity().not_after.to_unix_duration().as_millis()).unwrap_or(i64::MAX);
    let names: Vec<String> = tbs
        .get_extension::<SubjectAltName>()
        .ok()
        .flatten()
        .map(|(_, names)| names.0)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(Escaped(name.as_str().as_bytes()).to_string()),
            GeneralName::IpAddress(octets) => ip(octets.as_bytes()),
            _ => None,
        })
        .collect();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let mut shown = names.into_iter().take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown += &format!(" and {more} more");
    }
    let issuer = tbs.issuer().to_string();
    Some(Described {
        said: format!("for {shown}, issued by {}", Escaped(issuer.as_bytes())),
        days_left: not_after.saturating_sub(now.as_ms()).div_euclid(86_400_000),
    })
}

fn ip(octets: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(octets).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}
