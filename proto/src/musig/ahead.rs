//! Nonces summed before the round, of the slots that are expected to sign it.
//!
//! Who signs is known when a round is proposed, and who most likely will long before. What has changed
//! by then is added and subtracted; if much has, or a sum is the point at infinity, the nonces are
//! summed afresh. The result is BIP327's NonceAgg in any case.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AggregateNonce, MusigError, NONCE_SIZE, PublicNonce, PublicSlot, SlotKey};
use crate::cores::{self, Ahead};

/// Additions for which another thread is worth starting: 0.4 us each.
const ADDITIONS_OF_THREAD: usize = 1_000;
/// What it takes to go on from a sum: its points are decoded, and the new sum's made affine.
const RESUMING: usize = 40;
/// What it takes to subtract a nonce: its negation is decoded. In additions, as above.
const SUBTRACTING: usize = 30;

/// Sums of some slots' nonces, finished or under way.
pub struct NoncesAhead<S> {
    slots: BTreeMap<SlotKey, Arc<S>>,
    sessions: usize,
    sums: Ahead<usize, Result<AggregateNonce, MusigError>>,
}

impl AsRef<PublicSlot> for PublicSlot {
    fn as_ref(&self) -> &PublicSlot {
        self
    }
}

impl<S: AsRef<PublicSlot> + Send + Sync + 'static> NoncesAhead<S> {
    /// Begins to sum the nonces of these slots for so many sessions: at once, or, if it is much, on
    /// another core.
    pub fn start(slots: Vec<Arc<S>>, sessions: usize) -> Result<Self, MusigError> {
        check_count(&slots, sessions)?;
        let least = sessions_of_thread(slots.len());
        let expected = slots.iter().map(|slot| (key(slot), slot.clone()));
        Ok(Self {
            slots: expected.collect(),
            sessions,
            sums: Ahead::start((0..sessions).collect(), least, move |place| {
                sum(&slots, place)
            }),
        })
    }

    /// Goes on until all is summed: not on the path of any round.
    pub fn complete(&mut self) {
        self.sums.complete();
    }

    /// The sums of the nonces of the slots that do sign: what [`nonce_sums`] gives.
    pub fn finish(
        self,
        slots: &[Arc<S>],
        sessions: usize,
    ) -> Result<Vec<AggregateNonce>, MusigError> {
        check_count(slots, sessions)?;
        let mut gone = self.slots;
        // One that was announced anew under the same key has other nonces: it is another slot.
        let mut new: Vec<&Arc<S>> = Vec::new();
        for slot in slots {
            let key = key(slot);
            match gone.get(&key).is_some_and(|known| Arc::ptr_eq(known, slot)) {
                true => drop(gone.remove(&key)),
                false => new.push(slot),
            }
        }
        let gone: Vec<&Arc<S>> = gone.values().collect();
        let is_same = new.is_empty() && gone.is_empty();
        let cost = RESUMING + new.len() + gone.len().saturating_mul(SUBTRACTING);
        if self.sessions < sessions || (!is_same && cost >= slots.len()) {
            return nonce_sums(slots, sessions);
        }
        let sums = self.sums.finish().into_iter().take(sessions);
        let sums = sums.enumerate().map(|(place, ahead)| {
            if is_same {
                return ahead;
            }
            let resumed = resume(&ahead?, &new, &gone, place);
            resumed.map_or_else(|| sum(slots, place), Ok)
        });
        sums.collect()
    }
}

/// Sums the nonces of these slots for each of so many sessions; many of them on all cores.
pub fn nonce_sums<S: AsRef<PublicSlot> + Send + Sync + 'static>(
    slots: &[Arc<S>],
    sessions: usize,
) -> Result<Vec<AggregateNonce>, MusigError> {
    check_count(slots, sessions)?;
    let (least, slots) = (sessions_of_thread(slots.len()), slots.to_vec());
    let sum = move |place| sum(&slots, place);
    let sums = cores::each((0..sessions).collect(), least, sum);
    sums.into_iter().collect()
}

fn check_count<S: AsRef<PublicSlot>>(slots: &[Arc<S>], need: usize) -> Result<(), MusigError> {
    let counts = slots.iter().map(|slot| public(slot).nonces.len());
    let have = counts.min().ok_or(MusigError::NoSigners)?;
    match have < need {
        true => Err(MusigError::TooFewNonces { have, need }),
        false => Ok(()),
    }
}

fn sessions_of_thread(slots: usize) -> usize {
    ADDITIONS_OF_THREAD.div_ceil(slots.max(1))
}

fn public<S: AsRef<PublicSlot>>(slot: &Arc<S>) -> &PublicSlot {
    (**slot).as_ref()
}

fn key<S: AsRef<PublicSlot>>(slot: &Arc<S>) -> SlotKey {
    public(slot).key
}

fn nonces<'a, S: AsRef<PublicSlot> + 'a>(
    slots: impl IntoIterator<Item = &'a Arc<S>>,
    place: usize,
) -> impl Iterator<Item = &'a PublicNonce> {
    let slots = slots.into_iter();
    slots.filter_map(move |slot| public(slot).nonces.get(place))
}

fn sum<S: AsRef<PublicSlot>>(slots: &[Arc<S>], place: usize) -> Result<AggregateNonce, MusigError> {
    AggregateNonce::sum(nonces(slots, place))
}

/// A session's sum with some nonces more and others less; none if it cannot be gone on from.
fn resume<S: AsRef<PublicSlot>>(
    sum: &AggregateNonce,
    new: &[&Arc<S>],
    gone: &[&Arc<S>],
    place: usize,
) -> Option<AggregateNonce> {
    // A sum is encoded as a nonce is, unless one of its points is at infinity: no nonce's is.
    let sum = PublicNonce::parse(&sum.serialize()).ok()?;
    let gone = nonces(gone.iter().copied(), place).map(negated);
    let gone: Vec<PublicNonce> = gone.collect::<Option<_>>()?;
    let new = nonces(new.iter().copied(), place);
    AggregateNonce::sum([&sum].into_iter().chain(new).chain(&gone)).ok()
}

/// Both points with the other of their two y coordinates, of which a compressed point's first byte
/// tells the parity.
fn negated(nonce: &PublicNonce) -> Option<PublicNonce> {
    let mut bytes = nonce.serialize();
    for point in bytes.chunks_mut(NONCE_SIZE / 2) {
        *point.first_mut()? ^= 1;
    }
    PublicNonce::parse(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::SigningSlot;
    use super::*;
    use musig2::BinaryEncoding;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const SESSIONS: usize = 3;

    fn slots(count: usize) -> Vec<Arc<PublicSlot>> {
        let mut rng = StdRng::seed_from_u64(7);
        let slot = |_| Arc::new(SigningSlot::generate(&mut rng, SESSIONS).1);
        (0..count).map(slot).collect()
    }

    /// BIP327's NonceAgg of another library.
    fn theirs(slots: &[Arc<PublicSlot>], place: usize) -> [u8; NONCE_SIZE] {
        let nonce = |nonce: &PublicNonce| {
            let nonce = musig2::PubNonce::from_bytes(&nonce.serialize());
            nonce.expect("a valid nonce")
        };
        musig2::AggNonce::sum(nonces(slots, place).map(nonce)).to_bytes()
    }

    fn assert_sums(expected: &[Arc<PublicSlot>], actual: &[Arc<PublicSlot>]) {
        let ahead = NoncesAhead::start(expected.to_vec(), SESSIONS).unwrap();
        let sums = ahead.finish(actual, SESSIONS).unwrap();
        assert_eq!(sums.len(), SESSIONS);
        let afresh = nonce_sums(actual, SESSIONS).unwrap();
        for (place, (sum, afresh)) in sums.iter().zip(afresh).enumerate() {
            assert_eq!(sum.serialize(), afresh.serialize());
            assert_eq!(sum.serialize(), theirs(actual, place));
        }
    }

    #[test]
    fn whoever_is_missing_or_new_is_corrected() {
        let all = slots(300);
        assert_sums(&all, &all);
        assert_sums(&all[..299], &all);
        assert_sums(&all, &all[1..]);
        assert_sums(&all[..290], &all[5..]);
        assert_sums(&all[..100], &all[100..]);
        assert_sums(&all[..1], &all[..2]);
        let mut rng = StdRng::seed_from_u64(8);
        for _ in 0..20 {
            let mut some = || -> Vec<_> {
                let kept = all.iter().filter(|_| rng.random_bool(0.98));
                kept.cloned().collect()
            };
            assert_sums(&some(), &some());
        }
    }

    #[test]
    fn a_key_that_was_announced_anew_has_its_new_nonces() {
        let all = slots(300);
        let mut rng = StdRng::seed_from_u64(9);
        for again in [0..1, 100..103, 0..300] {
            let mut actual = all.clone();
            for slot in &mut actual[again] {
                let mut other = SigningSlot::generate(&mut rng, SESSIONS).1;
                other.key = slot.key;
                *slot = Arc::new(other);
            }
            assert_sums(&all, &actual);
        }
    }

    /// A slot whose nonces are the negations of this one's: the first point, the second, or both.
    fn opposite(slot: &PublicSlot, key: SlotKey, points: [bool; 2]) -> Arc<PublicSlot> {
        let nonce = |nonce: &PublicNonce| {
            let (same, other) = (nonce.serialize(), negated(nonce).unwrap().serialize());
            let mut bytes = same;
            for (half, negate) in points.into_iter().enumerate() {
                let range = 33 * half..33 * (half + 1);
                if negate {
                    bytes[range.clone()].copy_from_slice(&other[range]);
                }
            }
            PublicNonce::parse(&bytes).unwrap()
        };
        let nonces = slot.nonces.iter().map(nonce).collect();
        Arc::new(PublicSlot { key, nonces })
    }

    #[test]
    fn sums_to_and_from_infinity_are_right() {
        let all = slots(200);
        for points in [[true, false], [false, true], [true, true]] {
            // So many that going on from a sum is chosen, which is their opposite's or nothing.
            let half = &all[..100];
            let pairs = half.iter().zip(&all[100..]);
            let opposites = pairs.map(|(slot, other)| opposite(slot, other.key, points));
            let mut both: Vec<_> = half.iter().cloned().chain(opposites).collect();
            let infinite = theirs(&both, 0)
                .chunks(33)
                .filter(|p| *p == [0; 33])
                .count();
            assert_eq!(infinite, points.iter().filter(|negate| **negate).count());
            let last = both.pop().unwrap();
            let without = both.clone();
            both.push(last);
            assert_sums(&both, &both);
            assert_sums(&without, &both);
            assert_sums(&both, &without);
        }
    }

    #[test]
    fn more_sessions_than_were_expected_are_summed() {
        let all = slots(60);
        let ahead = NoncesAhead::start(all.clone(), 1).unwrap();
        let sums = ahead.finish(&all, SESSIONS).unwrap();
        assert_eq!(sums, nonce_sums(&all, SESSIONS).unwrap());
        let ahead = NoncesAhead::start(all.clone(), SESSIONS).unwrap();
        let sums = ahead.finish(&all[..59], 1).unwrap();
        assert_eq!(sums, nonce_sums(&all[..59], 1).unwrap());
    }

    #[test]
    fn nobody_and_too_few_nonces_are_refused() {
        let all = slots(2);
        let nobody = NoncesAhead::<PublicSlot>::start(Vec::new(), 1).err();
        assert_eq!(nobody, Some(MusigError::NoSigners));
        let ahead = NoncesAhead::start(all.clone(), 1).unwrap();
        let (have, need) = (SESSIONS, SESSIONS + 1);
        let refused = Err(MusigError::TooFewNonces { have, need });
        assert_eq!(ahead.finish(&all, need), refused);
        let ahead = NoncesAhead::start(all, 1).unwrap();
        assert_eq!(ahead.finish(&[], 1), Err(MusigError::NoSigners));
    }
}
