//! Root's commands touch a queue directory as the user it belongs to.
//!
//! Invariant: whatever the relay's own user has laid there (links, a database made to mislead) reaches no further
//! than that user does by himself; what an admin names on the command line is still root's. Must not know: what a
//! command does there.

use super::{Failure, exit};
use rustix::fs::{Gid, Uid};
use rustix::process::geteuid;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whoever has to be root again for a moment.
#[derive(Debug)]
pub(super) struct Owner(Option<Id>);

#[derive(Debug, Clone, Copy)]
struct Id {
    user: Uid,
    group: Gid,
}

impl Owner {
    /// Nothing has changed.
    pub(super) fn nobody_else() -> Self {
        Self(None)
    }

    /// From here on, root acts as whoever the directory belongs to; another user, and a directory that is not there,
    /// change nothing. Before the first thread is begun: each has rights of its own, and takes over those of the one
    /// that begins it.
    pub(super) fn of(directory: &Path) -> Result<Self, Failure> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let Ok(metadata) = std::fs::metadata(directory) else { return Ok(Self(None)) };
        let owner = Id { user: Uid::from_raw(metadata.uid()), group: Gid::from_raw(metadata.gid()) };
        if owner.user.is_root() {
            return Ok(Self(None));
        }
        let refused = |e: io::Error| {
            let user = metadata.uid();
            let what = format!("cannot act as user {user}, whose directory {} is: {e}", directory.display());
            Failure::new(exit::NO_PERMISSION, what, format!("run this as that user: sudo -u '#{user}' ..."))
        };
        only_thread().and_then(|()| owner.begin()).map_err(refused)?;
        Ok(Self(Some(owner)))
    }

    /// Whether the owner can come to his directory: a copy in root's home may be his, and out of his reach.
    pub(super) fn reaches(&self, directory: &Path) -> Result<(), Failure> {
        match (self.0, std::fs::read_dir(directory)) {
            (Some(owner), Err(e)) => {
                let (user, shown) = (owner.user.as_raw(), directory.display());
                let what = format!("user {user}, whose directory {shown} is, cannot come to it: {e}");
                Err(Failure::new(
                    exit::NO_PERMISSION,
                    what,
                    format!("of a copy, make it root's: chown -R root: {shown}"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Does this as root, if it was root's command.
    pub(super) fn as_before<T>(&self, act: impl FnOnce() -> T) -> T {
        let Some(owner) = self.0 else { return act() };
        owner.end().expect("the saved user is root");
        let done = act();
        owner.begin().expect("root may become anybody");
        done
    }
}

impl Id {
    /// The effective ids only: the way back, and signals from the owner's other processes, stay root's.
    fn begin(self) -> io::Result<()> {
        set_thread_groups(&[self.group])?;
        set_thread_res_gid(None, self.group, None)?;
        set_thread_res_uid(None, self.user, None)?;
        Ok(())
    }

    fn end(self) -> io::Result<()> {
        set_thread_res_uid(None, Uid::ROOT, None)?;
        set_thread_res_gid(None, Gid::ROOT, None)?;
        Ok(())
    }
}

fn only_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        n => Err(io::Error::other(format!("there are {n} threads already"))),
    }
}
