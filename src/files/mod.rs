//! Files that are nobody else's: how they are made, opened, replaced and made durable.
//!
//! Invariant: what is made here only its owner can read. What is made for a directory belongs to whom the directory
//! belongs to, whoever makes it. No link is followed in the last part of a path: the user of a directory may have laid one to what he may not
//! touch, and wait for root to touch it. A file that is replaced is, whatever crashes, the old one or the new one,
//! whole. Must not know: what is in a file.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// A new file of our own, where nothing was before.
///
/// # Errors
/// The system's.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A new file of whoever the directory belongs to, where nothing was before.
///
/// # Errors
/// The system's.
pub fn create_for_owner(path: &Path) -> io::Result<File> {
    let file = create(path)?;
    give_to_owner(path, &file)?;
    Ok(file)
}

/// The owner's file for reading and writing, made if it is not there.
///
/// # Errors
/// The system's; it is a link, or no file, or another user's.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match create_for_owner(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    open_to_write(path)
}

/// The owner's file for reading.
///
/// # Errors
/// The system's; it is a link, or no file, or another user's.
pub fn open(path: &Path) -> io::Result<File> {
    checked(path, OpenOptions::new().read(true))
}

/// The owner's file for reading and writing, where it is there.
///
/// # Errors
/// The system's; it is a link, or no file, or another user's.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    checked(path, OpenOptions::new().read(true).write(true))
}

/// Puts this in the place of whatever had the name, durably.
///
/// # Errors
/// The system's; what was there before is still there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = create_for_owner(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_directory(directory_of(path))
}

/// A new directory of our own, where nothing was before.
///
/// # Errors
/// The system's.
pub fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Puts this under a name in the same directory as a file of the admin's, durably, with the owner and the rights of that
/// file.
///
/// # Errors
/// The system's; what had the name before is still there.
pub fn put_like(model: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let like = std::fs::metadata(model)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match std::fs::remove_file(new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = create(new)?;
    let done = (|| {
        file.write_all(content)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        // After the owner: a change of that takes rights away.
        file.set_permissions(like.permissions())?;
        file.sync_all()?;
        std::fs::rename(new, path)
    })();
    if done.is_err() {
        let _ = std::fs::remove_file(new);
    }
    done?;
    sync_directory(directory_of(path))
}

/// The directory, made with all above it if it is not there. A path that an admin has configured: links are his.
///
/// # Errors
/// The system's.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The owner's directory within another, made if it is not there; the handle is what its names are synced with.
///
/// # Errors
/// The system's; it is a link, or no directory.
pub fn open_or_make_directory(path: &Path) -> io::Result<File> {
    let is_new = match create_directory(path) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        Err(e) => return Err(e),
    };
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let directory = OpenOptions::new().read(true).custom_flags(bits(flags)).open(path)?;
    if is_new {
        give_to_owner(path, &directory)?;
    }
    Ok(directory)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The system's.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Whether what could not be read may be readable later with nobody changing it: not yet mounted, about to be renewed,
/// a disk or a network that is in trouble, too many open files. What is there and can never be the file is not of them.
pub fn may_pass(error: &io::Error) -> bool {
    let never = [
        // It, or a part of its path, is something else than a file in a directory.
        ErrorKind::IsADirectory,
        ErrorKind::NotADirectory,
        // No such name can exist.
        ErrorKind::InvalidFilename,
        ErrorKind::InvalidInput,
        // It was read, and is not what it should be.
        ErrorKind::InvalidData,
    ];
    !never.contains(&error.kind()) && Errno::from_io_error(error) != Some(Errno::LOOP)
}

fn checked(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without NONBLOCK a named pipe laid in place of the file would keep us waiting.
    let file = options.custom_flags(bits(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    ours(path, &metadata)?;
    Ok(file)
}

#[expect(clippy::cast_possible_wrap, reason = "the system's own type for them has a sign")]
fn bits(flags: OFlags) -> i32 {
    flags.bits() as i32
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Root's command must leave nothing behind that the directory's own user cannot open. Only for what was made this
/// moment: anything else may be a link that this user laid.
fn give_to_owner(path: &Path, made: &File) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(directory_of(path))?;
        fchown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Root may open anything, so a name that its user has given to another's file is refused. A directory has one name
/// only.
fn ours(path: &Path, found: &Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(directory_of(path))?.uid();
        if found.uid() != owner {
            let what = format!("belongs to user {}, its directory to user {owner}", found.uid());
            return Err(io::Error::new(ErrorKind::PermissionDenied, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    const ANOTHER: u32 = 12_345;

    /// A directory of another user, when root runs the tests.
    fn directory() -> (tempfile::TempDir, bool) {
        let directory = tempfile::tempdir().unwrap();
        let is_root = chown(directory.path(), Some(ANOTHER), Some(ANOTHER)).is_ok();
        (directory, is_root)
    }

    #[test]
    fn what_is_made_is_private_and_its_directorys_owners() {
        let (directory, _) = directory();
        let owner = std::fs::metadata(directory.path()).unwrap().uid();
        let at = |name: &str| directory.path().join(name);
        create_for_owner(&at("created")).unwrap();
        open_or_create(&at("opened")).unwrap();
        replace(&at("replaced"), b"x").unwrap();
        open_or_make_directory(&at("made")).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap()).collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        assert_eq!(
            names.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(),
            ["created", "made", "opened", "replaced"]
        );
        for entry in names {
            let found = entry.metadata().unwrap();
            assert_eq!((found.uid(), found.permissions().mode() & 0o077), (owner, 0), "{entry:?}");
        }
        open(&at("opened")).unwrap();
        open_or_create(&at("opened")).unwrap();
        open_or_make_directory(&at("made")).unwrap();
    }

    /// A way to a file that a link may lead astray.
    type Way = fn(&Path) -> io::Result<()>;

    #[test]
    fn a_link_is_never_followed_wherever_it_leads() {
        let ways: [(&str, Way); 8] = [
            ("create", |p| create(p).map(drop)),
            ("create_for_owner", |p| create_for_owner(p).map(drop)),
            ("create_directory", create_directory),
            ("open", |p| open(p).map(drop)),
            ("open_to_write", |p| open_to_write(p).map(drop)),
            ("open_or_create", |p| open_or_create(p).map(drop)),
            ("open_or_make_directory", |p| open_or_make_directory(p).map(drop)),
            ("replace", |p| replace(p, b"mine")),
        ];
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        std::fs::write(&victim, "another's").unwrap();
        let nowhere = outside.path().join("nowhere");
        for (name, way) in ways {
            for target in [&victim, &nowhere, &outside.path().to_owned()] {
                let (directory, _) = directory();
                let path = directory.path().join("file");
                symlink(target, &path).unwrap();
                // The name beside it, through which a file is replaced, may be a link as well.
                symlink(target, path.with_extension("new")).unwrap();
                let done = way(&path);
                // To replace is to put a file in the place of the link.
                assert_eq!(done.is_ok(), name == "replace", "{name}: {done:?}");
                assert_eq!(std::fs::read_to_string(&victim).unwrap(), "another's", "{name}");
                assert!(!nowhere.exists(), "{name}");
                assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
            }
        }
    }

    #[test]
    fn root_opens_nothing_of_a_third_users_and_nobody_what_is_no_file() {
        let (directory, is_root) = directory();
        let at = |name: &str| directory.path().join(name);
        let pipe = at("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(open(&pipe).is_err() && open_or_create(&pipe).is_err());
        assert!(open(directory.path()).is_err());
        if is_root {
            std::fs::write(at("roots"), "").unwrap();
            assert!(open(&at("roots")).is_err() && open_or_create(&at("roots")).is_err());
        }
    }

    #[test]
    fn a_crash_while_replacing_leaves_the_one_before() {
        let (directory, _) = directory();
        let path = directory.path().join("file.json");
        replace(&path, b"first").unwrap();
        std::fs::write(path.with_extension("new"), "sec").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        replace(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no second copy stays behind");
    }

    #[test]
    fn what_may_be_there_later_is_told_from_what_never_will_be() {
        for (errno, passes) in [
            (Errno::NOENT, true),
            (Errno::ACCESS, true),
            (Errno::PERM, true),
            (Errno::IO, true),
            (Errno::STALE, true),
            (Errno::TIMEDOUT, true),
            (Errno::NOTCONN, true),
            (Errno::HOSTDOWN, true),
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::AGAIN, true),
            (Errno::BUSY, true),
            (Errno::NXIO, true),
            (Errno::NODEV, true),
            (Errno::TXTBSY, true),
            (Errno::NOTDIR, false),
            (Errno::ISDIR, false),
            (Errno::LOOP, false),
            (Errno::NAMETOOLONG, false),
            (Errno::INVAL, false),
        ] {
            assert_eq!(may_pass(&errno.into()), passes, "{errno:?}");
        }
        let not_text = std::fs::read_to_string(PathBuf::from("/proc/self/exe")).unwrap_err();
        assert!(!may_pass(&not_text), "{not_text:?}");
    }
}
