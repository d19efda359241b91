//! The coordinator's shell: it turns sockets, disk, chain and time into inputs of
//! `tutti_proto::coordinator` and carries out its effects. It knows no rule of the protocol.

#![forbid(unsafe_code)]

pub mod chain;
pub mod check;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod driver;
pub mod faults;
pub mod feed;
pub mod grpc;
pub mod identity;
pub mod lock;
pub mod metrics;
pub mod miners;
pub mod news;
mod priority;
pub mod segments;
pub mod settle;
pub mod store;
