//! Whether the service could read what root can: `check` is run as root, the relay is not.
//!
//! Invariant: nothing is opened and nobody's rights are taken on; owner, group and mode along the path decide. Must not
//! know: what the files are for.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// As the unit has it.
const SERVICE: &str = "mailferry";

/// A user as the system's files know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    uid: u32,
    gids: Vec<u32>,
}

impl User {
    /// The service's user, where this is run as root and there is one.
    pub(super) fn of_the_service() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::find(SERVICE, &read("/etc/passwd"), &read("/etc/group"))
    }

    /// passwd(5) and group(5).
    fn find(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let user = passwd.lines().map(fields).find(|f| f.first().is_some_and(|n| n == name))?;
        let (uid, gid) = (user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?);
        let is_in = |f: &Vec<String>| f.get(3).is_some_and(|members| members.split(',').any(|m| m == name));
        let others = group.lines().map(fields).filter(is_in).filter_map(|f| f.get(2)?.parse().ok());
        Some(Self { name: name.to_owned(), uid, gids: std::iter::once(gid).chain(others).collect() })
    }

    /// What keeps the user from reading this file, and what would mend it; none: nothing, or what nobody can read.
    pub(super) fn obstacle(&self, path: &Path) -> Option<(String, String)> {
        let real = std::fs::canonicalize(path).ok()?;
        for directory in real.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let metadata = std::fs::metadata(directory).ok()?;
            if !self.has(&metadata, 0o1) {
                let shown = directory.display();
                let what = format!("the service's user {} may not enter {shown}", self.name);
                let hint = format!("put the file below /etc/mailferry, or: chmod a+x {shown}");
                return Some((what, hint));
            }
        }
        let metadata = std::fs::metadata(&real).ok()?;
        if self.has(&metadata, 0o4) {
            return None;
        }
        let (shown, name) = (path.display(), &self.name);
        let mode = metadata.permissions().mode() & 0o777;
        Some((
            format!("the service's user {name} may not read {shown} (mode {mode:03o})"),
            format!("chgrp {name} {shown}; chmod 640 {shown}; or hand it over with LoadCredential="),
        ))
    }

    /// The first of owner, group and others that fits is what counts.
    fn has(&self, metadata: &Metadata, right: u32) -> bool {
        let mode = metadata.permissions().mode();
        let bits = if metadata.uid() == self.uid {
            mode >> 6
        } else if self.gids.contains(&metadata.gid()) {
            mode >> 3
        } else {
            mode
        };
        self.uid == 0 || bits & right != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_user_is_found_with_all_its_groups() {
        let passwd = "root:x:0:0::/root:/bin/sh\nmailferry:x:990:985:relay:/nonexistent:/usr/sbin/nologin\n";
        let group = "root:x:0:\nssl-cert:x:110:postgres,mailferry\nmailferry:x:985:\nadm:x:4:mailferry2\n";
        let user = User::find("mailferry", passwd, group).unwrap();
        assert_eq!((user.uid, user.gids), (990, vec![985, 110]));
        assert_eq!(User::find("postfix", passwd, group), None);
    }

    #[test]
    fn the_way_to_a_file_and_its_mode_decide_who_reads_it() {
        let tmp = tempfile::tempdir().unwrap();
        let directory = tmp.path().join("etc");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("password");
        fs::write(&file, "x").unwrap();
        let (uid, gid) = (fs::metadata(&file).unwrap().uid(), fs::metadata(&file).unwrap().gid());
        let user = |uid: u32, gid: u32| User { name: "mailferry".to_owned(), uid, gids: vec![gid] };
        let (owner, member, other) = (user(uid, 1), user(uid + 7, gid), user(uid + 7, gid + 7));
        set_mode(tmp.path(), 0o755);
        for (of_directory, of_file, user, said) in [
            (0o755, 0o644, &other, None),
            (0o755, 0o640, &member, None),
            (0o755, 0o640, &other, Some("may not read")),
            (0o755, 0o600, &member, Some("may not read")),
            (0o750, 0o644, &other, Some("may not enter")),
            (0o750, 0o640, &member, None),
            (0o755, 0o600, &owner, None),
        ] {
            set_mode(&directory, of_directory);
            set_mode(&file, of_file);
            let obstacle = user.obstacle(&file).map(|(what, _)| what);
            let fits = match (&obstacle, said) {
                (Some(what), Some(said)) => what.contains(said),
                (None, None) => true,
                // Root may read whatever its mode is.
                (None, Some(_)) => user.uid == 0,
                (Some(_), None) => false,
            };
            assert!(fits, "{of_directory:o} {of_file:o} {user:?}: {obstacle:?}");
        }
        assert_eq!(other.obstacle(&directory.join("missing")), None, "whoever reads it says so");
        set_mode(&directory, 0o755);
    }
}
