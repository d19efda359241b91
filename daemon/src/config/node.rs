//! `[node]`: where the node is and how to log in.

use std::path::PathBuf;

use bitcoin::Network;
use serde::Deserialize;

use super::{ConfigError, ConfigFile, Password};
use crate::node::{NodeAuth, NodeConfig};

/// The section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    rpc_url: Option<String>,
    cookie_file: Option<PathBuf>,
    rpc_user: Option<String>,
    rpc_password: Option<Password>,
}

impl NodeSection {
    /// The node, which must be on `network`; by default on this machine, at Bitcoin Core's port.
    pub fn check(self, file: ConfigFile<'_>, network: Network) -> Result<NodeConfig, ConfigError> {
        let auth = match (self.cookie_file, self.rpc_user, self.rpc_password) {
            (Some(path), None, None) => NodeAuth::CookieFile(file.beside(&path)),
            (None, Some(user), Some(password)) => NodeAuth::UserPass {
                user,
                password: password.into_text(),
            },
            _ => {
                let problem =
                    "must say how to log in: cookie_file alone, or rpc_user and rpc_password";
                return Err(file.wrong("node", problem));
            }
        };
        let default_url = || format!("http://127.0.0.1:{}", default_rpc_port(network));
        let url = self.rpc_url.unwrap_or_else(default_url);
        if !url.starts_with("http://") {
            let problem = "must have the form \"http://host:port\"; bitcoind's RPC knows no https";
            return Err(file.wrong("node.rpc_url", problem));
        }
        Ok(NodeConfig { url, auth, network })
    }
}

/// Bitcoin Core's.
fn default_rpc_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8332,
        Network::Testnet4 => 48332,
        Network::Signet => 38332,
        Network::Regtest => 18443,
        _ => 18332,
    }
}
