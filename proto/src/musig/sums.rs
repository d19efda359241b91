//! Partial signatures, added as they come: whoever answers last leaves one addition per session.

use ethnum::U256;

use super::{MusigError, PartialSignature, Session};

/// The order of secp256k1's group.
const ORDER: U256 = U256::from_words(
    0xffff_ffff_ffff_ffff_ffff_ffff_ffff_fffe,
    0xbaae_dce6_af48_a03b_bfd2_5e8c_d036_4141,
);

/// Sums of the partial signatures of all sessions of an attempt, modulo the group's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialSums(Vec<U256>);

impl PartialSums {
    /// Of the first signer: one partial signature for each session.
    pub fn of(partials: &[PartialSignature]) -> Self {
        Self(partials.iter().map(scalar).collect())
    }

    /// Adds another signer's, of the same sessions.
    pub fn add(&mut self, partials: &[PartialSignature]) {
        for (sum, partial) in self.0.iter_mut().zip(partials) {
            *sum = added(*sum, scalar(partial));
        }
    }

    /// The signature of the session at this place. Whether it is one is for its user to verify.
    pub fn signature(&self, place: usize, session: &Session) -> Result<[u8; 64], MusigError> {
        let sum = self.0.get(place).ok_or(MusigError::NoSigners)?;
        let all = PartialSignature::parse(&sum.to_be_bytes())?;
        session.sum_of(&[&all.0])
    }
}

fn scalar(partial: &PartialSignature) -> U256 {
    U256::from_be_bytes(partial.serialize())
}

/// The sum of two numbers below the order.
fn added(a: U256, b: U256) -> U256 {
    let (sum, carried) = a.overflowing_add(b);
    match carried || sum >= ORDER {
        true => sum.wrapping_sub(ORDER),
        false => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AggregateKey, AggregateNonce, SigningSlot};
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn session() -> Session {
        let mut rng = StdRng::seed_from_u64(5);
        let (_, public) = SigningSlot::generate(&mut rng, 1);
        let key = AggregateKey::new(vec![public.key], &[1; 32]).unwrap();
        let nonce = AggregateNonce::sum(public.nonces.iter()).unwrap();
        Session::new(&key, &nonce, &[2; 32])
    }

    fn partial(number: U256) -> PartialSignature {
        PartialSignature::parse(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn adding_one_by_one_is_adding_at_once() {
        let mut rng = StdRng::seed_from_u64(6);
        let session = session();
        let edges = [U256::ZERO, U256::ONE, ORDER - 1, ORDER - 2, ORDER / 2];
        let mut random = || U256::from_words(rng.random::<u128>() >> 1, rng.random());
        let mut all: Vec<U256> = edges.into_iter().cycle().take(25).collect();
        all.extend((0..1_000).map(|_| random()));
        let all: Vec<PartialSignature> = all.into_iter().map(partial).collect();
        for count in 1..all.len() {
            let (first, others) = (&all[..1], &all[1..count]);
            let mut sums = PartialSums::of(first);
            others.iter().for_each(|other| sums.add(&[*other]));
            let at_once = session.sum(all[..count].iter());
            assert_eq!(sums.signature(0, &session), at_once, "{count} partials");
        }
    }

    #[test]
    fn a_sum_of_zero_is_a_sum() {
        let session = session();
        let pair = [partial(U256::ONE), partial(ORDER - 1)];
        let mut sums = PartialSums::of(&pair[..1]);
        sums.add(&pair[1..]);
        let zero = [partial(U256::ZERO)];
        assert_eq!(sums.signature(0, &session), session.sum(zero.iter()));
        assert_eq!(sums.signature(0, &session), session.sum(pair.iter()));
        assert_eq!(sums.signature(1, &session), Err(MusigError::NoSigners));
    }
}
