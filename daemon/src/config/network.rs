//! The networks by the names that Bitcoin Core's users know.

use bitcoin::Network;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum NetworkName {
    Bitcoin,
    Testnet4,
    Signet,
    Regtest,
}

/// Reads a network's name: `#[serde(deserialize_with = "network")]`.
pub fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
    Ok(match NetworkName::deserialize(deserializer)? {
        NetworkName::Bitcoin => Network::Bitcoin,
        NetworkName::Testnet4 => Network::Testnet4,
        NetworkName::Signet => Network::Signet,
        NetworkName::Regtest => Network::Regtest,
    })
}
