//! A connection to the node: what a daemon asks over it is the daemon's.

mod error;
mod fees;
mod relay;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;
use bitcoin::consensus::encode::{Decodable, deserialize_hex};
use bitcoincore_rpc::jsonrpc::simple_http::SimpleHttpTransport;
use bitcoincore_rpc::{Client, RpcApi, jsonrpc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

pub use error::CallError;
pub use relay::NO_FEERATE_LIMIT;

/// Bitcoin Core 28: the first whose mempool takes version-3 transactions with a pay-to-anchor output.
const MIN_NODE_VERSION: u64 = 280_000;

/// bitcoind's RPC_INVALID_ADDRESS_OR_KEY: no such block or transaction.
pub const NOT_FOUND: i32 = -5;

/// Where the node is and how to log in.
#[derive(Clone)]
pub struct NodeConfig {
    /// `http://host:port`.
    pub url: String,
    /// How to log in.
    pub auth: NodeAuth,
    /// The chain it must be on.
    pub network: Network,
}

/// How to log in. Not `Debug`: it may hold a password.
#[derive(Clone)]
pub enum NodeAuth {
    /// The file that bitcoind writes at every start.
    CookieFile(PathBuf),
    /// bitcoind's rpcauth or rpcuser.
    UserPass {
        /// As bitcoind knows it.
        user: String,
        /// Erased when dropped.
        password: Zeroizing<String>,
    },
}

/// To a node that was there, on the right network and new enough when it was opened.
pub struct Connection {
    client: Client,
    url: String,
    credentials: String,
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
}

#[derive(Deserialize)]
struct NetworkInfo {
    version: u64,
}

impl Connection {
    /// Logs in and checks network and version; no call takes longer than `timeout`. Reads the cookie anew, so
    /// opening another one is what to do after the node was restarted.
    pub fn open(config: &NodeConfig, timeout: Duration) -> Result<Self, CallError> {
        let bad_url = |reason: String| CallError::BadUrl {
            url: without_login(&config.url),
            reason,
        };
        if config.url.contains('@') {
            let reason = "user and password belong in their own settings";
            return Err(bad_url(reason.to_owned()));
        }
        let Login {
            shown,
            user,
            password,
        } = Login::new(&config.auth)?;
        let transport = SimpleHttpTransport::builder()
            .url(&config.url)
            .map_err(|error| bad_url(error.to_string()))?
            .auth(user, Some(password))
            .timeout(timeout)
            .build();
        let connection = Self {
            client: Client::from_jsonrpc(jsonrpc::Client::with_transport(transport)),
            url: config.url.clone(),
            credentials: shown,
        };
        connection.check(config.network)?;
        Ok(connection)
    }

    fn check(&self, wanted: Network) -> Result<(), CallError> {
        let ChainInfo { chain } = self.call("getblockchaininfo", &[])?;
        if chain != wanted.to_core_arg() {
            return Err(CallError::WrongNetwork {
                url: self.url.clone(),
                // In our words, as far as we have one.
                found: Network::from_core_arg(&chain).map_or(chain, |network| network.to_string()),
                wanted,
            });
        }
        let NetworkInfo { version } = self.call("getnetworkinfo", &[])?;
        if version < MIN_NODE_VERSION {
            return Err(CallError::TooOld {
                url: self.url.clone(),
                found: version,
            });
        }
        Ok(())
    }

    /// Where the node is, as it was configured; there is no password in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks the node.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &[Value],
    ) -> Result<T, CallError> {
        self.client
            .call(method, params)
            .map_err(|error| self.error(method, error))
    }

    /// Asks for what may not be there, which the node says with an error of this code.
    pub fn call_or_none<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &[Value],
        none_code: i32,
    ) -> Result<Option<T>, CallError> {
        match self.call(method, params) {
            Ok(answer) => Ok(Some(answer)),
            Err(CallError::Rpc { code, .. }) if code == none_code => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// For what makes its own calls; [`Connection::error`] says what went wrong in one.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What went wrong in a call.
    pub fn error(&self, method: &'static str, error: bitcoincore_rpc::Error) -> CallError {
        CallError::from_rpc(&self.url, &self.credentials, method, error)
    }
}

/// Reads the hex digits that the node answered with.
pub fn decoded<T: Decodable>(method: &'static str, hex: &str) -> Result<T, CallError> {
    deserialize_hex(hex).map_err(|error| CallError::Malformed {
        method,
        reason: error.to_string(),
    })
}

struct Login {
    /// What to call it.
    shown: String,
    user: String,
    password: String,
}

impl Login {
    fn new(auth: &NodeAuth) -> Result<Self, CallError> {
        match auth {
            NodeAuth::UserPass { user, password } => Ok(Self {
                shown: format!("password of user {user:?}"),
                user: user.clone(),
                password: password.to_string(),
            }),
            NodeAuth::CookieFile(path) => Self::from_cookie(path),
        }
    }

    fn from_cookie(path: &Path) -> Result<Self, CallError> {
        let failed = |reason: String| CallError::Cookie {
            path: path.to_owned(),
            reason,
        };
        let line = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let line = Zeroizing::new(line);
        let (user, password) = line
            .trim_end()
            .split_once(':')
            .ok_or_else(|| failed("it is not of the form user:password".to_owned()))?;
        Ok(Self {
            shown: format!("cookie from {}", path.display()),
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// What stands before an @ may be a password.
fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What opening it says, of a node that is not there.
    fn said(url: &str, auth: NodeAuth) -> String {
        let config = NodeConfig {
            url: url.to_owned(),
            auth,
            network: Network::Regtest,
        };
        let opened = Connection::open(&config, Duration::from_secs(1));
        opened.err().map(|error| error.to_string()).unwrap()
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        for url in ["http://user:sesame@127.0.0.1:1", "user:sesame@127.0.0.1:1"] {
            let auth = NodeAuth::UserPass {
                user: "user".to_owned(),
                password: Zeroizing::new("sesame".to_owned()),
            };
            let said = said(url, auth);
            assert!(said.contains("belong in their own settings"), "{said}");
            assert!(
                said.contains("127.0.0.1:1") && !said.contains("sesame"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_cookie_is_named_by_its_file_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".cookie");
        let cookie = || said("http://127.0.0.1:1", NodeAuth::CookieFile(path.clone()));
        assert!(cookie().contains("cannot read the node's cookie file"));
        std::fs::write(&path, "sesame").unwrap();
        assert!(cookie().contains("not of the form user:password"));
        std::fs::write(&path, "__cookie__:sesame\n").unwrap();
        let away = cookie();
        assert!(
            away.contains("cannot reach a node at http://127.0.0.1:1"),
            "{away}"
        );
        assert!(!away.contains("sesame"), "{away}");
    }
}
