//! Slips of the pen in a file that is no TOML, each named as what it is.
//!
//! Invariant: one slip is one problem, wherever the parser stumbles over it and how often; nothing of a value is
//! repeated, as it may be a secret. Pure. Must not know: which keys there are.

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slip {
    /// From 1.
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) hint: String,
}

/// What a parser complains about: the place in the text, and its own words.
pub(super) type Complaint = (usize, String);

/// What the complaints come from, in the order of the file.
pub(super) fn slips(text: &str, complaints: &[Complaint]) -> Vec<Slip> {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(slip) = another_language(&lines) {
        return vec![slip];
    }
    let mut at: Vec<(usize, &str)> =
        complaints.iter().map(|(offset, words)| (line_of(text, *offset, &lines), words.as_str())).collect();
    at.sort();
    // Behind a bracket that is never closed, nothing is what it seems.
    let open = unclosed(&lines);
    let mut found: Vec<(Slip, Vec<usize>)> = vec![];
    for (number, words) in at {
        let slip = match &open {
            Some(slip) if slip.line <= number => slip.clone(),
            _ => match in_line(&lines, number) {
                Some(slip) => slip,
                // Most likely it comes from what was named already.
                None if !found.is_empty() => continue,
                None => Slip {
                    line: number,
                    what: format!("not TOML: {}", words.replace('\n', ", ")),
                    hint: "a text stands in quotes: key = \"value\"".to_owned(),
                },
            },
        };
        match found.iter_mut().find(|(f, _)| f.what == slip.what) {
            Some((first, more)) => {
                if slip.line != first.line && !more.contains(&slip.line) {
                    more.push(slip.line);
                }
            }
            None => found.push((slip, vec![])),
        }
    }
    found.into_iter().map(|(slip, more)| with_more(slip, &more)).collect()
}

fn with_more(mut slip: Slip, more: &[usize]) -> Slip {
    let shown: Vec<String> = more.iter().take(5).map(ToString::to_string).collect();
    match more.len() {
        0 => {}
        1 => slip.what += &format!(" (and in line {})", shown[0]),
        n if n > 5 => slip.what += &format!(" (and in lines {} and {} more)", shown.join(", "), n - 5),
        _ => slip.what += &format!(" (and in lines {})", shown.join(", ")),
    }
    slip
}

/// The number of the line a complaint is about: at the end of a line or on an empty one, it is about what came before.
fn line_of(text: &str, offset: usize, lines: &[&str]) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    let mut number = before.matches('\n').count() + 1;
    while number > 1 && lines.get(number - 1).is_none_or(|line| line.trim().is_empty()) {
        number -= 1;
    }
    number
}

fn another_language(lines: &[&str]) -> Option<Slip> {
    let first = lines.iter().position(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))?;
    let is_yaml = |l: &&str| {
        let line = l.trim();
        !line.contains('=') && (line.ends_with(':') || line.starts_with("- ")) && !line.starts_with('#')
    };
    let (what, hint) = match lines[first].trim() {
        l if l.starts_with('{') => {
            ("this is JSON, and the configuration is TOML", "[section], then key = value")
        }
        l if l.starts_with('<') && !l.starts_with("<<") => {
            ("this is XML, and the configuration is TOML", "[section], then key = value")
        }
        _ if lines.iter().any(is_yaml) => {
            ("this looks like YAML, and the configuration is TOML", "[section], then key = value")
        }
        _ => return None,
    };
    Some(Slip { line: first + 1, what: what.to_owned(), hint: hint.to_owned() })
}

/// A line without its comment and without what stands in quotes; where a quote is not closed, `None` for the rest.
fn bare(line: &str) -> (String, bool) {
    let mut out = String::new();
    let mut quote = None;
    let mut escaped = false;
    for c in line.chars() {
        match quote {
            Some(q) => {
                if escaped {
                    escaped = false;
                } else if c == '\\' && q == '"' {
                    escaped = true;
                } else if c == q {
                    quote = None;
                    out.push(c);
                }
            }
            None if c == '#' => break,
            None => {
                if matches!(c, '"' | '\'') {
                    quote = Some(c);
                }
                out.push(c);
            }
        }
    }
    (out, quote.is_none())
}

/// A list or an inline table that is open where the next key or section begins.
fn unclosed(lines: &[&str]) -> Option<Slip> {
    let mut open: Vec<(char, usize)> = vec![];
    for (i, line) in lines.iter().enumerate() {
        let (code, _) = bare(line);
        let begins_a_key = code.split_once('=').is_some_and(|(key, _)| is_key(key.trim()));
        let is_header = code.trim_start().starts_with('[') && code.trim_end().ends_with(']') && {
            let name = code.trim().trim_matches(['[', ']']);
            !name.is_empty() && is_key(name)
        };
        if let Some((bracket, number)) = open.first()
            && (begins_a_key || is_header)
        {
            return Some(not_closed(*bracket, *number));
        }
        if is_header {
            continue;
        }
        let value = code.split_once('=').map_or(code.as_str(), |(_, value)| value);
        let value = if open.is_empty() && !code.contains('=') { "" } else { value };
        for c in value.chars() {
            match c {
                '[' | '{' => open.push((c, i + 1)),
                ']' | '}' => _ = open.pop(),
                _ => {}
            }
        }
    }
    open.first().map(|(bracket, number)| not_closed(*bracket, *number))
}

fn not_closed(bracket: char, line: usize) -> Slip {
    let (what, close) = if bracket == '[' { ("list", ']') } else { ("table", '}') };
    Slip {
        line,
        what: format!("a bracket is missing: the {what} that {bracket} opens is not closed"),
        hint: format!("write {close} at its end"),
    }
}

/// A name, or several with dots between.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn in_line(lines: &[&str], number: usize) -> Option<Slip> {
    let line = lines.get(number - 1).copied().unwrap_or_default();
    let (what, hint) = odd_characters(line)
        .or_else(|| backslash(line))
        .or_else(|| not_a_line(line))
        .or_else(|| header(lines, number))
        .or_else(|| twice(lines, number))
        .or_else(|| key_and_value(line))?;
    Some(Slip { line: number, what, hint })
}

type Words = (String, String);

fn words(what: impl Into<String>, hint: impl Into<String>) -> Option<Words> {
    Some((what.into(), hint.into()))
}

/// What an editor or a web page puts in place of plain characters.
fn odd_characters(line: &str) -> Option<Words> {
    const QUOTES: &[char] = &['“', '”', '„', '‟', '‘', '’', '‚', '«', '»', '″', '´', '`', '＂'];
    let (code, _) = bare(line);
    if let Some(quote) = code.chars().find(|c| QUOTES.contains(c)) {
        return words(
            format!("a typographic quote ({quote}) stands where a plain one must"),
            "write \" in its place, at both ends",
        );
    }
    let odd = code.chars().find(|c| !c.is_ascii() || (c.is_control() && *c != '\t'))?;
    let number = u32::from(odd);
    if odd.is_whitespace()
        || matches!(number, 0x200B..=0x200F | 0x2028..=0x202F | 0x2060..=0x206F | 0xFEFF | 0xAD)
    {
        return words(
            format!("an invisible character (U+{number:04X}) stands in this line"),
            "write the line anew, by hand",
        );
    }
    if odd.is_control() {
        return words(
            format!("a control character (U+{number:04X}) stands in this line"),
            "write the line anew, by hand",
        );
    }
    words(
        format!("{odd} (U+{number:04X}) is no plain letter, though it may look like one"),
        "keys are of plain letters; a text stands in quotes",
    )
}

/// `"C:\mail"` and `"CONTOSO\scanner"`.
fn backslash(line: &str) -> Option<Words> {
    let mut rest = line.split('"').skip(1).step_by(2);
    let inside = rest.find(|inside| inside.contains('\\') && !escapes_well(inside))?;
    let drive = inside.as_bytes();
    if drive.get(1) == Some(&b':') && drive[0].is_ascii_alphabetic() {
        return words(
            "a path of Windows: a backslash between quotes begins an escape",
            "name a path of this machine, such as /etc/mailferry/scanner.password",
        );
    }
    words(
        "a backslash between quotes begins an escape",
        "write it twice (\"CONTOSO\\\\scanner\"), or use single quotes ('CONTOSO\\scanner')",
    )
}

fn escapes_well(inside: &str) -> bool {
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            continue;
        }
        let digits = match chars.next() {
            Some('b' | 'e' | 'f' | 'n' | 'r' | 't' | '\\' | '"') => continue,
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return false,
        };
        if !(0..digits).all(|_| chars.next().is_some_and(|c| c.is_ascii_hexdigit())) {
            return false;
        }
    }
    true
}

fn not_a_line(line: &str) -> Option<Words> {
    let line = line.trim();
    if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| line.starts_with(mark)) {
        return words("a merge has left its marks", "keep one of the two versions, and remove the marks");
    }
    if let Some(mark) = [";", "//", "--", "/*", "REM ", "rem "].iter().find(|mark| line.starts_with(**mark)) {
        return words("a comment begins with #", format!("write # in place of {}", mark.trim()));
    }
    if line.contains("@\"") || line.starts_with("@'") || line.ends_with("'@") {
        return words("@ stands at a quote, as in PowerShell", "write a text between two plain quotes");
    }
    None
}

/// `[[client]` and `[queue`.
fn header(lines: &[&str], number: usize) -> Option<Words> {
    let (code, _) = bare(lines.get(number - 1)?);
    let code = code.trim();
    if !code.starts_with('[') {
        let name = code.trim_end_matches(']');
        let is_header = name != code && is_key(name);
        return if is_header { words("a bracket is missing", format!("write [{name}]")) } else { None };
    }
    let name = code.trim_matches(['[', ']']).trim();
    let (opened, closed) = (code.matches('[').count(), code.matches(']').count());
    if opened != closed && is_key(name) {
        let (open, close) = if opened.max(closed) > 1 { ("[[", "]]") } else { ("[", "]") };
        return words("a bracket is missing", format!("write {open}{name}{close}"));
    }
    if !code.ends_with(']') {
        return words("something stands behind the section", "begin a new line behind ]");
    }
    // The same section again.
    let same = |l: &str| {
        let (other, _) = bare(l);
        let other = other.trim().to_owned();
        other.starts_with('[') && other.trim_matches(['[', ']']).trim() == name
    };
    let first = lines[..number - 1].iter().position(|l| same(l))? + 1;
    let hint = if ["listen", "client", "account", "receive.users"].contains(&name) {
        format!("there can be several of these: write [[{name}]], with two brackets, for each of them")
    } else {
        format!("put the keys of both below one [{name}]")
    };
    words(format!("[{name}] stands twice, first in line {first}"), hint)
}

/// The same key again in one section.
fn twice(lines: &[&str], number: usize) -> Option<Words> {
    let key_of = |line: &str| {
        let (code, _) = bare(line);
        let (key, _) = code.split_once('=')?;
        Some(key.trim().to_owned()).filter(|key| is_key(key))
    };
    let key = key_of(lines.get(number - 1)?)?;
    let above = lines[..number - 1].iter().enumerate().rev();
    let mut here = above.take_while(|(_, l)| !l.trim_start().starts_with('['));
    let (first, _) = here.find(|(_, l)| key_of(l).as_ref() == Some(&key))?;
    words(format!("{key} stands twice, first in line {}", first + 1), "remove one of them")
}

fn key_and_value(line: &str) -> Option<Words> {
    let (code, is_closed) = bare(line);
    let Some((key, value)) = code.split_once('=') else {
        let code = code.trim();
        if let Some((key, _)) = code.split_once(':').filter(|(key, _)| is_key(key.trim())) {
            let key = key.trim();
            return words("a value follows =, not a colon", format!("write {key} = \"...\""));
        }
        let key = code.split_whitespace().next().filter(|key| is_key(key))?;
        return words("= is missing", format!("write {key} = \"...\""));
    };
    let (key, value) = (key.trim(), value.trim());
    if key.split_whitespace().count() > 1 {
        return words("a key is one word", "with _ in place of a blank");
    }
    if value.is_empty() {
        return words(format!("{key} has no value"), "write one behind =, or put # before the line");
    }
    if !is_closed || (!value.starts_with(['"', '\'', '[', '{']) && value.ends_with(['"', '\''])) {
        return words("a quote is missing", format!("a text stands between two: {key} = \"...\""));
    }
    if ["True", "False", "TRUE", "FALSE", "yes", "no", "on"].contains(&value) {
        return words("this is no word of TOML", format!("write {key} = true, or false"));
    }
    if value.starts_with(['[', '{']) && lacks_comma(value) {
        return words("a comma is missing between two entries", "write one between them");
    }
    if !value.starts_with(['"', '\'', '[', '{']) {
        return words("the value stands without quotes", format!("a text stands in quotes: {key} = \"...\""));
    }
    words("something stands behind the value", "a line ends there; a comment begins with #")
        .filter(|_| !value.ends_with(['"', '\'', ']', '}']))
}

/// Of a line in which only the quotes are left of what stands between them.
fn lacks_comma(value: &str) -> bool {
    let closed = value.replace("\"\"", "\u{1}").replace("''", "\u{1}");
    let mut last = ' ';
    for c in closed.chars().filter(|c| !c.is_whitespace()) {
        if (last == '\u{1}' || last == '}') && (c == '\u{1}' || c == '{' || c.is_alphanumeric()) {
            return true;
        }
        last = c;
    }
    false
}
