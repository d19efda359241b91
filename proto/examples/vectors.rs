//! Writes proto/vectors: `cargo run -p tutti-proto --example vectors`. The same bytes every time.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a generator that cannot go on stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    std::fs::create_dir_all(&directory)?;
    for vectors in support::vectors::ALL {
        std::fs::write(directory.join(vectors.file), (vectors.generate)())?;
        println!("wrote vectors/{}", vectors.file);
    }
    Ok(())
}
