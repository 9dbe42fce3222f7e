//! Unix sockets: opened where nobody else's is, with the rights they are for.
//!
//! Invariant: another process's live socket is never taken over, and a file that is no socket is never removed. Must
//! not know: what is said on them.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use tokio::net::UnixListener;

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The relay's user and its group: 0660.
    Group,
    /// Everybody on this host: 0666.
    Anybody,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Group => 0o660,
            Self::Anybody => 0o666,
        }
    }
}

/// Opens a socket. One that nobody listens on any more is replaced; a directory that is missing is made, and anybody
/// may pass through it.
///
/// # Errors
/// `AddrInUse` when another process answers there; else the file system's.
pub fn bind(path: &Path, access: Access) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|d| !d.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else than a socket is there",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another mailferry is running"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Until here the umask kept strangers out: to connect one needs the right to write.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode()))?;
    Ok(listener)
}
