//! Libraries that are loaded before the system's: they see each change of a file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds one, of this source below `tests`, into this directory.
pub fn build(source: &str, directory: &Path) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let library = directory.join("preloaded.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(tests.join(source))
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success(), "cc builds it");
    library
}
