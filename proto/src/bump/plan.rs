//! Checks a bump's inputs and builds the unsigned child.

use bitcoin::absolute::LockTime;
use bitcoin::psbt::Psbt;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, psbt,
};
use thiserror::Error;

use super::Feerate;

/// The largest virtual size of a TRUC transaction that spends an unconfirmed one (BIP431).
pub const MAX_CHILD_VSIZE: u64 = 1_000;

/// What a node asks for the relay of a replacement's bytes, on top of the fees it evicts. Bitcoin
/// Core 28 and 29 ask this; later versions ask a tenth of it.
const INCREMENTAL_RELAY: Feerate = Feerate::from_sat_per_kvb(1_000);

/// A pay-to-anchor script (BIP433): OP_1 <0x4e73>. Anyone spends it, with an empty witness.
const PAY_TO_ANCHOR: [u8; 4] = [0x51, 0x02, 0x4e, 0x73];

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
    pub own: OwnOutput,
    pub target: Feerate,
    pub change_script: ScriptBuf,
    pub replaces: Option<Replaced>,
}

/// A child that does what was asked, to be signed by the wallet that owns the second input.
#[derive(Clone, Debug)]
pub struct BumpPlan {
    /// Input 0 is the anchor, input 1 the own output.
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
    /// The index of the input that the wallet signs.
    pub const OWN_INPUT: usize = 1;
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
        "output {vout} of the payout pays {} sat to {found_script}, not {} sat to {script} as the wallet expected",
        found_value.to_sat(), value.to_sat()
    )]
    NotTheOwnOutput {
        vout: u32,
        value: Amount,
        script: ScriptBuf,
        found_value: Amount,
        found_script: ScriptBuf,
    },
    #[error("output {vout} is not a taproot output ({script}); only those can pay for a bump")]
    NotTaproot { vout: u32, script: ScriptBuf },
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
        "the bump needs {} sat (fee {} and at least {} of change), but the anchor and the own output hold {}; ask for a lower feerate",
        need.to_sat(), fee.to_sat(), dust.to_sat(), have.to_sat()
    )]
    NotEnough {
        have: Amount,
        need: Amount,
        fee: Amount,
        dust: Amount,
    },
    #[error("the child would have {vsize} vB, above the {MAX_CHILD_VSIZE} vB that nodes relay")]
    ChildTooLarge { vsize: u64 },
    #[error("the amounts do not fit in 64 bits; one of the fees or feerates cannot be right")]
    Overflow,
}

/// Plans the cheapest child that lifts parent and child to the target feerate.
pub fn plan_bump(request: BumpRequest<'_>) -> Result<BumpPlan, BumpError> {
    let (anchor, own) = checked_outputs(&request)?;
    let parent_vsize = checked_vsize(request.parent)?;
    refuse_needless(&request, parent_vsize)?;

    let mut child = unsigned_child(&request);
    let vsize = signed_vsize(&child);
    if vsize > MAX_CHILD_VSIZE {
        return Err(BumpError::ChildTooLarge { vsize });
    }
    let fee = child_fee(&request, parent_vsize, vsize)?;
    let dust = request.change_script.minimal_non_dust();
    let have = anchor
        .value
        .checked_add(own.value)
        .ok_or(BumpError::Overflow)?;
    let need = fee.checked_add(dust).ok_or(BumpError::Overflow)?;
    if have < need {
        return Err(BumpError::NotEnough {
            have,
            need,
            fee,
            dust,
        });
    }
    let change = have.checked_sub(fee).ok_or(BumpError::Overflow)?;
    child.output[0].value = change;

    let package_feerate = package_feerate(request.parent_fee, parent_vsize, fee, vsize)?;
    let mut psbt = Psbt::from_unsigned_tx(child).map_err(|_| BumpError::Overflow)?;
    psbt.inputs = [anchor, own]
        .map(|output| psbt::Input {
            witness_utxo: Some(output.clone()),
            ..Default::default()
        })
        .to_vec();
    Ok(BumpPlan {
        psbt,
        parent_txid: request.parent.compute_txid(),
        fee,
        vsize,
        package_feerate,
        change,
    })
}

/// The anchor and the own output, as the parent has them.
fn checked_outputs<'a>(request: &BumpRequest<'a>) -> Result<(&'a TxOut, &'a TxOut), BumpError> {
    let anchor = output(request.parent, request.anchor_vout)?;
    if anchor.script_pubkey.as_bytes() != PAY_TO_ANCHOR {
        return Err(BumpError::NotAnAnchor {
            vout: request.anchor_vout,
            script: anchor.script_pubkey.clone(),
        });
    }
    let expected = &request.own;
    let own = output(request.parent, expected.vout)?;
    if own.value != expected.value || own.script_pubkey != expected.script {
        return Err(BumpError::NotTheOwnOutput {
            vout: expected.vout,
            value: expected.value,
            script: expected.script.clone(),
            found_value: own.value,
            found_script: own.script_pubkey.clone(),
        });
    }
    if !own.script_pubkey.is_p2tr() {
        return Err(BumpError::NotTaproot {
            vout: expected.vout,
            script: own.script_pubkey.clone(),
        });
    }
    if request.change_script.is_op_return() {
        return Err(BumpError::UnspendableChange {
            script: request.change_script.clone(),
        });
    }
    Ok((anchor, own))
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
    if parent.version != Version(3) {
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
    let Some(replaced) = request.replaces else {
        return Ok(());
    };
    let package = package_feerate(
        request.parent_fee,
        parent_vsize,
        replaced.fee,
        replaced.vsize,
    )?;
    if package >= target {
        return Err(BumpError::TargetBelowReplaced { target, package });
    }
    Ok(())
}

/// The least fee of a child of `vsize` that reaches the target and, where there is one, replaces
/// the present child.
fn child_fee(
    request: &BumpRequest<'_>,
    parent_vsize: u64,
    vsize: u64,
) -> Result<Amount, BumpError> {
    let package_vsize = parent_vsize.checked_add(vsize).ok_or(BumpError::Overflow)?;
    let package_fee = request
        .target
        .fee(package_vsize)
        .ok_or(BumpError::Overflow)?;
    let for_target = package_fee
        .checked_sub(request.parent_fee)
        .ok_or(BumpError::Overflow)?;
    let Some(replaced) = request.replaces else {
        return Ok(for_target);
    };
    let relay = INCREMENTAL_RELAY.fee(vsize).ok_or(BumpError::Overflow)?;
    let above_fee = replaced.fee.checked_add(relay).ok_or(BumpError::Overflow)?;
    let above_rate = fee_above_feerate(replaced, vsize).ok_or(BumpError::Overflow)?;
    Ok(for_target.max(above_fee).max(above_rate))
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
fn unsigned_child(request: &BumpRequest<'_>) -> Transaction {
    let txid = request.parent.compute_txid();
    let input = [request.anchor_vout, request.own.vout].map(|vout| TxIn {
        previous_output: OutPoint { txid, vout },
        script_sig: ScriptBuf::new(),
        sequence: SEQUENCE,
        witness: Witness::new(),
    });
    Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: input.to_vec(),
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: request.change_script.clone(),
        }],
    }
}

/// What the child will weigh once signed: every part of it has a fixed length.
fn signed_vsize(unsigned: &Transaction) -> u64 {
    let mut signed = unsigned.clone();
    signed.input[BumpPlan::OWN_INPUT].witness =
        Witness::from_slice(&[[0_u8; SCHNORR_SIGNATURE_BYTES]]);
    signed.weight().to_vbytes_ceil()
}
