//! The coordinator's own coins for fee bumps: one key, derived from its identity key, so that a copy of
//! that one is a copy of this. The identity key itself signs no money.

use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::taproot::Signature;
use bitcoin::{Address, Network, ScriptBuf, TapSighashType, Transaction, TxOut, Witness};
use tutti_proto::bump::BumpPlan;
use tutti_proto::identity::{IdentityKey, NotASecretKey};

const PURPOSE: &str = "tutti/bump-key";

/// The key and its address. Not `Clone`, not `Debug`; erased when dropped.
pub struct Purse {
    secp: Secp256k1<All>,
    /// Tweaked for the key path without scripts (BIP86).
    key: Keypair,
    address: Address,
}

impl Purse {
    /// Of this coordinator.
    pub fn new(identity: &IdentityKey, network: Network) -> Result<Self, NotASecretKey> {
        let secp = Secp256k1::new();
        let mut secret = identity.derive(PURPOSE)?;
        let mut internal = Keypair::from_secret_key(&secp, &secret);
        let address = Address::p2tr(&secp, internal.x_only_public_key().0, None, network);
        let key = internal.tap_tweak(&secp, None).to_keypair();
        secret.non_secure_erase();
        internal.non_secure_erase();
        Ok(Self { secp, key, address })
    }

    /// Where the operator sends coins for bumps.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same as a script.
    pub fn script(&self) -> ScriptBuf {
        self.address.script_pubkey()
    }

    /// Signs all inputs of a planned bump but the anchor; they are all this key's. `None` if one is
    /// not.
    pub fn sign(&self, plan: &BumpPlan) -> Option<Transaction> {
        let spent: Option<Vec<TxOut>> = plan
            .psbt
            .inputs
            .iter()
            .map(|input| input.witness_utxo.clone())
            .collect();
        let spent = spent?;
        let mut child = plan.psbt.unsigned_tx.clone();
        for input in BumpPlan::FIRST_OWN_INPUT..child.input.len() {
            if spent.get(input)?.script_pubkey != self.script() {
                return None;
            }
            let sighash_type = TapSighashType::Default;
            let sighash = SighashCache::new(&plan.psbt.unsigned_tx)
                .taproot_key_spend_signature_hash(input, &Prevouts::All(&spent), sighash_type)
                .ok()?;
            let aux: [u8; 32] = rand::random();
            let message = Message::from(sighash);
            let signature = self
                .secp
                .sign_schnorr_with_aux_rand(&message, &self.key, &aux);
            child.input[input].witness = Witness::p2tr_key_spend(&Signature {
                signature,
                sighash_type,
            });
        }
        Some(child)
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}
