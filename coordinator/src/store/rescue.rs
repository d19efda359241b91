//! The store's files as they were before sled opened them: sled overwrites what it takes for torn.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tutti_daemon::durable;

use super::LOG;
use crate::news::News;

/// Below the store.
const NAME: &str = "before-start";
/// It is not whole: it is being made, or removed.
const UNFINISHED: &str = "before-start.new";

/// A copy of the files, until they are known to be whole.
pub(super) struct Rescue {
    path: PathBuf,
    /// This start made it; else it is that of a start that failed.
    of_this_start: bool,
}

impl Rescue {
    /// Copies the files, unless somebody uses them, or a copy of before is there: then the start after
    /// it failed, and that copy is the better one.
    pub(super) fn take(store: &Path) -> io::Result<Option<Self>> {
        let copy = store.join(NAME);
        if let Some(of_before) = Self::find(store) {
            return Ok(Some(of_before));
        }
        let log = File::open(store.join(LOG))?;
        if log.try_lock().is_err() {
            return Ok(None); // sled says so.
        }
        let unfinished = store.join(UNFINISHED);
        remove(&unfinished)?;
        if let Err(error) = copy_files(store, &unfinished) {
            remove(&unfinished)?;
            return match error.kind() {
                // Better to start without a copy than not at all: what is missing is named all the same.
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    News::store_not_copied(store, &error).tell();
                    Ok(None)
                }
                _ => Err(error),
            };
        }
        fs::rename(&unfinished, &copy)?;
        durable::sync_entry(&copy)?;
        Ok(Some(Self {
            path: copy,
            of_this_start: true,
        }))
    }

    /// One that is there, of a start before.
    pub(super) fn find(store: &Path) -> Option<Self> {
        let path = store.join(NAME);
        path.is_dir().then_some(Self {
            path,
            of_this_start: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this start made it, and so none failed before.
    pub(super) fn is_of_this_start(&self) -> bool {
        self.of_this_start
    }

    /// Nobody needs it any more. Under its name it is whole or gone: what a removal that is cut short leaves would
    /// be taken for the better copy.
    pub(super) fn remove(&self) -> io::Result<()> {
        let leaving = self.path.with_file_name(UNFINISHED);
        remove(&leaving)?;
        match fs::rename(&self.path, &leaving) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        durable::sync_entry(&leaving)?;
        remove(&leaving)
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == NAME || name == UNFINISHED {
            continue;
        }
        let copy = to.join(name);
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}
