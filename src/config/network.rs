//! `[network]`: how this host reaches the rest of the world over HTTPS.
//!
//! Must not know: who asks whom.

use super::Env;
use super::secret::secret;
use super::section::Section;
use crate::http::Proxy;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// The proxy, if there is one.
pub(super) fn proxy(mut section: Section<'_>, env: &Env) -> Option<Arc<Proxy>> {
    let (address, not_for) = (section.field("https_proxy"), section.field("no_proxy"));
    let not_for: Vec<String> = not_for.items().iter().filter_map(|h| h.text("\"contoso.local\"")).collect();
    if !address.is_set() {
        return None;
    }
    let text = if address.table().is_some() {
        secret(&address, env)?
    } else {
        let text = address.text("\"http://proxy.contoso.local:3128\"")?;
        if text.contains('@') && !address.is_from_environment() {
            address.error(
                "a login does not belong into this file",
                "put the whole address into a file: https_proxy = { file = \"/etc/mailferry/proxy\" }",
            );
            return None;
        }
        SecretString::from(text)
    };
    if text.expose_secret().trim().is_empty() {
        return None;
    }
    Proxy::new(&text, &not_for)
        .map(Arc::new)
        .map_err(|e| address.error(e.to_string(), "https_proxy = \"http://proxy.contoso.local:3128\""))
        .ok()
}
