//! Where a run's logs and data lie.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// A directory in which nothing was before.
pub struct Place {
    path: PathBuf,
    /// Gone with this, if nobody named a directory.
    _temporary: Option<TempDir>,
}

impl Place {
    /// The named directory, which is left as it is at the end, or a temporary one.
    pub fn new(keep: Option<&Path>) -> Result<Place> {
        let Some(path) = keep else {
            let temporary = tempfile::tempdir().context("cannot create a temporary directory")?;
            return Ok(Place {
                path: temporary.path().to_owned(),
                _temporary: Some(temporary),
            });
        };
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!(
                "{} is not empty; name a new directory, so that no earlier run's data is mixed in",
                path.display()
            );
        }
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        // Whatever runs there may have another working directory.
        let path =
            fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Place {
            path,
            _temporary: None,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
