use crate::digest::Digest;
use crate::id::Identity;
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::message::Challenge;
use crate::params::PROTOCOL_VERSION;

/// Longest user agent, bytes.
pub const USER_AGENT_LIMIT: usize = 64;

/// Proves an identity to the coordinator that sent the challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Who joins.
    pub identity: Identity,
    /// Suggested hashrate, hashes per second; only where to start from.
    pub hashrate: u64,
    /// Software and version, printable ASCII.
    pub user_agent: String,
    /// Identity signature over the session.
    pub signature: [u8; 64],
    /// Hash of the head of the ledger that whoever joins holds, which then need not be sent. Not signed: another
    /// one changes only what is sent.
    pub head: Option<[u8; 32]>,
}

impl Join {
    /// Signs a join for this challenge, of one who holds no ledger.
    pub fn sign(
        key: &IdentityKey,
        challenge: &Challenge,
        hashrate: u64,
        user_agent: &str,
        aux: &[u8; 32],
    ) -> Self {
        let digest = digest(challenge, &key.identity(), hashrate, user_agent);
        Self {
            identity: key.identity(),
            hashrate,
            user_agent: user_agent.to_owned(),
            signature: key.sign(&digest, aux),
            head: None,
        }
    }

    /// Checks that it answers this challenge.
    pub fn verify(&self, challenge: &Challenge) -> Result<(), BadIdentitySignature> {
        let digest = digest(challenge, &self.identity, self.hashrate, &self.user_agent);
        self.identity.verify(&digest, &self.signature)
    }
}

fn digest(challenge: &Challenge, identity: &Identity, hashrate: u64, user_agent: &str) -> [u8; 32] {
    Digest::new("tutti/join")
        .u32(PROTOCOL_VERSION)
        .fixed(&challenge.nonce)
        .fixed(&challenge.params.digest())
        .fixed(identity.as_bytes())
        .u64(hashrate)
        .bytes(user_agent.as_bytes())
        .finish()
}
