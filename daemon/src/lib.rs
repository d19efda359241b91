//! What both daemons have in common and that is no rule of the protocol: a node to ask, a file to be told by, a log
//! to speak to, and what becomes of a process that fails or is stopped.
//!
//! It knows neither daemon: what the node is asked, what the file says and what is told are theirs.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod durable;
pub mod faults;
pub mod lock;
pub mod log;
pub mod node;
pub mod stop;
pub mod subnet;
