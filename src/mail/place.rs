//! Where an account's mail goes, as people know it.
//!
//! Must not know: how it gets there.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A server of the mainland by name: `smtp.office365.com:587`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Place {
    host: Cow<'static, str>,
    port: u16,
}

impl Place {
    /// The server's name or address, as it was configured, and its port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: Cow::Owned(host.into()), port }
    }

    /// One that is known beforehand.
    pub const fn known(host: &'static str, port: u16) -> Self {
        Self { host: Cow::Borrowed(host), port }
    }

    /// The name without the port.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (host, port) = text.rsplit_once(':').ok_or("a port is missing")?;
        Ok(Self::new(host, port.parse().map_err(|_| "no port")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [Place::known("smtp.office365.com", 587), Place::new("[::1]", 25)] {
            let json = serde_json::to_string(&place).unwrap();
            assert_eq!(json, format!("\"{place}\""));
            assert_eq!(serde_json::from_str::<Place>(&json).unwrap(), place);
        }
        assert!(serde_json::from_str::<Place>("\"smtp.office365.com\"").is_err());
    }
}
