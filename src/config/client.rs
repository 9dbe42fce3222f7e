//! `[[client]]`: who may relay, and from where.
//!
//! Invariant: a network belongs to one client.

use super::address;
use super::field::Field;
use super::read::{At, Found, ONE_FILLS_ALL, SEVERAL_TIMES, Sending, Wants, patterns, small};
use super::section::{Findings, Section};
use crate::mail::{AccountId, ClientName};
use crate::policy::admission::{Client, LineEndings};
use encoding_rs::Encoding;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;

pub(super) fn client(mut section: Section<'_>) -> Option<Found> {
    let from = section.field("from");
    if !from.is_set() {
        from.error("is missing", "the networks its devices are in, for example [\"10.0.5.0/24\"]");
    }
    let items = from.items();
    let networks: Vec<At<IpNet>> =
        items.iter().filter_map(|item| Some(At(network(item)?, item.place()))).collect();
    if from.is_set() && items.is_empty() {
        from.error("names no network", "for example [\"10.0.5.0/24\"]");
    }
    let name = section.field("name");
    let place = if name.is_set() { name.place() } else { section.place() };
    let name = match name.text("\"printers\"") {
        Some(text) if text.trim().is_empty() || text.chars().any(char::is_control) => {
            name.error("must be a name", "for example \"printers\"");
            None
        }
        Some(text) => Some(text),
        None => networks.first().map(|At(n, _)| n.to_string()),
    };
    let account = section.field("account");
    let account = account.text("\"scanner@contoso.com\"").map(|a| At(AccountId::named(&a), account.place()));
    let charset = section.field("charset").parse("\"shift_jis\"", |s| {
        Encoding::for_label(s.as_bytes()).map(|e| e.name().to_lowercase()).ok_or("is not a character set")
    });
    let client = Client {
        name: ClientName::new(name.unwrap_or_default()),
        networks: networks.iter().map(|At(n, _)| *n).collect(),
        account: account.as_ref().map(|At(a, _)| a.clone()),
        allowed_recipients: patterns(&section.field("allowed_recipients")),
        max_message_size_bytes: section.field("max_message_size").size(),
        max_connections: section.field("max_connections").count(),
        messages_per_minute: small(&section.field("messages_per_minute")),
        charset,
        line_endings: section
            .field("line_endings")
            .word(&[("crlf", LineEndings::Crlf), ("lf", LineEndings::Lf)])
            .unwrap_or_default(),
        silent_after: section.field("silent_after").duration(),
    };
    Some((At(client, place), Wants { networks, account }))
}

fn network(field: &Field<'_>) -> Option<IpNet> {
    let net = field.read("\"10.0.5.0/24\" or \"10.0.6.7\"", address::network)?;
    let net = canonical(net);
    if net.prefix_len() == 0 {
        field.warn(
            format!("{net} lets the whole world relay through this mailbox"),
            "name the networks of the devices only",
        );
    } else if net.trunc() != net {
        let hint =
            format!("write \"{}\" for the network, or \"{}\" for the one device", net.trunc(), net.addr());
        field.warn(format!("{net} means the whole network {}", net.trunc()), hint);
    }
    Some(net.trunc())
}

/// `::ffff:10.0.5.0/120` is 10.0.5.0/24: that is how the devices in it are seen.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok()).map_or(net, IpNet::V4)
}

pub(super) fn clients_go_together(
    findings: &Findings<'_>,
    clients: &[Found],
    accounts: &[At<Option<Sending>>],
    max_connections: usize,
) {
    let mut names = BTreeSet::new();
    let mut networks: Vec<(IpNet, &ClientName)> = vec![];
    for (At(client, place), wants) in clients {
        if !client.name.as_str().is_empty() && !names.insert(client.name.as_str()) {
            let what = format!("there is another client named \"{}\"", client.name);
            findings.error(place.clone(), "client.name", what, "give each its own name");
        }
        if client.max_connections.is_some_and(|own| own >= max_connections) {
            findings.warn(place.clone(), "client.max_connections", ONE_FILLS_ALL, SEVERAL_TIMES);
        }
        for At(network, place) in &wants.networks {
            if let Some((_, other)) = networks.iter().find(|(n, _)| n == network) {
                let what = format!("{network} already belongs to client \"{other}\"");
                findings.error(place.clone(), "client.from", what, "remove it from one of them");
            }
            networks.push((*network, &client.name));
        }
        let Some(At(account, place)) = &wants.account else { continue };
        let known: Vec<_> =
            accounts.iter().filter_map(|At(a, _)| a.as_ref()).map(|a| a.account.id.as_str()).collect();
        // An account that could not be read may be the one that is meant.
        if accounts.iter().all(|At(a, _)| a.is_some()) && !known.contains(&account.as_str()) {
            let what = format!("there is no account \"{account}\"");
            let hint = format!("accounts go by their mailbox: {}", known.join(", "));
            findings.error(place.clone(), "client.account", what, hint);
        }
    }
}
