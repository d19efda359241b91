//! Empty on purpose: only this package's `Cargo.lock` is used. See `../README.md`.
