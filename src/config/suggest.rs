//! What was meant by a key or a variable that nobody knows.
//!
//! Pure.

use std::collections::BTreeSet;

/// The variable that sets the key whose words these are, `queue_directory`.
pub(super) fn variable(words: &str, known: &BTreeSet<String>) -> Option<String> {
    let is_meant = |key: &&String| key.replace('.', "_") == words.replace("_0_", "_");
    let key = known.iter().find(is_meant)?;
    let parts: Vec<&str> = key.split('.').collect();
    let mut name = String::from("MAILFERRY");
    for (i, part) in parts.iter().enumerate() {
        name += &format!("__{}", part.to_uppercase());
        if parts[..=i] == ["receive", "users"] || (i == 0 && ["listen", "client", "account"].contains(part)) {
            name += "__0";
        }
    }
    Some(format!("did you mean {name}? two underscores stand between section and key"))
}

/// By its neighbours, or by where it belongs.
pub(super) fn suggest(key: &str, known: &BTreeSet<String>) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
    let here: BTreeSet<&str> =
        known.iter().filter_map(|k| k.strip_prefix(&prefix)).filter_map(|k| k.split('.').next()).collect();
    let near = here
        .iter()
        .map(|n| (strsim::osa_distance(name, n), *n))
        .min()
        .filter(|(d, n)| *d <= n.len().min(name.len()).div_ceil(2).min(3));
    if let Some((_, near)) = near {
        return format!("did you mean `{near}`?");
    }
    let elsewhere: Vec<String> = known
        .iter()
        .filter_map(|k| match k.rsplit_once('.') {
            Some((section, n)) if n == name => Some(format!("[{section}]")),
            None if k == name => Some("the top of the file, before the first section".to_owned()),
            _ => None,
        })
        .collect();
    let is_section = known.iter().any(|k| k.split_once('.').is_some_and(|(s, _)| s == name));
    if is_section && !section.is_empty() {
        return format!("[{name}] is a section of its own");
    }
    if elsewhere.is_empty() && here.is_empty() {
        return String::new();
    }
    if elsewhere.is_empty() {
        let here: Vec<&str> = here.into_iter().collect();
        return format!("keys that may stand here: {}", here.join(", "));
    }
    format!("`{name}` belongs in {}", elsewhere.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_finds_the_one_that_was_meant() {
        let known: BTreeSet<String> =
            ["hostname", "client.account", "client.from", "receive.max_message_size"]
                .map(String::from)
                .into();
        for (typed, hint) in [
            ("client.acount", "did you mean `account`?"),
            ("client.form", "did you mean `from`?"),
            ("client.oauth", "keys that may stand here: account, from"),
            ("client.hostname", "`hostname` belongs in the top of the file, before the first section"),
            ("client.max_message_size", "`max_message_size` belongs in [receive]"),
            ("recieve", "did you mean `receive`?"),
            ("hostnam", "did you mean `hostname`?"),
        ] {
            assert_eq!(suggest(typed, &known), hint, "{typed}");
        }
    }
}
