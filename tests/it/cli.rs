//! The command line from a shell's side: exit codes of sysexits, one lower-case line, a hint.

use assert_cmd::Command;
use std::fs;
use std::path::Path;

fn mailferry(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("mailferry").unwrap();
    command.env_clear().env("PW", "secret").args(args);
    command
}

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("mailferry.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A working configuration whose socket and queue are in `dir`.
fn working(dir: &Path) -> String {
    file(
        dir,
        "[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[client]]\nfrom = [\"127.0.0.1\"]\n\
         [[account]]\nmailbox = \"scanner@contoso.com\"\npassword = { env = \"PW\" }\n\
         [queue]\ndirectory = \"queue\"\n[control]\nsocket = \"control.sock\"\n\
         [notify]\nto = [\"it@contoso.com\"]\n",
    )
}

#[test]
fn a_check_from_a_shell_does_not_ask_for_what_only_the_service_is_given() {
    let dir = tempfile::tempdir().unwrap();
    working(dir.path());
    let path = dir.path().join("mailferry.toml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("{ env = \"PW\" }", "{ credential = \"scanner.password\" }");
    let config = file(dir.path(), &text);
    mailferry(&["check", "--config", &config]).assert().code(0).stderr(format!(
        "{config}:7:14: warning: account.password.credential: is handed to the service alone, so it was not read\n\
         hint: the service needs LoadCredential=scanner.password:/path\n"
    ));
    mailferry(&["serve", "--config", &config]).assert().code(78);
}

#[test]
fn a_right_configuration_is_counted_and_a_wrong_one_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let config = working(dir.path());
    mailferry(&["check", "--config", &config])
        .assert()
        .code(0)
        .stdout("the configuration is right: 1 listener, 1 client, 1 account\n")
        .stderr("");

    mailferry(&["check", "--config", &config])
        .env("MAILFERRY__CLIENT__0__FROM", "0.0.0.0/0")
        .assert()
        .code(0)
        .stderr(
            "environment MAILFERRY__CLIENT__0__FROM: warning: client.from: 0.0.0.0/0 lets the whole world relay \
             through this mailbox\nhint: name the networks of the devices only\n",
        );

    let wrong =
        "[[listen]]\naddress = \"127.0.0.1:25\"\ntsl = \"off\"\n[notify]\nto = [\"it@contoso.com\"]\n";
    let config = file(dir.path(), wrong);
    mailferry(&["--config", &config, "check"]).assert().code(78).stdout("").stderr(format!(
        "{config}: account: mail has no way out\nhint: add [[account]] with mailbox and password\n\
         {config}: client: nobody may relay\nhint: add [[client]] with from = [\"10.0.5.0/24\"]\n\
         {config}:3:1: listen.tsl: unknown key\nhint: did you mean `tls`?\n\
         the configuration has 3 problems; nothing was opened\n"
    ));
}

#[test]
fn the_daemon_does_not_start_on_a_wrong_configuration() {
    mailferry(&["serve", "--config", "/nonexistent.toml"]).assert().code(78).stderr(
        "/nonexistent.toml: cannot read the configuration: no such file\nhint: name another file with --config\n\
         the configuration has 1 problem; nothing was opened\n",
    );
}

#[test]
fn what_nobody_understands_is_a_usage_error_and_help_is_none() {
    for args in [
        &["sevre"] as &[&str],
        &[],
        &["queue"],
        &["queue", "show"],
        &["queue", "show", "../../etc/passwd"],
        &["queue", "list", "--state", "lost"],
        &["queue", "list", "--since", "yesterday-ish"],
        &["queue", "export"],
    ] {
        mailferry(args).assert().code(64);
    }
    mailferry(&["--help"]).assert().code(0);
    mailferry(&["queue", "list", "--help"]).assert().code(0);
    mailferry(&["--version"]).assert().code(0).stdout(format!("mailferry {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn pausing_an_account_needs_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let config = working(dir.path());
    mailferry(&["account", "pause", "scanner@contoso.com", "--config", &config])
        .assert()
        .code(69)
        .stderr("mailferry is not running\nhint: start it with: systemctl start mailferry\n");
}

#[test]
fn a_secret_that_cannot_be_read_does_not_keep_the_admin_from_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let config = working(dir.path());
    // Without its variable, `check` complains about the secret; `account` only wants the socket.
    mailferry(&["check", "--config", &config]).env_remove("PW").assert().code(78);
    mailferry(&["account", "pause", "x", "--config", &config]).env_remove("PW").assert().code(69);
}

#[test]
fn an_admin_without_internet_asks_the_relay_what_a_text_means() {
    let explain = |args: &[&str]| {
        let output = mailferry(&[&["explain"], args].concat()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    // Quoted or not: a shell splits it into words.
    let reply = "451 4.7.0 Temporary server error. Please try again later. PRX4";
    let (code, quoted, said) = explain(&[reply]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(explain(&reply.split(' ').collect::<Vec<_>>()).1, quoted);
    assert!(
        quoted.starts_with("451 4.7.0 Temporary server error ... PRX4\n  means: exchange online"),
        "{quoted}"
    );
    assert!(quoted.contains("\n  then: the account waits as a whole"), "{quoted}");
    assert!(quoted.contains("Set-CASMailbox -Identity MAILBOX"), "{quoted}");
    assert!(quoted.ends_with("\n  more: docs/errors.md#prx4\n"), "{quoted}");

    let (code, json, _) = explain(&[
        "--json",
        "AUTH: 535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
    ]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["known"]), (0, &serde_json::json!(true)));
    assert_eq!(json["entries"][0]["slug"], "wrong-password");

    let (code, text, said) = explain(&["550", "5.9.9", "Blurb"]);
    assert_eq!(code, 66);
    assert!(
        text.starts_with("nobody here knows these words; what happens all the same:\n  5yz at connecting"),
        "{text}"
    );
    assert_eq!(
        said,
        "no entry explains these words\nhint: mailferry explain, without a text, lists what there is\n"
    );

    let (code, list, _) = explain(&[]);
    assert_eq!(code, 0);
    assert!(
        list.lines().any(|l| l.starts_with("aadsts7000215 ")) && list.lines().any(|l| l.starts_with("prx4 "))
    );
    // The only account of a configuration that can be read is filled in.
    let dir = tempfile::tempdir().unwrap();
    let config = working(dir.path());
    mailferry(&["explain", "--config", &config, "prx4"])
        .assert()
        .code(0)
        .stdout(predicates::str::contains("Set-CASMailbox -Identity scanner@contoso.com"));
}

#[test]
fn a_monitor_gets_one_line_and_its_exit_code_whatever_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let config = working(dir.path());
    let check = |format: &str| mailferry(&["status", "--check", "--format", format, "--config", &config]);
    let stopped = |text: &str| predicates::str::is_match(format!("^{text}[^\n]*\n$")).unwrap();
    check("nagios").assert().code(2).stdout(stopped("MAILFERRY CRITICAL - mailferry is not running"));
    check("checkmk")
        .assert()
        .code(2)
        .stdout(stopped("2 mailferry queued=0.oldest=0.dead=0 mailferry is not"));
    check("zabbix").assert().code(2).stdout(stopped("\\{.*\"state\":2"));
    fs::write(&config, "[[listen\n").unwrap();
    check("nagios").assert().code(3).stdout(stopped("MAILFERRY UNKNOWN - "));
    mailferry(&["status", "--format", "zabbix", "--config", &config]).assert().code(64);
    mailferry(&["status", "--check", "--json", "--config", &config]).assert().code(64);
}
