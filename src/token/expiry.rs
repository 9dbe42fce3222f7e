//! What of an account's settings ends by itself, and when.

use super::{Assertion, Grant, Settings, SettingsError};
use crate::mail::WallTime;
use crate::policy::expiry::Expiry;

impl Settings {
    /// What ends and when: the certificate's own date, or the day noted for the secret. None where nobody
    /// knows.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn expiry(&self) -> Result<Option<Expiry>, SettingsError> {
        match &self.grant {
            Grant::Certificate { certificate, key } => {
                let at = Assertion::new(certificate, key)?.not_after();
                Ok(Some(Expiry { what: "certificate", at }))
            }
            Grant::Secret(_) => Ok(self.secret_expires.and_then(|day| {
                // That day is its last: it ends with it, in UTC.
                let next = day.tomorrow().ok()?.in_tz("UTC").ok()?.timestamp().as_millisecond();
                Some(Expiry { what: "client secret", at: WallTime::from_ms(next - 1000) })
            })),
            Grant::DeviceCode { .. } => Ok(None),
        }
    }
}
