//! `send` and `sweep`: an ordinary transaction of the wallet's coins, to be signed here or elsewhere.

use bdk_wallet::KeychainKind;
use bdk_wallet::error::CreateTxError;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, Transaction, Witness};
use thiserror::Error;
use tutti_proto::bump::Feerate;

use super::balance::CoinState;
use super::sync::tip;
use super::{SignError, Wallet, WalletError};
use crate::amount::both;

/// BIP340 signature with the default sighash: no byte follows it.
const SIGNATURE_BYTES: usize = 64;

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Spend {
    pub to: Address,
    /// All there is, less the fee, where none is given.
    pub amount: Option<Amount>,
    pub feerate: Feerate,
}

/// A transaction to be signed, and what it costs.
pub(super) struct Built {
    /// With all that a signer needs to know.
    pub psbt: Psbt,
    pub fee: Amount,
    /// What the receiver gets.
    pub paid: Amount,
    pub change: Amount,
    /// Coins that cannot be spent yet.
    pub left_out: Amount,
}

/// Why nothing is paid.
#[derive(Debug, Error)]
pub enum SpendError {
    #[error(
        "{} is dust: nodes relay no output to {to} below {}; send more",
        both(amount.to_sat()), both(limit.to_sat())
    )]
    Dust {
        to: Address,
        amount: Amount,
        limit: Amount,
    },
    #[error(
        "{} are needed, fee included, and {} can be spent{}; send less, lower --feerate, or see `tutti-participant wallet balance`",
        both(needed.to_sat()), both(available.to_sat()), waiting(*left_out)
    )]
    NotEnough {
        needed: Amount,
        available: Amount,
        left_out: Amount,
    },
    #[error(
        "there is nothing to sweep: no coin is worth its fee{}; see `tutti-participant wallet balance`",
        waiting(*left_out)
    )]
    Nothing { left_out: Amount },
    #[error("the feerate {0} is beyond all measure; give sat/vB")]
    Feerate(Feerate),
    #[error("the transaction cannot be made: {0}")]
    Unbuildable(String),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

fn waiting(left_out: Amount) -> String {
    match left_out {
        Amount::ZERO => String::new(),
        left_out => format!(
            " ({} more are immature or unconfirmed, and can be spent later)",
            both(left_out.to_sat())
        ),
    }
}

impl Wallet {
    /// Builds. Nothing is stored: the change address is taken for good by `persist`.
    ///
    /// Only own change is spent unconfirmed, and no output of a version-3 transaction: a spend of an
    /// unconfirmed payout would have to be version 3 itself and small, and would take the place of its
    /// fee bump.
    pub(super) fn build(&mut self, spend: &Spend) -> Result<Built, SpendError> {
        let script = spend.to.script_pubkey();
        let limit = script.minimal_non_dust();
        if let Some(amount) = spend.amount.filter(|amount| *amount < limit) {
            return Err(SpendError::Dust {
                to: spend.to.clone(),
                amount,
                limit,
            });
        }
        let (unspendable, left_out) = self.unspendable();
        let feerate = feerate(spend.feerate)?;
        let mut builder = self.wallet.build_tx();
        builder.fee_rate(feerate).unspendable(unspendable);
        match spend.amount {
            Some(amount) => builder.add_recipient(script.clone(), amount),
            None => builder.drain_wallet().drain_to(script.clone()),
        };
        let psbt = builder.finish().map_err(|error| match error {
            CreateTxError::CoinSelection(short) if spend.amount.is_some() => {
                SpendError::NotEnough {
                    needed: short.needed,
                    available: short.available,
                    left_out,
                }
            }
            CreateTxError::CoinSelection(_)
            | CreateTxError::NoUtxosSelected
            | CreateTxError::OutputBelowDustLimit(_) => SpendError::Nothing { left_out },
            other => SpendError::Unbuildable(other.to_string()),
        })?;
        let fee = psbt.fee();
        let fee = fee.map_err(|error| SpendError::Unbuildable(error.to_string()))?;
        let outputs = &psbt.unsigned_tx.output;
        let sent = outputs.iter().find(|output| output.script_pubkey == script);
        let paid = sent.map_or(Amount::ZERO, |output| output.value);
        let all: Amount = outputs.iter().map(|output| output.value).sum();
        Ok(Built {
            fee,
            paid,
            change: all.checked_sub(paid).unwrap_or_default(),
            left_out,
            psbt,
        })
    }

    /// Coins that an ordinary transaction must not spend now, and their sum.
    fn unspendable(&self) -> (Vec<OutPoint>, Amount) {
        let tip = tip(&self.wallet.latest_checkpoint()).height;
        let coins = self.wallet.list_unspent().filter(|coin| {
            match self.state(coin, tip) {
                CoinState::Confirmed => false,
                // Own change; what others sent may be replaced.
                CoinState::Unconfirmed => coin.keychain != KeychainKind::Internal,
                CoinState::UnconfirmedPayout | CoinState::Immature { .. } => true,
            }
        });
        let mut sum = Amount::ZERO;
        let outpoints = coins.map(|coin| {
            sum = sum.checked_add(coin.txout.value).unwrap_or(Amount::MAX);
            coin.outpoint
        });
        (outpoints.collect(), sum)
    }

    /// Counts a transaction that a mempool took, so that its coins are not spent again.
    pub(crate) fn note_sent(&mut self, transaction: &Transaction) -> Result<(), WalletError> {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let seen = (transaction.clone(), now.as_secs());
        self.wallet.apply_unconfirmed_txs([seen]);
        self.persist()
    }
}

impl Built {
    /// The transaction's virtual size once it is signed: all of the wallet's coins are spent by one
    /// signature each.
    pub(super) fn signed_vsize(&self) -> u64 {
        let mut signed = self.psbt.unsigned_tx.clone();
        for input in &mut signed.input {
            input.witness = Witness::from_slice(&[[0_u8; SIGNATURE_BYTES]]);
        }
        signed.weight().to_vbytes_ceil()
    }
}

/// In the wallet library's unit, rounded up.
fn feerate(rate: Feerate) -> Result<FeeRate, SpendError> {
    let sat_per_kwu = rate.sat_per_kvb().div_ceil(4);
    // No transaction has more than 4,000,000 weight units; beyond, sums overflow.
    let sane = sat_per_kwu <= Amount::MAX_MONEY.to_sat() / 4_000;
    sane.then(|| FeeRate::from_sat_per_kwu(sat_per_kwu))
        .ok_or(SpendError::Feerate(rate))
}
