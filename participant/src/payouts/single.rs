//! A file with one payout: a PSBT or a raw transaction, in bytes or in text. It comes from anywhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{deserialize, deserialize_hex};
use bitcoin::{Amount, Psbt, Transaction};
use thiserror::Error;
use tutti_proto::payout::{ANCHOR_SAT, ANCHOR_SCRIPT, PAYOUT_VERSION, PAYOUT_VSIZE_LIMIT};

/// Far above what a payout needs, in base64 and with a coinbase of many shards.
const MAX_BYTES: u64 = 1_000_000;
const PSBT_MAGIC: &[u8] = b"psbt\xff";
const SIGNATURE_BYTES: usize = 64;

/// What the file says.
#[derive(Debug)]
pub(super) struct Single {
    pub payout: Transaction,
    /// What a PSBT carries.
    pub coinbase: Option<Transaction>,
}

/// Why a file is not taken.
#[derive(Debug, Error)]
pub enum SingleError {
    #[error("cannot read {}: {source}; name a file that can be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} has more than {MAX_BYTES} bytes, and no payout has; name the file of one payout, or the directory that `payouts export` wrote",
        .0.display()
    )]
    TooLarge(PathBuf),
    #[error(
        "{} is neither a raw transaction nor a PSBT, in bytes, hex or base64 ({reason}); get the file of the payout anew",
        path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} is not a payout of a Tutti pool: {reason}; name the file of one", path.display())]
    NotAPayout { path: PathBuf, reason: NotAPayout },
}

/// What a payout has and this transaction does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAPayout {
    #[error("it is not a version-3 transaction")]
    Version,
    #[error("it has not exactly one input")]
    Inputs,
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature is not that of a key path")]
    Witness,
    #[error("its last output is not a pay-to-anchor output of {ANCHOR_SAT} sat")]
    Anchor,
    #[error("it has more than {PAYOUT_VSIZE_LIMIT} vB")]
    Size,
    #[error("it pays more bitcoins than there are")]
    Amount,
    #[error("the coinbase that comes with it is not the one that it spends")]
    Coinbase,
}

/// Reads and looks at what can be judged without the coinbase.
pub(super) fn read(path: &Path) -> Result<Single, SingleError> {
    let bytes = bytes(path)?;
    let single = parse(&bytes).map_err(|reason| match reason {
        Wrong::Unreadable(reason) => SingleError::Unreadable {
            path: path.to_owned(),
            reason,
        },
        Wrong::Payout(reason) => SingleError::NotAPayout {
            path: path.to_owned(),
            reason,
        },
    })?;
    check(&single.payout).map_err(|reason| SingleError::NotAPayout {
        path: path.to_owned(),
        reason,
    })?;
    Ok(single)
}

fn bytes(path: &Path) -> Result<Vec<u8>, SingleError> {
    let failed = |source| SingleError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut start = file.take(MAX_BYTES + 1);
    start.read_to_end(&mut bytes).map_err(failed)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MAX_BYTES => Ok(bytes),
        _ => Err(SingleError::TooLarge(path.to_owned())),
    }
}

enum Wrong {
    Unreadable(String),
    Payout(NotAPayout),
}

fn unreadable(error: impl ToString) -> Wrong {
    Wrong::Unreadable(error.to_string())
}

fn parse(bytes: &[u8]) -> Result<Single, Wrong> {
    if bytes.starts_with(PSBT_MAGIC) {
        return of_psbt(Psbt::deserialize(bytes).map_err(unreadable)?);
    }
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    let payout = match text {
        Some("") => return Err(unreadable("it is empty")),
        Some(text) if text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let decoded = hex::decode(text).map_err(unreadable)?;
            if decoded.starts_with(PSBT_MAGIC) {
                return of_psbt(Psbt::deserialize(&decoded).map_err(unreadable)?);
            }
            deserialize_hex(text).map_err(unreadable)?
        }
        Some(text) if text.is_ascii() && !text.contains('\0') => {
            return of_psbt(text.parse::<Psbt>().map_err(unreadable)?);
        }
        _ => deserialize(bytes).map_err(unreadable)?,
    };
    Ok(Single {
        payout,
        coinbase: None,
    })
}

fn of_psbt(psbt: Psbt) -> Result<Single, Wrong> {
    let wrong = Wrong::Payout;
    let mut payout = psbt.unsigned_tx;
    let [input] = payout.input.as_mut_slice() else {
        return Err(wrong(NotAPayout::Inputs));
    };
    let known = psbt.inputs.into_iter().next();
    let known = known.ok_or(wrong(NotAPayout::Inputs))?;
    let signature = known
        .tap_key_sig
        .map(|sig| bitcoin::Witness::p2tr_key_spend(&sig));
    let witness = known.final_script_witness.or(signature);
    input.witness = witness.ok_or(wrong(NotAPayout::Unsigned))?;
    let coinbase = known.non_witness_utxo;
    let spent = input.previous_output.txid;
    let fits = |coinbase: &Transaction| coinbase.is_coinbase() && coinbase.compute_txid() == spent;
    match coinbase.as_ref().is_none_or(fits) {
        true => Ok(Single { payout, coinbase }),
        false => Err(wrong(NotAPayout::Coinbase)),
    }
}

/// What can be judged without the coinbase.
pub(super) fn check(payout: &Transaction) -> Result<(), NotAPayout> {
    if payout.version != PAYOUT_VERSION {
        return Err(NotAPayout::Version);
    }
    let [input] = payout.input.as_slice() else {
        return Err(NotAPayout::Inputs);
    };
    let mut witness = input.witness.iter();
    match (witness.next(), witness.next()) {
        (None, _) => return Err(NotAPayout::Unsigned),
        (Some(signature), None) if signature.len() == SIGNATURE_BYTES => {}
        _ => return Err(NotAPayout::Witness),
    }
    if !u64::try_from(payout.vsize()).is_ok_and(|vsize| vsize <= PAYOUT_VSIZE_LIMIT) {
        return Err(NotAPayout::Size);
    }
    let anchor = payout.output.last();
    let is_anchor = anchor.is_some_and(|output| {
        output.value.to_sat() == ANCHOR_SAT && output.script_pubkey.as_bytes() == ANCHOR_SCRIPT
    });
    if !is_anchor {
        return Err(NotAPayout::Anchor);
    }
    let mut outputs = payout.output.iter();
    let paid = outputs.try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    let possible = paid.is_some_and(|paid| paid <= Amount::MAX_MONEY);
    possible.then_some(()).ok_or(NotAPayout::Amount)
}
