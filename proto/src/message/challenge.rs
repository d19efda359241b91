use crate::params::PoolParams;

/// Opens a session: what this pool is, and a nonce that the join must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The coordinator's protocol version.
    pub version: u32,
    /// Random, once per connection.
    pub nonce: [u8; 32],
    /// The pool's parameters.
    pub params: PoolParams,
}
