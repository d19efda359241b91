//! The arithmetic that no round can do without: the primitive operations alone, on one core.

use std::hint::black_box;
use std::time::Duration;

use tutti_proto::musig::{
    AggregateKey, AggregateNonce, MusigError, PartialSignature, PublicSlot, Session, SigningSlot,
    SlotKey,
};

use crate::median;

/// Time of each step.
#[derive(Clone, Copy, Debug)]
pub struct Arithmetic {
    /// Key aggregation, and a session for each payout: the coordinator's, then every participant's.
    pub planning: Duration,
    /// A participant's partial signatures; the coordinator can make its own meanwhile.
    pub signing: Duration,
    /// For each payout the last partial signature's addition and one verification.
    pub combining: Duration,
}

/// With so many keys, the coordinator's included. Summing nonces can be done before the round, and
/// checking who sent a partial signature can wait until one is wrong: neither is counted.
pub fn arithmetic(signers: usize, payouts: usize) -> Result<Arithmetic, MusigError> {
    let mut rng = rand::rng();
    let mut slots: Vec<(SigningSlot, PublicSlot)> = (0..signers)
        .map(|_| SigningSlot::generate(&mut rng, payouts))
        .collect();
    slots.sort_by_key(|(_, public)| public.key);
    let (secret, public): (Vec<SigningSlot>, Vec<PublicSlot>) = slots.into_iter().unzip();
    let keys: Vec<SlotKey> = public.iter().map(|slot| slot.key).collect();
    let key = AggregateKey::new(keys.clone(), &ROOT)?;
    let nonces: Vec<AggregateNonce> = (0..payouts)
        .map(|place| AggregateNonce::sum(public.iter().map(|slot| &slot.nonces[place])))
        .collect::<Result<_, _>>()?;
    let sessions: Vec<Session> = nonces
        .iter()
        .map(|nonce| Session::new(&key, nonce, &SIGHASH))
        .collect();
    let partials: Vec<Vec<PartialSignature>> = secret
        .into_iter()
        .map(|slot| slot.sign(&key, &sessions))
        .collect::<Result<_, _>>()?;

    let aggregating = median(
        || keys.clone(),
        |keys| {
            black_box(AggregateKey::new(keys, &ROOT).is_ok());
        },
    );
    let opening = median(
        || (),
        |()| {
            for nonce in &nonces {
                black_box(Session::new(&key, nonce, &SIGHASH));
            }
        },
    );
    let own = || {
        let (slot, public) = SigningSlot::generate(&mut rand::rng(), payouts);
        // Its signature is of no use; it takes as long to make as one of a signer.
        (slot, AggregateKey::new(vec![public.key], &ROOT))
    };
    let signing = median(own, |(slot, key)| {
        if let Ok(key) = key {
            black_box(slot.sign(&key, &sessions).is_ok());
        }
    });
    let combining = median(
        || (),
        |()| {
            for (place, session) in sessions.iter().enumerate() {
                // All others were added as they came.
                let last = partials.iter().take(1).map(|partials| &partials[place]);
                black_box(session.combine(&key, &SIGHASH, last).is_ok());
            }
        },
    );
    Ok(Arithmetic {
        planning: aggregating + opening,
        signing,
        combining,
    })
}

const ROOT: [u8; 32] = [3; 32];
const SIGHASH: [u8; 32] = [7; 32];
