//! Names of messages, accounts and clients.
//!
//! Invariant: a `QueueId` is unique within a queue directory for ever and sorts in order of arrival; a name is cheap to
//! clone, as every fact about it takes it along.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A message in the queue, as an admin reads it in log, `queue show` and the `Received:` field: thirteen
/// characters, digits and capitals without I, L, O and U (Crockford's base 32), sorting in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct QueueId(i64);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl QueueId {
    /// From the number a queue backend stores.
    pub const fn from_number(n: i64) -> Self {
        Self(n)
    }

    /// The number a queue backend stores; not negative.
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in (0..13).rev() {
            let digit = (self.0 >> (5 * i)) & 31;
            write!(f, "{}", ALPHABET[usize::try_from(digit).expect("five bits fit")] as char)?;
        }
        Ok(())
    }
}

/// Not a queue id.
#[derive(Debug, thiserror::Error)]
#[error("not a queue id: thirteen characters as in 01JDC2Q8X4T0G")]
pub struct NotAQueueId;

impl FromStr for QueueId {
    type Err = NotAQueueId;

    fn from_str(s: &str) -> Result<Self, NotAQueueId> {
        if s.len() != 13 {
            return Err(NotAQueueId);
        }
        let mut n: i64 = 0;
        for (i, c) in s.to_ascii_uppercase().bytes().enumerate() {
            let digit = ALPHABET.iter().position(|a| *a == c).ok_or(NotAQueueId)?;
            if i == 0 && digit > 7 {
                return Err(NotAQueueId);
            }
            n = n << 5 | i64::try_from(digit).expect("less than 32");
        }
        Ok(Self(n))
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for QueueId {
    type Error = NotAQueueId;
    fn try_from(s: String) -> Result<Self, NotAQueueId> {
        s.parse()
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the name as configured.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(name.as_ref().into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }
    };
}

name!(
    /// An `[[account]]`: its mailbox address in lower case.
    AccountId
);
name!(
    /// A `[[client]]`: its configured name.
    ClientName
);

impl AccountId {
    /// The account that a person names: the case of letters and spaces around it mean nothing.
    pub fn named(text: &str) -> Self {
        Self(text.trim().to_lowercase().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_id_reads_back_and_sorts_by_arrival() {
        for n in [0, 1, 31, 32, 1_795_435_200_000 << 21, i64::MAX] {
            let id = QueueId::from_number(n);
            assert_eq!(id.to_string().parse::<QueueId>().unwrap(), id);
            assert_eq!(id.to_string().to_lowercase().parse::<QueueId>().unwrap(), id);
        }
        assert!(QueueId::from_number(31).to_string() < QueueId::from_number(32).to_string());
    }

    #[test]
    fn what_is_not_a_queue_id_is_refused() {
        for bad in ["", "abc", "8000000000000", "0000000000000U", "000000000000U", "../../../etc/"] {
            assert!(bad.parse::<QueueId>().is_err(), "{bad}");
        }
    }
}
