//! Known faults, planted to see that the invariants find them.

use bitcoin::OutPoint;
use rand::rngs::StdRng;
use tutti_proto::musig::{AggregateKey, AggregateNonce, MusigError, Session, SigningSlot};
use tutti_proto::participant::Held;
use tutti_proto::payout;

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// All signers of a round collude and sign a payout that moves a sat from one payee to another.
    WrongAmount,
    /// A participant's randomness repeats itself, so that it announces and uses a slot key twice.
    KeptKey,
}

impl Plant {
    /// Reads a switch's value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "wrong-amount" => Some(Self::WrongAmount),
            "kept-key" => Some(Self::KeptKey),
            _ => None,
        }
    }
}

/// The round as three colluding signers would have made it: validly signed, amounts wrong by a sat.
pub fn collude(held: &Held, dice: &mut StdRng) -> Result<Held, MusigError> {
    let mut forged = held.clone();
    for lane in &mut forged.lanes {
        let shards = lane.payouts.len();
        let slots: Vec<_> = (0..3)
            .map(|_| SigningSlot::generate(&mut *dice, shards))
            .collect();
        let mut keys: Vec<_> = slots.iter().map(|(_, public)| public.key).collect();
        keys.sort();
        let key = AggregateKey::new(keys, &payout::leaf_hash(&held.round.0))?;
        let script = payout::output_script(&key.output_key());
        for out in lane.coinbase.output.iter_mut().take(shards) {
            out.script_pubkey = script.clone();
        }
        let txid = lane.coinbase.compute_txid();
        let mut sessions = Vec::new();
        let mut sighashes = Vec::new();
        for (vout, payout) in (0u32..).zip(&mut lane.payouts) {
            payout.input[0].previous_output = OutPoint { txid, vout };
            payout.input[0].witness.clear();
            let sat = bitcoin::Amount::ONE_SAT;
            if payout.output.len() > 2 {
                payout.output[0].value += sat;
                payout.output[1].value -= sat;
            }
            let sighash = payout::sighash(payout, &lane.coinbase.output[vout as usize]);
            let nonces = slots
                .iter()
                .map(|(_, public)| &public.nonces[vout as usize]);
            sessions.push(Session::new(&key, &AggregateNonce::sum(nonces)?, &sighash));
            sighashes.push(sighash);
        }
        let signed = slots
            .into_iter()
            .map(|(slot, _)| slot.sign(&key, &sessions));
        let partials = signed.collect::<Result<Vec<_>, _>>()?;
        for (place, payout) in lane.payouts.iter_mut().enumerate() {
            let mine = partials.iter().filter_map(|partials| partials.get(place));
            let signature = sessions[place].combine(&key, &sighashes[place], mine)?;
            *payout = payout::signed(payout.clone(), &signature);
        }
    }
    Ok(forged)
}
