//! Configurations that people write, each with one thing wrong, and the one message it gets with what mends it.

use mailferry::config::{self, Env, Problem};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Right as it is.
const RIGHT: &str = r#"hostname = "relay.contoso.local"

[[listen]]
address = "127.0.0.1:2525"

[[client]]
name = "printers"
from = ["10.0.5.0/24", "10.0.6.7"]

[[account]]
mailbox = "scanner@contoso.com"
password = { file = "pw" }

[queue]
directory = "queue"

[notify]
to = ["it@contoso.com"]
"#;

const OAUTH: &str = r#"[account.oauth]
tenant = "contoso.com"
client_id = "11111111-2222-3333-4444-555555555555"
secret = { file = "pw" }
"#;

fn said(problem: &Problem, directory: &Path) -> String {
    let here = format!("{}/", directory.display());
    let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!(" | {hint}"));
    format!("{problem}{hint}").replace(&here, "")
}

/// Everything that is said about this file.
fn all_said(bytes: &[u8], secret: &[u8], env: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let (file, pw) = (directory.path().join("m.toml"), directory.path().join("pw"));
    fs::write(&file, bytes).unwrap();
    fs::write(&pw, secret).unwrap();
    fs::set_permissions(&pw, fs::Permissions::from_mode(0o600)).unwrap();
    let env: Env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    let problems = config::load(&file, &env).map_or_else(|p| p, |settings| settings.warnings);
    problems.iter().map(|p| said(p, directory.path())).collect()
}

fn of(text: &str) -> Vec<String> {
    all_said(text.as_bytes(), b"hunter2\n", &[])
}

/// The right one with the first of each pair replaced.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(RIGHT.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn a_right_configuration_is_right_however_it_is_written() {
    let tabs = RIGHT.replace(" = ", "\t=\t").replace("\nto", "\n\tto");
    for text in [
        RIGHT.to_owned(),
        RIGHT.replace('\n', "\r\n"),
        tabs,
        format!("\u{feff}{RIGHT}"),
        with(&[("\"10.0.5.0/24\", \"10.0.6.7\"", "\n  \"10.0.5.0/24\", # scanners\n  \"10.0.6.7\",\n")]),
        with(&[("\"printers\"", "'the printers = [all]'")]),
        with(&[("127.0.0.1:2525", "0.0.0.0:25")]) + "[[listen]]\naddress = \"[::]:25\"\n",
    ] {
        assert_eq!(of(&text), [""; 0], "{text}");
    }
}

/// What is replaced by what, and what is said then.
type Row = (&'static str, &'static str, &'static str);

const SLIPS: &[Row] = &[
    (
        "\"relay.contoso.local\"",
        "“relay.contoso.local”",
        "m.toml:1:1: a typographic quote (“) stands where a plain one must | write \" in its place, at both ends",
    ),
    (
        "\"10.0.5.0/24\"",
        "„10.0.5.0/24“",
        "m.toml:8:1: a typographic quote („) stands where a plain one must | write \" in its place, at both ends",
    ),
    (
        "\"10.0.6.7\"]",
        "\"10.0.6.7\"",
        "m.toml:8:1: a bracket is missing: the list that [ opens is not closed | write ] at its end",
    ),
    (
        "\"pw\" }",
        "\"pw\"",
        "m.toml:12:1: a bracket is missing: the table that { opens is not closed | write } at its end",
    ),
    ("[[client]]", "[[client]", "m.toml:6:1: a bracket is missing | write [[client]]"),
    ("[queue]", "[queue", "m.toml:14:1: a bracket is missing | write [queue]"),
    ("[queue]", "queue]", "m.toml:14:1: a bracket is missing | write [queue]"),
    ("/24\", ", "/24\" ", "m.toml:8:1: a comma is missing between two entries | write one between them"),
    (
        "contoso.local\"",
        "contoso.local",
        "m.toml:1:1: a quote is missing | a text stands between two: hostname = \"...\"",
    ),
    ("\"relay", "relay", "m.toml:1:1: a quote is missing | a text stands between two: hostname = \"...\""),
    (
        "\"127.0.0.1:2525\"",
        "127.0.0.1:2525",
        "m.toml:4:1: the value stands without quotes | a text stands in quotes: address = \"...\"",
    ),
    (
        "hostname = \"relay.contoso.local\"",
        "hostname =",
        "m.toml:1:1: hostname has no value | write one behind =, or put # before the line",
    ),
    ("hostname =", "hostname:", "m.toml:1:1: a value follows =, not a colon | write hostname = \"...\""),
    ("hostname =", "hostname", "m.toml:1:1: = is missing | write hostname = \"...\""),
    ("hostname =", "host name =", "m.toml:1:1: a key is one word | with _ in place of a blank"),
    (
        "contoso.local\"",
        "contoso.local\";",
        "m.toml:1:1: something stands behind the value | a line ends there; a comment begins with #",
    ),
    ("[queue]", "// the queue\n[queue]", "m.toml:14:1: a comment begins with # | write # in place of //"),
    ("[queue]", "; the queue\n[queue]", "m.toml:14:1: a comment begins with # | write # in place of ;"),
    (
        "[queue]",
        "<<<<<<< HEAD\n[queue]",
        "m.toml:14:1: a merge has left its marks | keep one of the two versions, and remove the marks",
    ),
    (
        "\"pw\"",
        r#""C:\Users\mail\pw.txt""#,
        "m.toml:12:1: a path of Windows: a backslash between quotes begins an escape | name a path of this machine, such as /etc/mailferry/scanner.password",
    ),
    (
        "password = {",
        "login = \"CONTOSO\\scanner\"\npassword = {",
        r#"m.toml:12:1: a backslash between quotes begins an escape | write it twice ("CONTOSO\\scanner"), or use single quotes ('CONTOSO\scanner')"#,
    ),
    (
        "hostname =",
        "hostname\u{a0}=",
        "m.toml:1:1: an invisible character (U+00A0) stands in this line | write the line anew, by hand",
    ),
    (
        "hostname",
        "\u{200b}hostname",
        "m.toml:1:1: an invisible character (U+200B) stands in this line | write the line anew, by hand",
    ),
    (
        "hostname",
        "h\u{43e}stname",
        "m.toml:1:1: \u{43e} (U+043E) is no plain letter, though it may look like one | keys are of plain letters; a text stands in quotes",
    ),
    (
        "[[listen]]",
        "hostname = \"b\"\n[[listen]]",
        "m.toml:3:1: hostname stands twice, first in line 1 | remove one of them",
    ),
    (
        "[notify]",
        "[queue]\nmin_free_space = \"1 GiB\"\n[notify]",
        "m.toml:17:1: [queue] stands twice, first in line 14 | put the keys of both below one [queue]",
    ),
    (
        "[queue]",
        "[account]\nmailbox = \"b@contoso.com\"\n[queue]",
        "m.toml:14:1: [account] stands twice, first in line 10 | there can be several of these: write [[account]], with two brackets, for each of them",
    ),
];

#[test]
fn a_slip_of_the_pen_is_named_once_with_its_line() {
    for (from, to, expected) in SLIPS {
        assert_eq!(of(&with(&[(from, to)])), [*expected], "{from} {to}");
    }
    let everywhere = RIGHT.replace('"', "”");
    assert_eq!(
        of(&everywhere),
        [
            "m.toml:1:1: a typographic quote (”) stands where a plain one must (and in lines 4, 7, 8, 11, 12 and 2 more) | write \" in its place, at both ends"
        ]
    );
    for (text, expected) in [
        (
            "{\"hostname\": \"relay\"}",
            "m.toml:1:1: this is JSON, and the configuration is TOML | [section], then key = value",
        ),
        (
            "hostname: relay\nlisten:\n  - address: 0.0.0.0:25\n",
            "m.toml:1:1: this looks like YAML, and the configuration is TOML | [section], then key = value",
        ),
        (
            "[listen]\naddress=0.0.0.0:25\n[client]\nfrom=10.0.5.0/24\n[account]\npassword=hunter2\n",
            "m.toml:2:1: the value stands without quotes (and in lines 4, 6) | a text stands in quotes: address = \"...\"",
        ),
    ] {
        assert_eq!(of(text), [expected], "{text}");
    }
}

#[test]
fn a_file_that_is_no_text_of_ours_is_named_as_what_it_is() {
    const UTF8: &str = "save it as UTF-8 (in Windows: Save as, Encoding: UTF-8)";
    let utf16 = |order: fn(u16) -> [u8; 2]| RIGHT.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let in_latin1: Vec<u8> =
        with(&[("printers", "B\u{fc}ro")]).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for (bytes, expected) in [
        ([b"\xFF\xFE".to_vec(), utf16(u16::to_le_bytes)].concat(), format!("m.toml: the configuration is in UTF-16 | {UTF8}")),
        ([b"\xFE\xFF".to_vec(), utf16(u16::to_be_bytes)].concat(), format!("m.toml: the configuration is in UTF-16 | {UTF8}")),
        (utf16(u16::to_le_bytes), format!("m.toml: the configuration is in UTF-16 | {UTF8}")),
        (in_latin1, format!("m.toml:7:1: the byte FC is no UTF-8: the file is in another encoding | {UTF8}")),
        (
            with(&[("[queue]", "\0[queue]")]).into_bytes(),
            "m.toml:14:1: a zero byte: the file is damaged, or no text | write this line anew".to_owned(),
        ),
        (
            RIGHT.replace('\n', "\r").into_bytes(),
            "m.toml: a line ends with a lone carriage return (CR) | save it with line ends of Unix or Windows (LF or CRLF)".to_owned(),
        ),
    ] {
        assert_eq!(all_said(&bytes, b"hunter2", &[]), [expected]);
    }
    let directory = tempfile::tempdir().unwrap();
    let problems = config::load(directory.path(), &Env::new()).unwrap_err();
    let shown = directory.path().display();
    assert_eq!(
        problems.iter().map(|p| said(p, Path::new("/nowhere"))).collect::<Vec<_>>(),
        [format!(
            "{shown}: cannot read the configuration: it is a directory | name the file in it: --config /etc/mailferry/mailferry.toml"
        )]
    );
}

const VALUES: &[Row] = &[
    (
        "[queue]",
        "[receive]\nmax_message_size = 35\n[queue]",
        "m.toml:15:1: receive.max_message_size: has no unit, so it is 35 bytes | write \"35 MiB\"",
    ),
    (
        "[queue]",
        "[receive]\nmax_message_size = \"35\"\n[queue]",
        "m.toml:15:1: receive.max_message_size: has no unit, so it is 35 bytes | write \"35 MiB\"",
    ),
    (
        "[queue]",
        "[receive]\nmax_message_size = \"35 B\"\n[queue]",
        "m.toml:15:1: warning: receive.max_message_size: 35 bytes are less than any mail with a scan has | for example \"35 MiB\"",
    ),
    (
        "[queue]",
        "[receive]\nidle_timeout = 10\n[queue]",
        "m.toml:15:1: receive.idle_timeout: has no unit | for example \"30 s\", \"5 min\", \"4 h\" or \"5 days\"",
    ),
    (
        "[queue]",
        "[receive]\nidle_timeout = \"10\"\n[queue]",
        "m.toml:15:1: receive.idle_timeout: \"10\": has no unit | for example \"30 s\", \"5 min\", \"4 h\" or \"5 days\"",
    ),
    (
        "[queue]",
        "[receive]\nidle_timeout = \"36501 days\"\n[queue]",
        "m.toml:15:1: receive.idle_timeout: is too long | at most \"36500 days\"",
    ),
    (
        "[queue]",
        "[receive]\nidle_timeout = \"10 M\"\n[queue]",
        "m.toml:15:1: warning: receive.idle_timeout: M is months: 10months | for minutes, write \"10 min\"",
    ),
    (
        "[queue]",
        "[receive]\nmax_recipients = \"500\"\n[queue]",
        "m.toml:15:1: receive.max_recipients: is a number in quotes | write max_recipients = 500",
    ),
    (
        "[queue]",
        "[receive]\nmax-recipients = 500\n[queue]",
        "m.toml:15:1: receive.max-recipients: unknown key | did you mean `max_recipients`?",
    ),
    (
        "[queue]",
        "[[queue]]",
        "m.toml:14:3: queue: there is only one of these | write [queue], with one bracket",
    ),
    (
        "[[account]]",
        "[account]",
        "m.toml:10:2: account: there can be several of these | write [[account]], with two brackets, for each of them",
    ),
    (
        "127.0.0.1:2525",
        "25",
        "m.toml:4:1: listen.address: \"25\": is a port without an address | write \"0.0.0.0:25\" for every address",
    ),
    (
        "127.0.0.1:2525",
        "0.0.0.0",
        "m.toml:4:1: listen.address: \"0.0.0.0\": has no port | write \"0.0.0.0:25\"",
    ),
    (
        "relay.contoso.local",
        "my relay",
        "m.toml:1:1: hostname: \"my relay\": has a blank in it, so it is not a host name | for example \"my-relay\"",
    ),
    (
        "10.0.5.0/24",
        "10.0.5.0/255.255.255.0",
        "m.toml:8:9: client.from: \"10.0.5.0/255.255.255.0\": is a network with a mask | write \"10.0.5.0/24\"",
    ),
    (
        "10.0.5.0/24",
        "10.0.5.20-10.0.5.10",
        "m.toml:8:9: client.from: \"10.0.5.20-10.0.5.10\": is a range of addresses that ends before it begins | from 10.0.5.10 to 10.0.5.20, as networks",
    ),
    (
        "[\"10.0.5.0/24\", \"10.0.6.7\"]",
        "\"10.0.5.0/24\"",
        "m.toml:8:1: client.from: must be a list | write [ ] around it, even if there is only one",
    ),
    (
        "password = {",
        "smart_host = \"smtp.office365.com:587\"\npassword = {",
        "m.toml:12:1: account.smart_host: unknown key | did you mean `smarthost`?",
    ),
    (
        "password = {",
        "smarthost = \"smtp.office365.com:465\"\npassword = {",
        "m.toml:12:1: account.smarthost: Exchange Online does not listen on port 465 | write smarthost = \"smtp.office365.com:587\", without tls",
    ),
    (
        "password = {",
        "smarthost = \"smtp.office365.com:465\"\ntls = \"implicit\"\npassword = {",
        "m.toml:12:1: account.smarthost: Exchange Online does not listen on port 465 | write smarthost = \"smtp.office365.com:587\", without tls",
    ),
    (
        "password = {",
        "smarthost = \"smtp.example.com:465\"\npassword = {",
        "m.toml:12:1: warning: account.smarthost: port 465 is for TLS from the first byte | set tls = \"implicit\", or use port 587",
    ),
    (
        "password = {",
        "smarthost = \"smtp.example.com:587\"\ntls = \"implicit\"\npassword = {",
        "m.toml:13:1: warning: account.tls: port 587 begins in the clear and goes on with STARTTLS | remove tls, or use port 465",
    ),
    (
        "password = {",
        "smarthost = \"contoso-com.mail.protection.outlook.com:25\"\npassword = {",
        "m.toml:12:1: warning: account.smarthost: contoso-com.mail.protection.outlook.com takes no login: it is for connectors | to log in as the mailbox, remove smarthost; for a connector, remove the login",
    ),
    (
        "password = {",
        "tls = \"StartTLS\"\npassword = {",
        "m.toml:12:1: account.tls: \"StartTLS\" is not one of \"starttls\", \"implicit\", \"off\" | write \"starttls\"",
    ),
    (
        "password = {",
        "login = \"contoso\\tester\"\npassword = {",
        "m.toml:12:1: account.login: must be a user name | a backslash between double quotes begins an escape: write it twice, or use single quotes",
    ),
    (
        "password = { file = \"pw\" }",
        "smarthost = \"smtp.office365.com:587\"",
        "m.toml:10:1: account.password: is missing | Exchange Online takes mail only from a mailbox that logs in: set [account.oauth], or password = { file = \"/etc/mailferry/scanner.password\" }",
    ),
    (
        "file = \"pw\"",
        "path = \"pw\"",
        "m.toml:12:1: account.password: path is no way to name a secret | write { file = \"/path\" }, { credential = \"name\" } (systemd) or { env = \"NAME\" }",
    ),
    (
        "file = \"pw\"",
        "file = \"C:\\temp\\pw\"",
        "m.toml:12:1: a path of Windows: a backslash between quotes begins an escape | name a path of this machine, such as /etc/mailferry/scanner.password",
    ),
    (
        "\"queue\"",
        "\"D:\\temp\\new\"",
        "m.toml:15:1: queue.directory: has a control character in it | a backslash between double quotes begins an escape (\\t is a tab); paths of this machine have /",
    ),
    (
        "\"queue\"",
        "'D:\\mail'",
        "m.toml:15:1: queue.directory: is a path of Windows | name one of this machine, such as /etc/mailferry/file",
    ),
    (
        "\"scanner@contoso.com\"",
        "\"Scanner <scan@contoso.com>\"",
        "m.toml:11:1: account.mailbox: \"Scanner <scan@contoso.com>\": not an address: it has a character that is not allowed | for example \"scan@contoso.com\"",
    ),
    (
        "it@contoso.com",
        "Scanner@contoso.com",
        "m.toml:18:1: warning: notify.to: Scanner@contoso.com is a mailbox that this relay sends through, which hardly anybody reads | name somebody who reads it, best in another mailbox",
    ),
    (
        "\"it@contoso.com\"",
        "",
        "m.toml:18:1: warning: notify.to: nobody is told when mail is given up, or an account needs somebody | add [notify] with to = [\"it@contoso.com\"]",
    ),
    (
        "[notify]\nto = [\"it@contoso.com\"]\n",
        "",
        "m.toml: warning: notify.to: nobody is told when mail is given up, or an account needs somebody | add [notify] with to = [\"it@contoso.com\"]",
    ),
    (
        "to = [",
        "log.format = \"text\"\nto = [",
        "m.toml:18:1: notify.log: unknown key | [log] is a section of its own",
    ),
];

#[test]
fn a_value_that_cannot_work_says_how_to_write_what_was_meant() {
    for (from, to, expected) in VALUES {
        assert_eq!(of(&with(&[(from, to)])), [*expected], "{from} {to}");
    }
}

#[test]
fn ids_and_days_of_an_application_are_looked_at() {
    let oauth = |from: &str, to: &str| {
        let section = OAUTH.replacen(from, to, 1);
        with(&[("password = { file = \"pw\" }\n", &section)])
    };
    let id = "11111111-2222-3333-4444-555555555555";
    let not_one = "m.toml:14:1: account.oauth.client_id: is no client id, which is 32 hexadecimal digits and 4 hyphens | the Application (client) ID on the app's overview page";
    assert_eq!(of(&oauth("", "")), [""; 0]);
    for (to, expected) in [
        ("mailferry", not_one.to_owned()),
        ("11111111-2222-3333-4444-55555555555", not_one.to_owned()),
        (
            &format!("{{{id}}}"),
            format!(
                "m.toml:14:1: account.oauth.client_id: has braces around it | write client_id = \"{id}\""
            ),
        ),
    ] {
        assert_eq!(of(&oauth(id, to)), [expected], "{to}");
    }
    let elsewhere = "mailferry\"\ntoken_url = \"https://login.example.com/token";
    assert_eq!(of(&oauth(id, elsewhere)), [""; 0], "other services have ids of other forms");
    assert_eq!(
        of(&oauth("tenant = \"contoso.com\"", "tenant = \"contoso\"")),
        [
            "m.toml:13:1: account.oauth.tenant: is neither an id nor a domain | the Directory (tenant) ID on the app's overview page, or a domain such as \"contoso.onmicrosoft.com\""
        ]
    );
    assert_eq!(
        of(&oauth("tenant = \"contoso.com\"", &format!("tenant = \"{id}\""))),
        [
            "m.toml:14:1: account.oauth.client_id: is the same as tenant | the Application (client) ID on the app's overview page"
        ]
    );
    assert_eq!(
        all_said(oauth("", "").as_bytes(), b"99999999-2222-3333-4444-555555555555\n", &[]),
        [
            "m.toml:15:1: warning: account.oauth.secret: the secret looks like the column Secret ID | it is the column Value, which is shown once: make a new secret"
        ]
    );
    let expired = oauth("secret = {", "secret_expires = \"2021-02-03\"\nsecret = {");
    let found = of(&expired);
    assert!(found.len() == 1 && found[0].starts_with("m.toml:15:1: warning: account.oauth.secret_expires: the client secret of scanner@contoso.com has expired on 2021-02-03"), "{found:?}");
    let fallback = oauth(
        "[account.oauth]",
        "password = { file = \"pw\" }\nfallback_until = \"2020-01-01\"\n[account.oauth]",
    );
    assert_eq!(
        of(&fallback),
        [
            "m.toml:13:1: warning: account.fallback_until: 2020-01-01 has passed: the password is never used any more | remove it together with the password, or set a later day"
        ]
    );
}

#[test]
fn a_secret_is_read_as_it_was_meant_and_what_is_hardly_a_part_of_it_is_told() {
    const UTF8: &str = "save it as UTF-8 (in Windows: Save as, Encoding: UTF-8)";
    for good in [
        b"hunter2".as_slice(),
        b"hunter2\n",
        b"hunter2\r\n",
        b"\xEF\xBB\xBFhunter2\n",
        b"hun ter2",
        b"h\"unter2",
    ] {
        assert_eq!(all_said(RIGHT.as_bytes(), good, &[]), [""; 0], "{good:?}");
    }
    let utf16: Vec<u8> = "\u{feff}hunter2\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (secret, expected) in [
        (b" hunter2\n".to_vec(), "warning: account.password: the secret begins or ends with a blank | remove it, unless it belongs to the secret".to_owned()),
        (b"hunter2\t\n".to_vec(), "warning: account.password: the secret begins or ends with a blank | remove it, unless it belongs to the secret".to_owned()),
        ("hunter2\u{a0}\n".as_bytes().to_vec(), "warning: account.password: the secret has an invisible character in it, such as a no-break space | type it anew, by hand".to_owned()),
        (b"\"hunter2\"\n".to_vec(), "warning: account.password: the secret stands in quotes | remove them, unless they belong to the secret".to_owned()),
        ("“hunter2”".as_bytes().to_vec(), "warning: account.password: the secret stands in quotes | remove them, unless they belong to the secret".to_owned()),
        (b"password=hunter2\n".to_vec(), "warning: account.password: the secret begins with a name, as in password= | the secret stands alone: remove the name, unless it belongs to it".to_owned()),
        (utf16, format!("account.password: pw is in UTF-16 | {UTF8}")),
        (b"hunt\xFCr2\n".to_vec(), format!("account.password: pw is not UTF-8 | {UTF8}")),
        (b"\n".to_vec(), "account.password: the secret is empty".to_owned()),
        (b"hunter2\nhunter3\n".to_vec(), "account.password: the secret has several lines | one line, nothing else".to_owned()),
    ] {
        let found = all_said(RIGHT.as_bytes(), &secret, &[]);
        assert_eq!(found, [format!("m.toml:12:1: {expected}")], "{secret:?}");
        assert!(!found[0].contains("hunter"), "{found:?}");
    }
}

#[test]
fn a_variable_that_means_nothing_is_told_with_the_one_that_does() {
    for (name, expected) in [
        (
            "MAILFERRY_QUEUE_DIRECTORY",
            "environment MAILFERRY_QUEUE_DIRECTORY: warning: means nothing here | did you mean MAILFERRY__QUEUE__DIRECTORY? two underscores stand between section and key",
        ),
        (
            "MAILFERRY_HOSTNAME",
            "environment MAILFERRY_HOSTNAME: warning: means nothing here | did you mean MAILFERRY__HOSTNAME? two underscores stand between section and key",
        ),
        (
            "MAILFERRY_ACCOUNT_0_MAILBOX",
            "environment MAILFERRY_ACCOUNT_0_MAILBOX: warning: means nothing here | did you mean MAILFERRY__ACCOUNT__0__MAILBOX? two underscores stand between section and key",
        ),
        (
            "MAILFERRY_PASSWORD",
            "environment MAILFERRY_PASSWORD: warning: means nothing here | settings are MAILFERRY__SECTION__KEY, with two underscores",
        ),
        (
            "MAILFERRY__QUEUE_DIRECTORY",
            "environment MAILFERRY__QUEUE_DIRECTORY: queue_directory: unknown key | did you mean MAILFERRY__QUEUE__DIRECTORY? two underscores stand between section and key",
        ),
        (
            "MAILFERRY__QUEU__DIRECTORY",
            "environment MAILFERRY__QUEU__DIRECTORY: queu: unknown key | did you mean `queue`?",
        ),
    ] {
        assert_eq!(all_said(RIGHT.as_bytes(), b"hunter2", &[(name, "/srv/mail")]), [expected]);
    }
    // The log's filter, and what Kubernetes sets for a service of this name.
    for name in ["MAILFERRY_LOG", "MAILFERRY_SERVICE_HOST", "MAILFERRY_PORT_25_TCP", "MAILFERRYX", "PATH"] {
        assert_eq!(all_said(RIGHT.as_bytes(), b"hunter2", &[(name, "x")]), [""; 0], "{name}");
    }
}
