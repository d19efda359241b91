//! Signatures by the wallet's keys, which the wallet library never sees.

use bitcoin::secp256k1::Message;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::taproot::Signature;
use bitcoin::{Psbt, TapSighashType, Transaction, TxOut, Witness};

use super::account::branch;
use super::{SignError, Wallet};
use crate::bump::BumpPlan;

impl Wallet {
    /// Signs a planned fee bump. The parent need not be in the chain or known to the wallet: the
    /// plan carries what the child spends.
    pub fn sign_bump(&self, plan: &BumpPlan) -> Result<Transaction, SignError> {
        let child = self.sign_from(&plan.psbt, BumpPlan::FIRST_OWN_INPUT)?;
        let found = child.weight().to_vbytes_ceil();
        if found != plan.vsize {
            return Err(SignError::UnexpectedSize {
                planned: plan.vsize,
                found,
            });
        }
        Ok(child)
    }

    /// Signs all inputs.
    pub(super) fn sign(&self, psbt: &Psbt) -> Result<Transaction, SignError> {
        self.sign_from(psbt, 0)
    }

    fn sign_from(&self, psbt: &Psbt, first: usize) -> Result<Transaction, SignError> {
        let mut transaction = psbt.unsigned_tx.clone();
        for input in first..transaction.input.len() {
            transaction.input[input].witness = self.key_path_witness(psbt, input)?;
        }
        Ok(transaction)
    }

    /// The witness of one own P2TR input.
    fn key_path_witness(&self, psbt: &Psbt, input: usize) -> Result<Witness, SignError> {
        let keys = self.keys.as_ref().ok_or(SignError::NoKeys)?;
        let spent: Vec<&TxOut> = psbt
            .inputs
            .iter()
            .enumerate()
            .map(|(input, i)| {
                i.witness_utxo
                    .as_ref()
                    .ok_or(SignError::MissingOutput { input })
            })
            .collect::<Result<_, _>>()?;
        let own = spent
            .get(input)
            .ok_or(SignError::MissingOutput { input })?
            .script_pubkey
            .clone();
        let (keychain, index) = self
            .wallet
            .derivation_of_spk(own)
            .ok_or(SignError::NotOurs { input })?;

        let unsignable = |reason: String| SignError::Unsignable { reason };
        let sighash_type = TapSighashType::Default;
        let sighash = SighashCache::new(&psbt.unsigned_tx)
            .taproot_key_spend_signature_hash(input, &Prevouts::All(&spent), sighash_type)
            .map_err(|e| unsignable(e.to_string()))?;
        let signature = keys
            .sign_key_path(
                branch(keychain),
                index,
                Message::from(sighash),
                rand::random(),
            )
            .map_err(|e| unsignable(e.to_string()))?;
        Ok(Witness::p2tr_key_spend(&Signature {
            signature,
            sighash_type,
        }))
    }
}
