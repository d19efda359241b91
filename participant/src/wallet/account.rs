//! The public half of an account, of which its addresses are made.

use std::fmt;
use std::str::FromStr;

use bdk_wallet::KeychainKind;
use bdk_wallet::miniscript::Descriptor;
use bdk_wallet::miniscript::descriptor::{DescriptorPublicKey, Wildcard};
use bitcoin::{Network, NetworkKind};
use thiserror::Error;

use crate::keys::AccountKey;

/// An account's extended public key, with its origin where that is known: `[f1e2d3c4/86'/0'/0']xpub…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountXpub {
    text: String,
    kind: NetworkKind,
}

/// Why a text is not an account's extended public key. Never shows the text: it may be a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum XpubError {
    #[error("a private key stands there; remove it from the file, and give the account's xpub")]
    Private,
    #[error(
        "give an account's xpub (tpub on test networks), as in [f1e2d3c4/86'/0'/0']xpub6… or xpub6… alone, without a path after it"
    )]
    Syntax,
}

impl FromStr for AccountXpub {
    type Err = XpubError;

    fn from_str(text: &str) -> Result<Self, XpubError> {
        if text.contains("prv") {
            return Err(XpubError::Private);
        }
        let parsed: DescriptorPublicKey = text.trim().parse().map_err(|_| XpubError::Syntax)?;
        let DescriptorPublicKey::XPub(key) = &parsed else {
            return Err(XpubError::Syntax);
        };
        if !key.derivation_path.is_empty() || key.wildcard != Wildcard::None {
            return Err(XpubError::Syntax);
        }
        Ok(Self {
            text: parsed.to_string(),
            kind: key.xkey.network,
        })
    }
}

impl AccountXpub {
    /// The public half of the own account.
    pub fn of(account: &AccountKey, network: Network) -> Self {
        let coin = u8::from(NetworkKind::from(network) != NetworkKind::Main);
        let (fingerprint, xpub) = (account.master_fingerprint(), account.xpub());
        Self {
            text: format!("[{fingerprint}/86'/{coin}'/0']{xpub}"),
            kind: xpub.network,
        }
    }

    pub fn is_for(&self, network: Network) -> bool {
        self.kind == NetworkKind::from(network)
    }

    /// BIP86: payouts on branch 0, change on branch 1; with its checksum.
    pub fn descriptor(&self, keychain: KeychainKind) -> String {
        let text = format!("tr({}/{}/*)", self.text, branch(keychain));
        // Parsed once when this was made: a key that parses makes a descriptor that does.
        let parsed = Descriptor::<DescriptorPublicKey>::from_str(&text);
        parsed.map_or(text, |descriptor| descriptor.to_string())
    }
}

impl fmt::Display for AccountXpub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// BIP86's last but one step.
pub(super) fn branch(keychain: KeychainKind) -> u32 {
    match keychain {
        KeychainKind::External => 0,
        KeychainKind::Internal => 1,
    }
}
