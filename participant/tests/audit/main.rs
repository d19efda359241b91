//! `audit`, `fetch-segments` and `serve-segments` as a stranger uses them: files, a program, no
//! configuration.

mod blocks;
mod files;
mod first;
mod pool;
