//! Files that survive a power cut: a file is synced under a temporary name, then gets its name, then the
//! directory is synced. Blocking; callers go through [`blocking`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::crash_point;

/// Runs blocking file operations on a thread for blocking work.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Creates a directory and its missing parents, and syncs each into its parent.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|d| !d.exists()).collect();
    std::fs::create_dir_all(dir)?;
    missing.iter().rev().filter_map(|made| made.parent()).try_for_each(sync_dir)
}

/// Syncs a file and the directory that names it.
pub fn sync(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_all()?;
    sync_dir(parent(file))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

fn parent(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

/// Creates a new file next to `target` under a name that listings leave out: `object_store` skips
/// `name#digits`.
pub fn create_staged(target: &Path) -> io::Result<(File, PathBuf)> {
    create_dir_all(parent(target))?;
    let nonce = uuid::Uuid::new_v4().as_u128();
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!("#{nonce}"));
    let staged = target.with_file_name(name);
    let file = OpenOptions::new().write(true).create_new(true).open(&staged)?;
    Ok((file, staged))
}

/// Durably gives a synced staged file its name, which must be new.
pub fn publish_new(staged: &Path, target: &Path) -> io::Result<()> {
    let name = target.display();
    let point = crash_point::begin("link", &name);
    std::fs::hard_link(staged, target)?;
    point.end();
    std::fs::remove_file(staged)?;
    sync_dir(parent(target))
}

/// Durably gives a synced staged file the name of another file, which it replaces.
pub fn publish_over(staged: &Path, target: &Path) -> io::Result<()> {
    let name = target.display();
    let point = crash_point::begin("replace", &name);
    std::fs::rename(staged, target)?;
    point.end();
    sync_dir(parent(target))
}

/// Replaces the content of `target` by `bytes` if `same` accepts the current content. Returns whether it did.
/// Concurrent calls wait for each other; readers see the old file or the new one.
pub fn replace_if(
    target: &Path,
    same: impl FnOnce(Option<&[u8]>) -> bool,
    bytes: &[u8],
) -> io::Result<bool> {
    create_dir_all(parent(target))?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(lock_of(target))?;
    lock.lock()?;
    let found = match std::fs::read(target) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if !same(found.as_deref()) {
        return Ok(false);
    }
    let (mut file, staged) = create_staged(target)?;
    let name = target.display();
    let point = crash_point::begin("replace", &name);
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&staged, target));
    if let Err(error) = written {
        remove_quietly(&staged);
        return Err(error);
    }
    point.end();
    sync_dir(parent(target))?;
    Ok(true)
}

/// Removes a temporary file. An error is only logged: listings leave the file out.
pub fn remove_quietly(file: &Path) {
    if let Err(error) = std::fs::remove_file(file) {
        tracing::debug!(file = %file.display(), %error, "could not remove a temporary file");
    }
}

/// Removes the lock file that [`replace_if`] left for a file that is gone.
pub fn remove_lock(target: &Path) -> io::Result<()> {
    match std::fs::remove_file(lock_of(target)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lock_of(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.lock"))
}
