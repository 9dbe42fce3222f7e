//! The refresh token on disk.
//!
//! Invariant: at every moment, whatever crashes, the file holds one whole refresh token: the one before or
//! the new one. Must not know: what a refresh token is good for.

use crate::files;
use crate::mail::Mailbox;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A refresh token is 1 to 2 KiB.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// One mailbox's refresh token.
#[derive(Debug, Clone)]
pub struct RefreshStore {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Stored {
    refresh_token: SecretString,
}

#[derive(Serialize)]
struct ToStore<'a> {
    refresh_token: &'a str,
}

impl RefreshStore {
    /// In `directory`, which exists.
    pub fn new(directory: &Path, mailbox: &Mailbox) -> Self {
        Self { path: directory.join(file_name(mailbox)) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is stored; `None` when nobody has signed in.
    ///
    /// # Errors
    /// When the file cannot be read, or others can read it.
    pub fn load(&self) -> io::Result<Option<SecretString>> {
        let file = match files::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::other("others can read it; chmod 600"));
        }
        let mut json = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut json)?;
        if json.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("too long for a refresh token"));
        }
        // The parser's own message could quote the file.
        let stored: Stored =
            serde_json::from_slice(&json).map_err(|_| io::Error::other("not a stored refresh token"))?;
        Ok(Some(stored.refresh_token))
    }

    /// Replaces it: on disk, with its name, when this returns.
    ///
    /// # Errors
    /// When it could not be made durable; the one before is still there.
    pub fn save(&self, refresh_token: &SecretString) -> io::Result<()> {
        let mut json = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES));
        serde_json::to_writer(&mut *json, &ToStore { refresh_token: refresh_token.expose_secret() })?;
        files::replace(&self.path, &json)
    }
}

/// Every mailbox its own name; nothing in an address can leave the directory.
fn file_name(mailbox: &Mailbox) -> String {
    let mut name = String::from("oauth-");
    for b in mailbox.to_string().to_lowercase().bytes() {
        if b.is_ascii_alphanumeric() || b"@.-_".contains(&b) {
            name.push(char::from(b));
        } else {
            let _ = write!(name, "%{b:02x}");
        }
    }
    name + ".json"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, RefreshStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = RefreshStore::new(dir.path(), &"Scanner@contoso.com".parse().unwrap());
        (dir, store)
    }

    fn loaded(s: &RefreshStore) -> Option<String> {
        s.load().unwrap().map(|t| t.expose_secret().to_owned())
    }

    #[test]
    fn a_refresh_token_is_replaced_whole_and_only_its_owner_reads_it() {
        let (dir, s) = store();
        assert_eq!(loaded(&s), None);
        for token in ["first", "second \"quoted\""] {
            s.save(&token.into()).unwrap();
            assert_eq!(loaded(&s).as_deref(), Some(token));
        }
        assert_eq!(std::fs::metadata(s.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no second copy stays behind");
    }

    #[test]
    fn a_sign_in_by_root_belongs_to_the_relay() {
        use std::os::unix::fs::MetadataExt;
        let (dir, s) = store();
        let as_root = std::os::unix::fs::chown(dir.path(), Some(12_345), Some(12_345)).is_ok();
        s.save(&"first".into()).unwrap();
        let [file, directory] = [s.path(), dir.path()].map(|p| std::fs::metadata(p).unwrap().uid());
        assert_eq!(file, directory);
        assert!(!as_root || file == 12_345);
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_one_before() {
        let (_dir, s) = store();
        s.save(&"first".into()).unwrap();
        std::fs::write(s.path().with_extension("new"), "{\"refresh_tok").unwrap();
        assert_eq!(loaded(&s).as_deref(), Some("first"));
        s.save(&"second".into()).unwrap();
        assert_eq!(loaded(&s).as_deref(), Some("second"));
    }

    #[test]
    fn a_file_that_others_read_or_that_is_no_refresh_token_is_an_error_without_its_content() {
        let (_dir, s) = store();
        s.save(&"first".into()).unwrap();
        std::fs::write(s.path(), "hunter2").unwrap();
        assert!(!s.load().unwrap_err().to_string().contains("hunter2"));
        std::fs::set_permissions(s.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(s.load().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn an_address_cannot_leave_the_directory() {
        let name = |m: &str| file_name(&m.parse().unwrap());
        assert_eq!(name("Scanner@contoso.com"), "oauth-scanner@contoso.com.json");
        assert_eq!(name("a/../b@contoso.com"), "oauth-a%2f..%2fb@contoso.com.json");
        assert_ne!(name("a+b@contoso.com"), name("a_b@contoso.com"));
    }
}
