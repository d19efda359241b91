//! Auditing a pool from the files of its windows: honest ones pass, and each lie is found where it is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit {
    pub mod amounts;
    pub mod explained;
    pub mod files;
    pub mod flood;
    pub mod honest;
    pub mod lies;
    pub mod live;
    pub mod mutated;
    pub mod pool;
    pub mod undone;
}
