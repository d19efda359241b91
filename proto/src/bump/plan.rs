//! Checks a bump's inputs and builds the unsigned child.

use bitcoin::absolute::LockTime;
use bitcoin::psbt::Psbt;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, psbt,
};
use thiserror::Error;

use super::Feerate;
use crate::amount::both;
use crate::payout::{ANCHOR_SCRIPT, PAYOUT_VERSION};

/// The largest virtual size of a TRUC transaction that spends an unconfirmed one (BIP431).
pub const MAX_CHILD_VSIZE: u64 = 1_000;

/// What a node asks for the relay of a replacement's bytes, on top of the fees it evicts. Bitcoin
/// Core 28 and 29 ask this; later versions ask a tenth of it.
const INCREMENTAL_RELAY: Feerate = Feerate::from_sat_per_kvb(1_000);

/// BIP340 signature with the default sighash: no byte follows it.
const SCHNORR_SIGNATURE_BYTES: usize = 64;

/// Replaceable, as the payout's own input.
const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// The bumper's own output of the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnOutput {
    pub vout: u32,
    pub value: Amount,
    pub script: ScriptBuf,
}

/// Another coin of the bumper's, confirmed: a version-3 transaction has one unconfirmed parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    pub outpoint: OutPoint,
    pub value: Amount,
    pub script: ScriptBuf,
}

/// The parent's child that is in the mempool now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub fee: Amount,
    pub vsize: u64,
}

/// What to bump, and how far.
#[derive(Clone, Debug)]
pub struct BumpRequest<'a> {
    /// The payout, fully signed: its virtual size counts.
    pub parent: &'a Transaction,
    pub parent_fee: Amount,
    pub anchor_vout: u32,
    /// The bumper's own output of the payout, which pays first.
    pub own: Option<OwnOutput>,
    /// What pays if that does not suffice, the largest first.
    pub coins: Vec<Coin>,
    pub target: Feerate,
    /// Highest feerate of payout and child together, whatever a replacement needs; none where a person
    /// decides.
    pub feerate_max: Option<Feerate>,
    /// Highest fee of the child; a target that costs more is lowered to what it allows. None where a
    /// person decides.
    pub cost_max: Option<Amount>,
    pub change_script: ScriptBuf,
    pub replaces: Option<Replaced>,
}

/// A child that does what was asked, to be signed by the wallet that owns all inputs but the first.
#[derive(Clone, Debug)]
pub struct BumpPlan {
    /// Input 0 is the anchor, which needs no signature; the others are the bumper's.
    pub psbt: Psbt,
    pub parent_txid: Txid,
    /// The child's fee.
    pub fee: Amount,
    /// The signed child's virtual size.
    pub vsize: u64,
    /// Parent and child together.
    pub package_feerate: Feerate,
    /// What comes back to the wallet.
    pub change: Amount,
}

impl BumpPlan {
    /// The index of the first input that the wallet signs.
    pub const FIRST_OWN_INPUT: usize = 1;
}

/// Why a bump was not planned.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BumpError {
    #[error(
        "the payout's version is {version}, not 3, so nodes would not treat the child as its fee bump"
    )]
    ParentVersion { version: i32 },
    #[error("the payout is not signed yet, so there is nothing to bump")]
    ParentUnsigned,
    #[error("the payout has {outputs} outputs, so it has no output {vout}")]
    NotAnOutput { vout: u32, outputs: usize },
    #[error("output {vout} of the payout is not a pay-to-anchor output; it pays {script}")]
    NotAnAnchor { vout: u32, script: ScriptBuf },
    #[error(
        "output {vout} of the payout pays {} to {found_script}, not {} to {script} as the wallet expected",
        both(found_value.to_sat()), both(value.to_sat())
    )]
    NotTheOwnOutput {
        vout: u32,
        value: Amount,
        script: ScriptBuf,
        found_value: Amount,
        found_script: ScriptBuf,
    },
    #[error("{outpoint} is not a taproot output ({script}); only those can pay for a bump")]
    NotTaproot {
        outpoint: OutPoint,
        script: ScriptBuf,
    },
    #[error(
        "there is nothing to pay the bump with: the payout has no output of this wallet, and it has no confirmed coin; let another payee bump, or fund the wallet"
    )]
    NothingToPayWith,
    #[error("the change script {script} can never be spent")]
    UnspendableChange { script: ScriptBuf },
    #[error(
        "the payout pays {parent} alone, which is not below the target of {target}: no bump is needed"
    )]
    TargetBelowParent { target: Feerate, parent: Feerate },
    #[error(
        "the payout and the child that is in the mempool already pay {package}, which is not below the target of {target}: no further bump is needed"
    )]
    TargetBelowReplaced { target: Feerate, package: Feerate },
    #[error(
        "the bump needs {} (fee {} and at least {} of change), but the anchor and the own coins hold {}; ask for at most {most}, or let a payee with more bump",
        both(need.to_sat()), both(fee.to_sat()), both(dust.to_sat()), both(have.to_sat())
    )]
    NotEnough {
        have: Amount,
        need: Amount,
        fee: Amount,
        dust: Amount,
        /// What parent and child together can pay with these coins.
        most: Feerate,
    },
    #[error("the child would have {vsize} vB, above the {MAX_CHILD_VSIZE} vB that nodes relay")]
    ChildTooLarge { vsize: u64 },
    #[error(
        "the bump would cost {}, above the {} that may be spent on it", both(fee.to_sat()), both(most.to_sat())
    )]
    AboveCap { fee: Amount, most: Amount },
    #[error(
        "to replace the child that is in the mempool, payout and child would have to pay {package}, above the {most} that may be paid; bump it by hand"
    )]
    AboveFeerate { package: Feerate, most: Feerate },
    #[error("the amounts do not fit in 64 bits; one of the fees or feerates cannot be right")]
    Overflow,
}

/// Plans the cheapest child that lifts parent and child to the target feerate.
pub fn plan_bump(request: BumpRequest<'_>) -> Result<BumpPlan, BumpError> {
    let (anchor, mut payers) = checked_outputs(&request)?;
    let parent_vsize = checked_vsize(request.parent)?;
    refuse_needless(&request, parent_vsize)?;

    let mut coins = request.coins.clone();
    coins.sort_by_key(|coin| coin.value); // The largest is taken first.
    if payers.is_empty() {
        payers.extend(coins.pop());
    }
    if payers.is_empty() {
        return Err(BumpError::NothingToPayWith);
    }
    let parent_txid = request.parent.compute_txid();
    let anchor_outpoint = OutPoint::new(parent_txid, request.anchor_vout);
    let (mut child, vsize, fee, change) = loop {
        let child = unsigned_child(anchor_outpoint, &payers, &request.change_script);
        let vsize = signed_vsize(&child);
        if vsize > MAX_CHILD_VSIZE {
            return Err(BumpError::ChildTooLarge { vsize });
        }
        let fee = child_fee(&request, parent_vsize, vsize)?;
        refuse_too_dear(&request, parent_vsize, vsize, fee)?;
        match change(&request, anchor, &payers, parent_vsize, vsize, fee) {
            Ok(change) => break (child, vsize, fee, change),
            Err(error) => payers.push(coins.pop().ok_or(error)?),
        }
    };
    child.output[0].value = change;

    let package_feerate = package_feerate(request.parent_fee, parent_vsize, fee, vsize)?;
    let mut psbt = Psbt::from_unsigned_tx(child).map_err(|_| BumpError::Overflow)?;
    let own = payers.into_iter().map(|coin| TxOut {
        value: coin.value,
        script_pubkey: coin.script,
    });
    psbt.inputs = std::iter::once(anchor.clone())
        .chain(own)
        .map(|output| psbt::Input {
            witness_utxo: Some(output),
            ..Default::default()
        })
        .collect();
    Ok(BumpPlan {
        psbt,
        parent_txid,
        fee,
        vsize,
        package_feerate,
        change,
    })
}

/// What the fee leaves of anchor and payers; an error if that is dust.
fn change(
    request: &BumpRequest<'_>,
    anchor: &TxOut,
    payers: &[Coin],
    parent_vsize: u64,
    vsize: u64,
    fee: Amount,
) -> Result<Amount, BumpError> {
    let dust = request.change_script.minimal_non_dust();
    let have = payers
        .iter()
        .try_fold(anchor.value, |sum, coin| sum.checked_add(coin.value))
        .ok_or(BumpError::Overflow)?;
    let need = fee.checked_add(dust).ok_or(BumpError::Overflow)?;
    if have < need {
        let spendable = have.checked_sub(dust).unwrap_or(Amount::ZERO);
        return Err(BumpError::NotEnough {
            have,
            need,
            fee,
            dust,
            most: package_feerate(request.parent_fee, parent_vsize, spendable, vsize)?,
        });
    }
    have.checked_sub(fee).ok_or(BumpError::Overflow)
}

/// The anchor, and the own output if there is one, as the parent has them; and the coins are looked at.
fn checked_outputs<'a>(request: &BumpRequest<'a>) -> Result<(&'a TxOut, Vec<Coin>), BumpError> {
    let anchor = output(request.parent, request.anchor_vout)?;
    if anchor.script_pubkey.as_bytes() != ANCHOR_SCRIPT {
        return Err(BumpError::NotAnAnchor {
            vout: request.anchor_vout,
            script: anchor.script_pubkey.clone(),
        });
    }
    let own = request
        .own
        .as_ref()
        .map(|own| own_coin(request.parent, own));
    let own: Vec<Coin> = own.transpose()?.into_iter().collect();
    for coin in own.iter().chain(&request.coins) {
        if !coin.script.is_p2tr() {
            return Err(BumpError::NotTaproot {
                outpoint: coin.outpoint,
                script: coin.script.clone(),
            });
        }
    }
    if request.change_script.is_op_return() {
        return Err(BumpError::UnspendableChange {
            script: request.change_script.clone(),
        });
    }
    Ok((anchor, own))
}

fn own_coin(parent: &Transaction, expected: &OwnOutput) -> Result<Coin, BumpError> {
    let own = output(parent, expected.vout)?;
    if own.value != expected.value || own.script_pubkey != expected.script {
        return Err(BumpError::NotTheOwnOutput {
            vout: expected.vout,
            value: expected.value,
            script: expected.script.clone(),
            found_value: own.value,
            found_script: own.script_pubkey.clone(),
        });
    }
    Ok(Coin {
        outpoint: OutPoint::new(parent.compute_txid(), expected.vout),
        value: own.value,
        script: own.script_pubkey.clone(),
    })
}

fn output(parent: &Transaction, vout: u32) -> Result<&TxOut, BumpError> {
    usize::try_from(vout)
        .ok()
        .and_then(|index| parent.output.get(index))
        .ok_or(BumpError::NotAnOutput {
            vout,
            outputs: parent.output.len(),
        })
}

fn checked_vsize(parent: &Transaction) -> Result<u64, BumpError> {
    if parent.version != PAYOUT_VERSION {
        return Err(BumpError::ParentVersion {
            version: parent.version.0,
        });
    }
    let signed = |input: &TxIn| !input.witness.is_empty() || !input.script_sig.is_empty();
    if !parent.input.iter().all(signed) {
        return Err(BumpError::ParentUnsigned);
    }
    u64::try_from(parent.vsize()).map_err(|_| BumpError::Overflow)
}

/// Refuses to pay for what is already paid.
fn refuse_needless(request: &BumpRequest<'_>, parent_vsize: u64) -> Result<(), BumpError> {
    let target = request.target;
    let parent = Feerate::paid(request.parent_fee, parent_vsize).ok_or(BumpError::Overflow)?;
    if parent >= target {
        return Err(BumpError::TargetBelowParent { target, parent });
    }
    let package = paid_now(request, parent_vsize)?;
    if package >= target {
        return Err(BumpError::TargetBelowReplaced { target, package });
    }
    Ok(())
}

/// What the payout pays, with its present child if that pays more.
fn paid_now(request: &BumpRequest<'_>, parent_vsize: u64) -> Result<Feerate, BumpError> {
    let child = request.replaces.map(|child| (child.fee, child.vsize));
    Feerate::paid_with(request.parent_fee, parent_vsize, child).ok_or(BumpError::Overflow)
}

/// The least fee of a child of `vsize` that reaches the target and, where there is one, replaces
/// the present child; or what may be spent, where that is less and still lifts the payout.
fn child_fee(
    request: &BumpRequest<'_>,
    parent_vsize: u64,
    vsize: u64,
) -> Result<Amount, BumpError> {
    let for_target = fee_for_target(request, parent_vsize, vsize)?;
    let to_replace = fee_to_replace(request, vsize)?;
    let fee = for_target.max(to_replace);
    let Some(most) = request.cost_max.filter(|most| fee > *most) else {
        return Ok(fee);
    };
    let lowered = package_feerate(request.parent_fee, parent_vsize, most, vsize)?;
    if to_replace > most || lowered <= paid_now(request, parent_vsize)? {
        return Err(BumpError::AboveCap { fee, most });
    }
    Ok(most)
}

fn fee_for_target(
    request: &BumpRequest<'_>,
    parent_vsize: u64,
    vsize: u64,
) -> Result<Amount, BumpError> {
    let package_vsize = parent_vsize.checked_add(vsize).ok_or(BumpError::Overflow)?;
    let package_fee = request
        .target
        .fee(package_vsize)
        .ok_or(BumpError::Overflow)?;
    package_fee
        .checked_sub(request.parent_fee)
        .ok_or(BumpError::Overflow)
}

/// What nodes ask of a child of `vsize` that replaces the present one.
fn fee_to_replace(request: &BumpRequest<'_>, vsize: u64) -> Result<Amount, BumpError> {
    let Some(replaced) = request.replaces else {
        return Ok(Amount::ZERO);
    };
    let relay = INCREMENTAL_RELAY.fee(vsize).ok_or(BumpError::Overflow)?;
    let above_fee = replaced.fee.checked_add(relay).ok_or(BumpError::Overflow)?;
    let above_rate = fee_above_feerate(replaced, vsize).ok_or(BumpError::Overflow)?;
    Ok(above_fee.max(above_rate))
}

/// A target is within the policy's highest feerate; what a large child costs to replace may not be.
fn refuse_too_dear(
    request: &BumpRequest<'_>,
    parent_vsize: u64,
    vsize: u64,
    fee: Amount,
) -> Result<(), BumpError> {
    let Some(most) = request.feerate_max else {
        return Ok(());
    };
    let together = parent_vsize.checked_add(vsize);
    let affordable = together.and_then(|vsize| most.fee(vsize));
    let affordable = affordable.ok_or(BumpError::Overflow)?;
    let asked = request.parent_fee.checked_add(fee);
    if asked.ok_or(BumpError::Overflow)? <= affordable {
        return Ok(());
    }
    let package = package_feerate(request.parent_fee, parent_vsize, fee, vsize)?;
    Err(BumpError::AboveFeerate { package, most })
}

/// The smallest fee with which `vsize` pays strictly more per byte than `replaced` does.
fn fee_above_feerate(replaced: Replaced, vsize: u64) -> Option<Amount> {
    let same = (u128::from(replaced.fee.to_sat()) * u128::from(vsize))
        .checked_div(u128::from(replaced.vsize))?;
    let sat = u64::try_from(same).ok()?.checked_add(1)?;
    Some(Amount::from_sat(sat))
}

fn package_feerate(
    parent_fee: Amount,
    parent_vsize: u64,
    child_fee: Amount,
    child_vsize: u64,
) -> Result<Feerate, BumpError> {
    let fee = parent_fee.checked_add(child_fee);
    let vsize = parent_vsize.checked_add(child_vsize);
    fee.zip(vsize)
        .and_then(|(fee, vsize)| Feerate::paid(fee, vsize))
        .ok_or(BumpError::Overflow)
}

/// The child with an output whose value is still to be set.
fn unsigned_child(anchor: OutPoint, payers: &[Coin], change_script: &ScriptBuf) -> Transaction {
    let own = payers.iter().map(|coin| coin.outpoint);
    let inputs = std::iter::once(anchor).chain(own);
    Transaction {
        version: PAYOUT_VERSION,
        lock_time: LockTime::ZERO,
        input: inputs
            .map(|previous_output| TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: SEQUENCE,
                witness: Witness::new(),
            })
            .collect(),
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: change_script.clone(),
        }],
    }
}

/// What the child will weigh once signed: every part of it has a fixed length.
fn signed_vsize(unsigned: &Transaction) -> u64 {
    let mut signed = unsigned.clone();
    for input in signed.input.iter_mut().skip(BumpPlan::FIRST_OWN_INPUT) {
        input.witness = Witness::from_slice(&[[0_u8; SCHNORR_SIGNATURE_BYTES]]);
    }
    signed.weight().to_vbytes_ceil()
}
