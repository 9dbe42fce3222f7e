//! `[notify]`: who is told of incidents, and how.
//!
//! Must not know: what an incident is.

use super::Env;
use super::check::addresses;
use super::field::Field;
use super::secret::secret;
use super::section::Section;
use crate::http::{Proxy, Uri};
use crate::mail::Mailbox;
use crate::notify::{Format, Heartbeat, Settings, Webhook};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;

const EXAMPLE: &str = "\"https://hooks.contoso.com/mailferry\"";

/// The whole section.
pub(super) fn notify(
    mut section: Section<'_>,
    env: &Env,
    hostname: Option<&str>,
    proxy: Option<Arc<Proxy>>,
    ours: &[&Mailbox],
) -> Settings {
    let field = section.field("to");
    let to = addresses(&field);
    if field.items().is_empty() && !section.has("webhook") {
        field.warn(
            "nobody is told when mail is given up, or an account needs somebody",
            "add [notify] with to = [\"it@contoso.com\"]",
        );
    }
    if let Some(own) = to.iter().find(|address| ours.iter().any(|mailbox| mailbox.is_same(address))) {
        let what = format!("{own} is a mailbox that this relay sends through, which hardly anybody reads");
        field.warn(what, "name somebody who reads it, best in another mailbox");
    }
    Settings {
        to,
        webhooks: section.sections("webhook").into_iter().filter_map(|s| webhook(s, env)).collect(),
        heartbeat: section.has("heartbeat").then(|| heartbeat(section.section("heartbeat"), env)).flatten(),
        proxy,
        hostname: hostname.unwrap_or_default().to_owned(),
    }
}

fn webhook(mut section: Section<'_>, env: &Env) -> Option<Webhook> {
    let (url, format) = (section.field("url"), section.field("format"));
    let format = format.word(&[("json", Format::Json), ("teams", Format::Teams), ("slack", Format::Slack)]);
    Some(Webhook { url: address(&url, env)?, format: format.unwrap_or_default() })
}

fn heartbeat(mut section: Section<'_>, env: &Env) -> Option<Heartbeat> {
    let (url, every) = (section.field("url"), section.field("every"));
    let interval = every.duration().unwrap_or(Duration::from_secs(300));
    if interval < Duration::from_secs(10) {
        every.error("is too often", "at least \"10 s\"");
        return None;
    }
    Some(Heartbeat { url: address(&url, env)?, every: interval })
}

/// An address that is a secret: as one, or as a plain text where the file is private enough.
fn address(field: &Field<'_>, env: &Env) -> Option<SecretString> {
    if !field.is_set() {
        field.error("is missing", format!("for example url = {EXAMPLE}"));
        return None;
    }
    let text = match field.table() {
        Some(_) => secret(field, env)?,
        None => SecretString::from(field.text(EXAMPLE)?),
    };
    let url: Option<Uri> = text.expose_secret().trim().parse().ok();
    if url.as_ref().and_then(Uri::authority).is_some_and(|a| a.as_str().contains('@')) {
        field.error("has a login in it, which is not sent", "use an address that needs none");
        return None;
    }
    // What is wrong is said without the address.
    match url.as_ref().map(|u| (u.scheme_str(), u.host())) {
        Some((Some("https"), Some(_))) => {}
        Some((Some("http"), Some(host))) => {
            let is_near = host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
            if !is_near {
                field.warn("goes in the clear: whoever listens can tell lies there", "use https://");
            }
        }
        _ => {
            field.error("is not the address of a web service", format!("for example {EXAMPLE}"));
            return None;
        }
    }
    Some(SecretString::from(text.expose_secret().trim()))
}
