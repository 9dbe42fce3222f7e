//! Where the queue is, and why it does not open.
//!
//! Invariant: what is wrong is told in one line for people, with its hint; a variant only where the caller does
//! something else. Must not know: what each backend finds wrong.

use std::path::PathBuf;

/// Where the queue lives and how much room it leaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything of the queue is in here; made when it is missing.
    pub directory: PathBuf,
    /// New mail is refused when less than this is free.
    pub min_free_space_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { directory: "/var/lib/mailferry".into(), min_free_space_bytes: 500 << 20 }
    }
}

/// Why a queue does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it, and may give it back.
    #[error("{said}")]
    InUse {
        /// One line.
        said: String,
        /// What to do about it.
        hint: String,
    },
    /// It cannot be used as it is.
    #[error("{said}")]
    Unusable {
        /// One line.
        said: String,
        /// What to do about it.
        hint: String,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::InUse { hint, .. } | Self::Unusable { hint, .. } => hint,
        }
    }
}
