//! Holds the import table of ARCHITECTURE.md true: rooms import downwards only, so there is no cycle.
//!
//! Read from the source text: every `crate::room` outside comments and outside the `mod tests` at a file's end
//! (a test may set a room into its surroundings; the room itself may not know them).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A room and what it may import, itself aside. `ANYTHING`: every room of the table.
const TABLE: &[(&str, &[&str])] = &[
    ("mail", &[]),
    ("files", &[]),
    ("tls", &["files"]),
    ("http", &["tls"]),
    ("letter", &["mail"]),
    ("policy", &["mail"]),
    ("fact", &["mail", "policy"]),
    ("queue", &["mail", "files", "fact"]),
    ("token", &["mail", "files", "tls", "http", "policy", "fact"]),
    ("submit", &["mail", "tls", "letter", "policy", "fact", "token"]),
    ("receive", &["mail", "letter", "policy", "fact", "queue"]),
    ("dispatch", &["mail", "letter", "policy", "fact", "queue", "submit", "token"]),
    ("notify", &["mail", "tls", "http", "letter", "policy", "fact", "queue"]),
    ("control", &["mail", "policy", "fact", "queue"]),
    ("logs", &[]),
    (
        "config",
        &[
            "mail", "files", "tls", "http", "policy", "token", "submit", "queue", "receive", "dispatch",
            "notify", "logs",
        ],
    ),
    ("doctor", ANYTHING),
    ("daemon", ANYTHING),
    ("cli", ANYTHING),
    ("sandbox", ANYTHING),
    ("demo", ANYTHING),
];
const ANYTHING: &[&str] = &["*"];
/// What stands at the top: below, nobody may import it.
const TOP: &[&str] = &["config", "daemon", "doctor", "cli", "sandbox", "demo"];

/// The rooms a source text imports.
fn imports(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        source.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_segments(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found
}

/// The first segment of every path in a `{a, b::{c, d}, e}` whose opening brace was read.
fn first_segments(group: &str) -> Vec<String> {
    let (mut depth, mut segments, mut expected) = (0, Vec::new(), true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            c if expected && !c.is_whitespace() => {
                segments.extend(identifier(&group[i..]));
                expected = false;
            }
            _ => {}
        }
    }
    segments
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// Every `.rs` file of a room: `src/room.rs` and below `src/room/`.
fn sources(path: &Path, room: Option<&str>, into: &mut BTreeMap<String, Vec<(String, String)>>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let room = room.unwrap_or(&stem);
        if path.is_dir() {
            sources(&path, Some(room), into);
        } else if path.extension().is_some_and(|e| e == "rs") && stem != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            into.entry(room.to_owned()).or_default().push((path.display().to_string(), text));
        }
    }
}

#[test]
fn rooms_import_downwards_only() {
    let mut rooms = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut rooms);
    rooms.remove("lib");
    rooms.remove("main");
    assert!(rooms.contains_key("mail") && rooms.contains_key("queue"), "the sources were not found");

    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for (room, files) in &rooms {
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| name == room) else {
            wrong.push(format!("{room} is not in the table: give it a place in ARCHITECTURE.md and here"));
            continue;
        };
        for (file, text) in files {
            for import in imports(text) {
                let is_room = TABLE.iter().any(|(name, _)| *name == import);
                let may = import == *room || *allowed == ANYTHING || allowed.contains(&import.as_str());
                if is_room && !may {
                    wrong.push(format!("{file}: {room} may not import {import}"));
                }
                used.insert((room.as_str(), import));
            }
        }
    }
    for (room, allowed) in TABLE.iter().filter(|(_, allowed)| *allowed != ANYTHING) {
        let unused = allowed.iter().filter(|import| !used.contains(&(*room, (**import).to_owned())));
        wrong.extend(
            unused.map(|import| format!("{room} does not import {import}: take the permission away")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_itself_goes_downwards() {
    for (i, (room, allowed)) in TABLE.iter().enumerate() {
        for import in allowed.iter().filter(|_| *allowed != ANYTHING) {
            let below = TABLE[..i].iter().any(|(name, _)| name == import);
            assert!(below && !TOP.contains(import), "{room} imports {import}, which is not below it");
        }
    }
}

#[test]
fn the_table_in_the_documentation_is_this_one() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    for (room, allowed) in TABLE {
        let may = match *allowed {
            [] => "nothing of ours".to_owned(),
            ANYTHING => "anything".to_owned(),
            rooms => rooms.join(", "),
        };
        let row = format!("| `{room}` | {may} |");
        assert!(text.contains(&row), "ARCHITECTURE.md has no row\n{row}");
    }
}

#[test]
fn imports_are_read_whatever_their_form() {
    let source = "use crate::mail::Reply;\nuse crate::{\n    queue::{self, body},\n    policy,\n};\n\
                  // crate::daemon is only mentioned\nlet x = crate::fact::told();\nuse othercrate::submit;\n\
                  #[cfg(test)]\nmod tests {\n    use crate::sandbox::Sandbox;\n}\n";
    assert_eq!(imports(source).into_iter().collect::<Vec<_>>(), ["fact", "mail", "policy", "queue"]);
}
