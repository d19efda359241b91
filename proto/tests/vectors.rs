//! The published vectors hold for this crate, and the generator makes exactly them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use support::vectors::ALL;

fn published(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("vectors/{file}: {error}; run `cargo run -p tutti-proto --example vectors`")
    })
}

#[test]
fn every_published_vector_holds() {
    for vectors in ALL {
        (vectors.check)(&published(vectors.file));
    }
}

#[test]
fn generating_gives_the_published_bytes() {
    for vectors in ALL {
        let file = vectors.file;
        assert!(
            (vectors.generate)() == published(file),
            "vectors/{file} is not what the code makes now. If the protocol was meant to change, run \
             `cargo run -p tutti-proto --example vectors` and commit SPEC.md, vectors and code together"
        );
    }
}

#[test]
fn nothing_else_is_published() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(ALL.iter().any(|vectors| name == vectors.file), "{name:?}");
    }
}
