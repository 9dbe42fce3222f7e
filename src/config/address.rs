//! How networks, addresses and host names are written here, and what was meant where they are written otherwise.
//!
//! Invariant: what is read here is read as strictly as ever; a hint only says how to write what was probably meant.
//! Pure.

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, ipv4_mask_to_prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is wrong, and how to write it.
pub(super) type Wrong = (&'static str, String);

/// More than this is no hint any more.
const MAX_SUBNETS: usize = 8;

/// `10.0.5.0/24` or `10.0.6.7`.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(|_| meant_network(text))
}

fn meant_network(text: &str) -> Wrong {
    let write = |net: Ipv4Net| format!("write \"{}\"", net.trunc());
    if text.contains(',') {
        return ("is not a network", "each in quotes of its own, with commas between".to_owned());
    }
    if let Some((first, last)) = text.split_once('-') {
        return range(first.trim(), last.trim());
    }
    let with_mask = text.split_once(['/', ' ']).and_then(|(address, mask)| {
        let (address, mask) = (address.trim().parse().ok()?, mask.trim().parse::<Ipv4Addr>().ok()?);
        // 0.0.0.255 is how routers write the same.
        let prefix = ipv4_mask_to_prefix(mask)
            .or_else(|_| ipv4_mask_to_prefix(Ipv4Addr::from(!u32::from(mask))))
            .ok()?;
        Ipv4Net::new(address, prefix).ok()
    });
    if let Some(net) = with_mask {
        return ("is a network with a mask", write(net));
    }
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, p.parse::<u8>().ok()));
    let parts: Vec<&str> = address.trim_end_matches('.').split('.').collect();
    let known: Vec<u8> = parts.iter().map_while(|p| p.parse().ok()).collect();
    let rest_is_open = parts[known.len()..].iter().all(|p| matches!(*p, "*" | "x" | "X"));
    if rest_is_open && (1..4).contains(&known.len()) && parts.len() <= 4 {
        let mut octets = [0; 4];
        octets[..known.len()].copy_from_slice(&known);
        let bits = prefix.unwrap_or(u8::try_from(known.len() * 8).unwrap_or(32));
        if let Ok(net) = Ipv4Net::new(Ipv4Addr::from(octets), bits) {
            return ("is not a whole address", write(net));
        }
    }
    let is_address = address.parse::<IpAddr>().is_ok();
    if is_address && text.contains('/') {
        return (
            "is not a network",
            "behind the slash stands how many bits are fixed: 24 in \"10.0.5.0/24\"".to_owned(),
        );
    }
    if is_host_name(text) && text.contains(|c: char| c.is_ascii_alphabetic()) {
        let hint = "devices are known by their address: see it with getent hosts NAME".replace("NAME", text);
        return ("is a name", hint);
    }
    ("is not a network", "for example \"10.0.5.0/24\" or \"10.0.6.7\"".to_owned())
}

/// `10.0.5.10-10.0.5.20` and `10.0.5.10-20` as networks.
fn range(first: &str, last: &str) -> Wrong {
    let what = "is a range of addresses";
    let Ok(from) = first.parse::<Ipv4Addr>() else {
        return (what, "write the networks in it, for example \"10.0.5.0/24\"".to_owned());
    };
    let mut short = from.octets();
    let to = match (last.parse::<Ipv4Addr>(), last.parse::<u8>()) {
        (Ok(to), _) => to,
        (_, Ok(end)) => {
            short[3] = end;
            Ipv4Addr::from(short)
        }
        _ => return (what, "write the networks in it, for example \"10.0.5.0/24\"".to_owned()),
    };
    if to < from {
        return (
            "is a range of addresses that ends before it begins",
            format!("from {to} to {from}, as networks"),
        );
    }
    let all: Vec<String> = Ipv4Subnets::new(from, to, 0).map(|net| format!("\"{net}\"")).collect();
    if all.len() > MAX_SUBNETS {
        return (what, "write the network that has them all, for example \"10.0.5.0/24\"".to_owned());
    }
    (what, format!("write the networks in it: {}", all.join(", ")))
}

/// `0.0.0.0:25` or `[::]:25`.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port),
            _ => (text, ""),
        };
        let address = match host.trim_matches(['[', ']']) {
            "" | "*" | "any" | "all" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "::" | ":" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            number if number.parse::<u16>().is_ok() => {
                return (
                    "is a port without an address",
                    format!("write \"0.0.0.0:{number}\" for every address"),
                );
            }
            other => other.parse().ok(),
        };
        match (address, port) {
            (Some(address), "") => ("has no port", format!("write \"{}\"", SocketAddr::new(address, 25))),
            (Some(address), port) => {
                let port = port.parse().unwrap_or(25);
                ("is not an IP address with a port", format!("write \"{}\"", SocketAddr::new(address, port)))
            }
            (None, _) if is_host_name(host) => (
                "is a name, and not an address of this machine",
                "its addresses: ip -brief address; \"0.0.0.0:25\" is every one".to_owned(),
            ),
            _ => ("is not an IP address with a port", "for example \"0.0.0.0:25\"".to_owned()),
        }
    })
}

/// The name of a host.
pub(super) fn host_name(text: &str) -> Result<String, Wrong> {
    if is_host_name(text) {
        return Ok(text.to_owned());
    }
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or(bare);
    let meant: String =
        bare.trim_matches('.').chars().map(|c| if c == '_' || c.is_whitespace() { '-' } else { c }).collect();
    let what = if text.parse::<IpAddr>().is_ok() {
        "is an address, and not a host name"
    } else if text.contains(char::is_whitespace) {
        "has a blank in it, so it is not a host name"
    } else if text.contains('_') {
        "has an underscore in it, so it is not a host name"
    } else {
        "is not a host name"
    };
    let example = if is_host_name(&meant) { meant } else { "relay.contoso.local".to_owned() };
    Err((what, format!("for example \"{example}\"")))
}

/// RFC 1123 section 2.1: letters, digits and hyphens between dots. An address is no name.
pub(super) fn is_host_name(s: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    s.len() <= 253 && s.split('.').all(label) && s.parse::<IpAddr>().is_err()
}

/// `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
pub(super) fn smart_host(text: &str) -> Result<(String, u16), Wrong> {
    let example = || "for example \"smtp.office365.com:587\"".to_owned();
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        let rest = if rest.contains(':') { rest.to_owned() } else { format!("{rest}:587") };
        return Err(("is an address of the web", format!("write \"{rest}\"")));
    }
    let without_port = || {
        let hint = if is_host_name(text) { format!("write \"{text}:587\"") } else { example() };
        ("has no port", hint)
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(without_port)?;
    let port =
        port.parse().ok().filter(|p| *p != 0).ok_or_else(|| ("has no port that can be used", example()))?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let is_address = match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    };
    if !is_address && !is_host_name(host) {
        let v6 = host.parse::<Ipv6Addr>().ok().map(|v6| format!("write \"[{v6}]:{port}\""));
        return Err(("is not a host with a port", v6.unwrap_or_else(example)));
    }
    Ok((bare.unwrap_or(host).to_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_written_otherwise_is_written_back() {
        for (text, what, hint) in [
            ("10.0.5.0/255.255.255.0", "is a network with a mask", "write \"10.0.5.0/24\""),
            ("10.0.5.7 255.255.254.0", "is a network with a mask", "write \"10.0.4.0/23\""),
            ("10.0.5.0/0.0.0.255", "is a network with a mask", "write \"10.0.5.0/24\""),
            ("10.0.5.*", "is not a whole address", "write \"10.0.5.0/24\""),
            ("10.0.*.*", "is not a whole address", "write \"10.0.0.0/16\""),
            ("10.0.5.x", "is not a whole address", "write \"10.0.5.0/24\""),
            ("10.0.5.", "is not a whole address", "write \"10.0.5.0/24\""),
            ("10.0.5", "is not a whole address", "write \"10.0.5.0/24\""),
            ("10.0.5/24", "is not a whole address", "write \"10.0.5.0/24\""),
            (
                "10.0.5.10-10.0.5.12",
                "is a range of addresses",
                "write the networks in it: \"10.0.5.10/31\", \"10.0.5.12/32\"",
            ),
            (
                "10.0.5.10 - 12",
                "is a range of addresses",
                "write the networks in it: \"10.0.5.10/31\", \"10.0.5.12/32\"",
            ),
            ("10.0.5.0-10.0.5.255", "is a range of addresses", "write the networks in it: \"10.0.5.0/24\""),
            (
                "10.0.5.20-10.0.5.10",
                "is a range of addresses that ends before it begins",
                "from 10.0.5.10 to 10.0.5.20, as networks",
            ),
            ("10.0.5.0/24, 10.0.6.7", "is not a network", "each in quotes of its own, with commas between"),
            (
                "printer1.contoso.local",
                "is a name",
                "devices are known by their address: see it with getent hosts printer1.contoso.local",
            ),
            (
                "10.0.5.0/33",
                "is not a network",
                "behind the slash stands how many bits are fixed: 24 in \"10.0.5.0/24\"",
            ),
            ("10.0.5.300", "is not a network", "for example \"10.0.5.0/24\" or \"10.0.6.7\""),
            ("", "is not a network", "for example \"10.0.5.0/24\" or \"10.0.6.7\""),
        ] {
            assert_eq!(network(text), Err((what, hint.to_owned())), "{text}");
        }
        for good in ["10.0.5.0/24", "10.0.6.7", "fd00::/8", "::1", "::ffff:10.0.5.0/120"] {
            network(good).unwrap();
        }
    }

    #[test]
    fn an_address_to_listen_on_that_is_written_otherwise_is_written_back() {
        for (text, hint) in [
            ("25", "write \"0.0.0.0:25\" for every address"),
            (":25", "write \"0.0.0.0:25\""),
            ("*:25", "write \"0.0.0.0:25\""),
            ("0.0.0.0", "write \"0.0.0.0:25\""),
            ("localhost:2525", "write \"127.0.0.1:2525\""),
            (":::25", "write \"[::]:25\""),
            ("::1:25", "write \"[::1]:25\""),
            ("relay.contoso.local:25", "its addresses: ip -brief address; \"0.0.0.0:25\" is every one"),
            ("x y", "for example \"0.0.0.0:25\""),
            ("", "write \"0.0.0.0:25\""),
        ] {
            assert_eq!(listen_address(text).unwrap_err().1, hint, "{text}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_written_as_one_where_that_is_easy() {
        for (text, hint) in [
            ("relay contoso local", "for example \"relay-contoso-local\""),
            ("relay_1.contoso.local", "for example \"relay-1.contoso.local\""),
            ("https://relay.contoso.local/", "for example \"relay.contoso.local\""),
            ("relay.contoso.local:25", "for example \"relay.contoso.local\""),
            ("relay.contoso.local.", "for example \"relay.contoso.local\""),
            ("10.0.5.1", "for example \"relay.contoso.local\""),
            ("büro", "for example \"relay.contoso.local\""),
        ] {
            assert_eq!(host_name(text).unwrap_err().1, hint, "{text}");
        }
        for (text, hint) in [
            ("smtp.office365.com", "write \"smtp.office365.com:587\""),
            ("smtp://smtp.office365.com:587", "write \"smtp.office365.com:587\""),
            ("https://mail.contoso.com/", "write \"mail.contoso.com:587\""),
            ("2001:db8::1:587", "write \"[2001:db8::1]:587\""),
            ("smtp office365 com:587", "for example \"smtp.office365.com:587\""),
            ("smtp.office365.com:0", "for example \"smtp.office365.com:587\""),
        ] {
            assert_eq!(smart_host(text).unwrap_err().1, hint, "{text}");
        }
    }
}
