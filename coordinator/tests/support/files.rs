//! Files as a test leaves them for a daemon or another process.

use std::path::Path;

/// Copies a directory. A copy has no lock: sled lets go of the original's late, and a process that is being started has its
/// parent's for a moment.
pub fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
