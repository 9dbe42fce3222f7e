//! Who is told of incidents: admins by mail, programs by webhook, and a watchman by heartbeat.
//!
//! Invariant: each channel has an outbox of its own that survives restarts; what is told is what the list of incidents
//! says, at most one message an hour about one of them, a flood as one digest; its end is told, too. A mail about an
//! account never goes through that account alone. The address of a webhook is a secret. Must not know: how an incident
//! comes about.

mod channel;
mod outbox;
mod text;

pub use channel::{Format, Heartbeat, Notifier, Site, Webhook};

use crate::http::Proxy;
use crate::mail::Mailbox;
use std::sync::Arc;

/// `[notify]`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who gets mail; may be empty.
    pub to: Vec<Mailbox>,
    /// Whom else to tell.
    pub webhooks: Vec<Webhook>,
    /// Who hears that all is well.
    pub heartbeat: Option<Heartbeat>,
    /// Through which proxy, if any.
    pub proxy: Option<Arc<Proxy>>,
    /// Our name.
    pub hostname: String,
}
