//! The wallet's BIP86 account. The wallet library only ever sees its public half, so no private
//! descriptor can reach its database or a log.

use bitcoin::bip32::{ChildNumber, Fingerprint, Xpriv, Xpub};
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, schnorr};

use super::seed::erase;

/// `m/86'/coin'/0'`. Not `Clone`, not `Debug`, overwritten when dropped.
pub struct AccountKey {
    secp: Secp256k1<All>,
    xpriv: Xpriv,
    master: Fingerprint,
}

impl AccountKey {
    pub(super) fn new(secp: Secp256k1<All>, xpriv: Xpriv, master: Fingerprint) -> Self {
        Self {
            secp,
            xpriv,
            master,
        }
    }

    /// The public half, of which every address of the account can be made.
    pub fn xpub(&self) -> Xpub {
        Xpub::from_priv(&self.secp, &self.xpriv)
    }

    /// The fingerprint of the master key, which a descriptor names as the origin.
    pub fn master_fingerprint(&self) -> Fingerprint {
        self.master
    }

    /// Signs a taproot sighash by the key path of child `branch/index` (BIP86: no script tree).
    pub(crate) fn sign_key_path(
        &self,
        branch: u32,
        index: u32,
        sighash: Message,
        aux: [u8; 32],
    ) -> Result<schnorr::Signature, bitcoin::bip32::Error> {
        let path = [
            ChildNumber::from_normal_idx(branch)?,
            ChildNumber::from_normal_idx(index)?,
        ];
        let mut child = self.xpriv.derive_priv(&self.secp, &path)?;
        let mut internal = Keypair::from_secret_key(&self.secp, &child.private_key);
        let mut output = internal.tap_tweak(&self.secp, None).to_keypair();
        let signature = self
            .secp
            .sign_schnorr_with_aux_rand(&sighash, &output, &aux);
        erase(&mut child);
        internal.non_secure_erase();
        output.non_secure_erase();
        Ok(signature)
    }
}

impl Drop for AccountKey {
    fn drop(&mut self) {
        erase(&mut self.xpriv);
    }
}
