//! Secrets and certificates: what a configuration names and other files hold.
//!
//! Invariant: a secret is in memory only as `SecretString`, and no problem quotes one.

use super::Env;
use super::field::Field;
use crate::files;
use crate::tls::pem::{self, PemError};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More than any password or key; a path to a device or a mail folder ends here.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
const WAYS: &str = "write { file = \"/path\" }, { credential = \"name\" } (systemd) or { env = \"NAME\" }";

/// Reads a secret: `{ file = .. }`, `{ credential = .. }`, `{ env = .. }`, or its own environment variable.
pub(super) fn secret(field: &Field<'_>, env: &Env) -> Option<SecretString> {
    if !field.is_set() {
        return None;
    }
    if field.is_from_environment() && field.table().is_none() {
        return checked(field, &field.text("a password")?);
    }
    let Some(mut ways) = field.table() else {
        field.error("a secret does not belong into this file", WAYS);
        return None;
    };
    let (file, credential, variable) = (ways.field("file"), ways.field("credential"), ways.field("env"));
    if let Some(name) = ways.take_unknown() {
        field.error(format!("{name} is no way to name a secret"), WAYS);
        return None;
    }
    match (file.is_set(), credential.is_set(), variable.is_set()) {
        (true, false, false) => from_file(field, &file.path()?),
        (false, true, false) => from_credential(field, &credential, env),
        (false, false, true) => {
            let name = variable.text("\"SCANNER_PASSWORD\"")?;
            field.is_given_at_start();
            match env.get(&name).map(|v| v.to_str()) {
                Some(Some(value)) => checked(field, value),
                Some(None) => {
                    field.error(format!("environment variable {name} is not valid UTF-8"), "");
                    None
                }
                None => {
                    field.error(format!("environment variable {name} is not set"), "set it for the service");
                    None
                }
            }
        }
        _ => {
            field.error("needs exactly one of file, credential and env", WAYS);
            None
        }
    }
}

/// What systemd hands to the service.
fn from_credential(field: &Field<'_>, credential: &Field<'_>, env: &Env) -> Option<SecretString> {
    let name = credential.text("\"scanner\"")?;
    if name.is_empty() || name.contains('/') || name == ".." {
        credential.error("is not the name of a credential", "the name in LoadCredential=name:/path");
        return None;
    }
    let not_read = || {
        credential.warn(
            "is handed to the service alone, so it was not read",
            format!("the service needs LoadCredential={name}:/path"),
        );
        Some(SecretString::from("not read"))
    };
    let Some(directory) = env.get("CREDENTIALS_DIRECTORY") else {
        if field.is_rehearsal() {
            return not_read();
        }
        credential.error(
            "there are no credentials: CREDENTIALS_DIRECTORY is not set",
            format!(
                "systemd sets it, for LoadCredential={name}:/path; by hand: CREDENTIALS_DIRECTORY=/etc/mailferry"
            ),
        );
        return None;
    };
    let path = Path::new(directory).join(&name);
    // systemd 252 names them to ExecReload=, too, and lets only the service itself read them.
    let is_closed = || File::open(&path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    if field.is_rehearsal() && is_closed() {
        return not_read();
    }
    // Systemd copies them there when it starts the service; elsewhere, somebody keeps them by hand.
    if Path::new(directory).starts_with("/run") {
        field.is_given_at_start();
    }
    from_file(field, &path)
}

fn from_file(field: &Field<'_>, path: &Path) -> Option<SecretString> {
    checked(field, &read_private(field, path)?)
}

fn read_private(field: &Field<'_>, path: &Path) -> Option<String> {
    let (text, mode) = read(field, path)?;
    // Reading by the group is how a file of root's reaches the service's user.
    if mode & 0o037 != 0 {
        let shown = path.display();
        field.is_open(
            format!("{shown} is open to others (mode {:03o})", mode & 0o777),
            format!("chmod 600 {shown}"),
        );
    }
    Some(text)
}

/// The text of a file, and its mode.
fn read(field: &Field<'_>, path: &Path) -> Option<(String, u32)> {
    let shown = path.display();
    let mut bytes = Vec::new();
    // A pipe that nobody writes into would be waited for without end.
    if std::fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo()) {
        field.error(format!("{shown} is a pipe, not a file"), "name the file itself");
        return None;
    }
    let read = File::open(path).and_then(|file| {
        let mode = file.metadata()?.permissions().mode();
        file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    // Wiped with whatever it becomes.
    let text = Zeroizing::new(bytes);
    let mode = match read {
        Ok(mode) => mode,
        Err(e) => {
            let hint = match e.kind() {
                ErrorKind::IsADirectory => "name the file in it",
                ErrorKind::NotFound => {
                    "the file must be there, and the service's user must be able to read it"
                }
                _ => "the service's user must be able to read it",
            };
            field.unreadable(files::may_pass(&e), format!("cannot read {shown}: {}", reason(&e)), hint);
            return None;
        }
    };
    if text.len() as u64 > MAX_SECRET_BYTES {
        field.error(format!("{shown} is too long for a secret"), "it holds one line, nothing else");
        return None;
    }
    if !field.is_the_services(path) {
        return None;
    }
    // Editors of Windows put it there.
    let without_mark = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
    let is_utf16 =
        [[0xFF, 0xFE], [0xFE, 0xFF]].iter().any(|mark| text.starts_with(mark)) || text.contains(&0);
    match std::str::from_utf8(without_mark) {
        Ok(text) if !is_utf16 => Some((text.to_owned(), mode)),
        _ => {
            let encoding = if is_utf16 { "is in UTF-16" } else { "is not UTF-8" };
            field.error(
                format!("{shown} {encoding}"),
                "save it as UTF-8 (in Windows: Save as, Encoding: UTF-8)",
            );
            None
        }
    }
}

fn checked(field: &Field<'_>, text: &str) -> Option<SecretString> {
    // An editor ends the last line; a password that really ends in a newline cannot be typed anywhere.
    let text = text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t));
    if text.is_empty() {
        field.error("the secret is empty", "");
        return None;
    }
    if text.contains(['\n', '\r', '\0']) {
        field.error("the secret has several lines", "one line, nothing else");
        return None;
    }
    if let Some((what, hint)) = doubt(text) {
        field.warn(what, hint);
    }
    Some(SecretString::from(text))
}

/// What is hardly a part of a secret, though it may be. Nothing of it is repeated.
fn doubt(text: &str) -> Option<(&'static str, &'static str)> {
    let invisible = |c: char| matches!(c, '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    if text.contains(invisible) {
        return Some((
            "the secret has an invisible character in it, such as a no-break space",
            "type it anew, by hand",
        ));
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Some((
            "the secret begins or ends with a blank",
            "remove it, unless it belongs to the secret",
        ));
    }
    let quotes = [('"', '"'), ('\'', '\''), ('“', '”'), ('„', '“'), ('‘', '’'), ('<', '>')];
    let is_quoted =
        |(open, close): &(char, char)| text.len() > 1 && text.starts_with(*open) && text.ends_with(*close);
    if quotes.iter().any(is_quoted) {
        return Some(("the secret stands in quotes", "remove them, unless they belong to the secret"));
    }
    let is_setting = ["password=", "password =", "password:", "secret=", "secret:"];
    let lower = text.to_lowercase();
    is_setting.iter().any(|name| lower.starts_with(name)).then_some((
        "the secret begins with a name, as in password=",
        "the secret stands alone: remove the name, unless it belongs to it",
    ))
}

/// Checks that a file of certificates can be used.
pub(super) fn certificates(field: &Field<'_>) -> Option<PathBuf> {
    let path = field.path()?;
    let (now, what) = match pem::certificates(&path) {
        Ok(_) => return Some(path).filter(|path| field.is_the_services(path)),
        Err(e) => (pem_may_pass(&e), format!("cannot use {}: {}", path.display(), pem_reason(&e))),
    };
    field.unreadable(now, what, "a PEM file with -----BEGIN CERTIFICATE-----");
    None
}

/// The text of a file of certificates.
pub(super) fn pem(field: &Field<'_>) -> Option<String> {
    read(field, &certificates(field)?).map(|(text, _)| text)
}

/// The text of a file with a private key, which nobody else should be able to read.
pub(super) fn pem_key(field: &Field<'_>) -> Option<SecretString> {
    let path = private_key(field)?;
    read_private(field, &path).map(SecretString::from)
}

/// Checks that a file holds a private key.
pub(super) fn private_key(field: &Field<'_>) -> Option<PathBuf> {
    let path = field.path()?;
    match pem::private_key(&path) {
        Ok(_) => Some(path).filter(|path| field.is_the_services(path)),
        Err(e) => {
            let what = format!("cannot use {}: {}", path.display(), pem_reason(&e));
            let hint = "a PEM file with -----BEGIN PRIVATE KEY-----, readable by the service's user";
            field.unreadable(pem_may_pass(&e), what, hint);
            None
        }
    }
}

fn pem_may_pass(e: &PemError) -> bool {
    matches!(e, PemError::Unreadable(e) if files::may_pass(e))
}

fn pem_reason(e: &PemError) -> String {
    match e {
        PemError::Unreadable(e) => reason(e),
        PemError::NotPem(why) => why.clone(),
    }
}

/// The system's words without the number behind them.
pub(super) fn reason(e: &std::io::Error) -> String {
    match e.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::InvalidData => "not valid UTF-8".to_owned(),
        _ => e.to_string().to_lowercase(),
    }
}
