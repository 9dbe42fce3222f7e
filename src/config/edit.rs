//! One network more in the file: the text as the admin wrote it, with its comments and in its order.
//!
//! Invariant: pure; nothing but the one `from` changes, or a `[[client]]` is added behind the others. Must not know:
//! where the file lies, whether it is right as a whole (`check` does).

use ipnet::IpNet;
use std::net::IpAddr;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

/// A changed text.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    /// All of it.
    pub text: String,
    /// There was no client of this name.
    pub is_new_client: bool,
}

/// Why the text was not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no TOML.
    #[error("the file is not TOML: {0}")]
    NotToml(String),
    /// The clients are not written as `[[client]]` with a list.
    #[error("client is not written as [[client]] with from = [\"...\"], so it cannot be changed here")]
    NotATable,
}

/// Adds a network to the `from` of the client of this name, or such a client.
///
/// # Errors
/// See `EditError`.
pub fn allow(text: &str, network: IpNet, client: &str) -> Result<Edited, EditError> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|e: toml_edit::TomlError| EditError::NotToml(e.message().replace('\n', ", ")))?;
    let clients = document.entry("client").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let clients = clients.as_array_of_tables_mut().ok_or(EditError::NotATable)?;
    let found = clients.iter_mut().find(|table| is_named(table, client));
    let is_new_client = found.is_none();
    match found {
        Some(table) => {
            let from = table.get_mut("from").and_then(Item::as_array_mut).ok_or(EditError::NotATable)?;
            push(from, &written(network));
        }
        None => {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            table["name"] = value(client);
            table["from"] = value(Array::from_iter([written(network)]));
            clients.push(table);
        }
    }
    Ok(Edited { text: document.to_string(), is_new_client })
}

/// As people write it: a host without its prefix.
pub fn written(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// One without a name goes by its first network.
fn is_named(table: &Table, client: &str) -> bool {
    match table.get("name") {
        Some(name) => name.as_str() == Some(client),
        None => {
            let first = table.get("from").and_then(Item::as_array).and_then(|from| from.get(0));
            let network = first.and_then(Value::as_str).and_then(network);
            network.is_some_and(|n| n.to_string() == client || written(n) == client)
        }
    }
}

/// `10.0.5.7` or `10.0.5.0/24`.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// Behind the last one, in its style: a list with a line each gets another line.
fn push(from: &mut Array, network: &str) {
    let prefix = from.iter().last().and_then(|last| last.decor().prefix()).and_then(|p| p.as_str());
    let prefix = match prefix {
        Some(lines) if lines.contains('\n') => {
            // A comment above the last one is about that one.
            let indent = lines.rsplit('\n').next().unwrap_or_default();
            format!("\n{indent}")
        }
        _ if from.is_empty() => String::new(),
        _ => " ".to_owned(),
    };
    // What stands between the last item and the bracket, such as a comment on its line, stays with that item. Without a
    // comma at the end it is that item's, and the comma has to come before it.
    let mut behind = from.trailing().as_str().unwrap_or_default().to_owned();
    if !from.trailing_comma() && prefix.contains('\n') {
        let last = from.iter_mut().last().expect("there is one, its prefix was read");
        behind = last.decor().suffix().and_then(|s| s.as_str()).unwrap_or_default().to_owned();
        last.decor_mut().set_suffix("");
        from.set_trailing_comma(true);
        from.set_trailing("\n");
    }
    let comment = behind.trim_end();
    from.push_formatted(Value::from(network).decorated(format!("{comment}{prefix}"), ""));
    if !comment.is_empty() {
        from.set_trailing("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, net: &str, client: &str) -> Edited {
        allow(text, network(net).unwrap(), client).unwrap()
    }

    #[test]
    fn comments_and_order_stay_and_only_the_list_grows() {
        for (before, after) in [
            ("from = [\"10.0.5.0/24\"] # all\n", "from = [\"10.0.5.0/24\", \"10.0.9.9\"] # all\n"),
            ("from = [ \"10.0.5.0/24\", ]\n", "from = [ \"10.0.5.0/24\", \"10.0.9.9\", ]\n"),
            ("from = []\n", "from = [\"10.0.9.9\"]\n"),
            (
                "from = [\n  # the old one\n  \"10.0.5.1\", # third floor\n]\n",
                "from = [\n  # the old one\n  \"10.0.5.1\", # third floor\n  \"10.0.9.9\",\n]\n",
            ),
            ("from = [\n  \"10.0.5.1\"\n]\n", "from = [\n  \"10.0.5.1\",\n  \"10.0.9.9\",\n]\n"),
            (
                "from = [\n  \"10.0.5.1\" # third floor\n]\n",
                "from = [\n  \"10.0.5.1\", # third floor\n  \"10.0.9.9\",\n]\n",
            ),
        ] {
            let whole = |from: &str| {
                format!(
                    "# mine\nhostname = \"x\" # why\n\n[[client]] # one\nname = \"a\"\n{from}# end\n[queue]\n# q\n"
                )
            };
            assert_eq!(allowed(&whole(before), "10.0.9.9", "a").text, whole(after), "{before}");
        }
    }

    #[test]
    fn a_client_that_is_not_there_is_made_behind_the_others() {
        let text = "[[client]]\nfrom = [\"10.0.5.0/24\"]\n\n[[account]] # mine\nmailbox = \"x@y.z\"\n";
        let edited = allowed(text, "10.0.9.0/24", "ups");
        assert!(edited.is_new_client);
        assert_eq!(
            edited.text,
            "[[client]]\nfrom = [\"10.0.5.0/24\"]\n\n[[client]]\nname = \"ups\"\nfrom = [\"10.0.9.0/24\"]\n\n\
             [[account]] # mine\nmailbox = \"x@y.z\"\n"
        );
        let edited = allowed("# nothing yet\n", "fd00::7", "ups");
        assert_eq!(edited.text.matches("[[client]]\nname = \"ups\"\nfrom = [\"fd00::7\"]").count(), 1);
        // Without a name it goes by its first network.
        assert!(!allowed(text, "10.0.9.9", "10.0.5.0/24").is_new_client);
    }

    #[test]
    fn what_cannot_be_changed_is_left_alone() {
        let net = network("10.0.9.9").unwrap();
        assert_eq!(allow("client = [{ from = [\"10.0.5.1\"] }]\n", net, "a"), Err(EditError::NotATable));
        assert_eq!(
            allow("[[client]]\nname = \"a\"\nfrom = \"10.0.5.1\"\n", net, "a"),
            Err(EditError::NotATable)
        );
        assert!(matches!(allow("[[client\n", net, "a"), Err(EditError::NotToml(_))));
    }
}
