//! The primitive operations of libsecp256k1 that no round can do without, called directly on inputs
//! that lie ready: the limits of the bench `round`.

use std::hint::black_box;
use std::num::NonZero;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use secp256k1_musig::musig::{
    AggregatedNonce, KeyAggCache, PartialSignature, PublicNonce, Session, SessionSecretRand,
    new_nonce_pair,
};
use secp256k1_musig::{Keypair, PublicKey, Scalar, SecretKey, schnorr};
use tutti_proto::plan::CheckedPlan;

use crate::attempt::Attempt;
use crate::fastest;

/// Lanes for which the program starts another thread.
const LANES_OF_THREAD: usize = 16;
const TIMES: usize = 25;

/// Times of the operations of one attempt, each for all its lanes.
#[derive(Clone, Copy, Debug)]
pub struct Primitives {
    /// Cores that the program uses for these lanes, and the limit too.
    pub cores: usize,
    /// Decoding all signers' keys and all lanes' aggregate nonces.
    pub decoding: Duration,
    /// Adding all signers' nonces; on one core.
    pub nonces: Duration,
    /// Aggregating the keys, and the tweak; on one core, since libsecp256k1 does it in one call.
    pub keys: Duration,
    /// The sessions.
    pub sessions: Duration,
    /// One signer's partial signatures; on one core, where its secrets stay.
    pub signing: Duration,
    /// Adding the last partial signatures, and verifying the sums.
    pub verifying: Duration,
    /// Adding all partial signatures at once, and verifying the sums.
    pub adding_all: Duration,
}

impl Primitives {
    /// The shorter time of each, of two measurements of one attempt.
    pub fn least(&self, other: &Self) -> Self {
        Self {
            cores: self.cores,
            decoding: self.decoding.min(other.decoding),
            nonces: self.nonces.min(other.nonces),
            keys: self.keys.min(other.keys),
            sessions: self.sessions.min(other.sessions),
            signing: self.signing.min(other.signing),
            verifying: self.verifying.min(other.verifying),
            adding_all: self.adding_all.min(other.adding_all),
        }
    }
}

/// Measures them on the attempt's own numbers.
pub fn primitives(
    attempt: &Attempt,
    plan: &CheckedPlan,
    signatures: &[[u8; 64]],
) -> Result<Primitives> {
    let lanes = signatures.len();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let cores = cores.min(lanes / LANES_OF_THREAD).max(1);
    let spread = |of: &(dyn Fn(usize) + Sync)| spread_over(lanes, cores, of);

    let key_bytes: Vec<[u8; 33]> = attempt.slots.iter().map(|s| s.key.serialize()).collect();
    let nonce_bytes: Vec<[u8; 66]> = attempt
        .proposal
        .nonces
        .iter()
        .map(|nonce| nonce.serialize())
        .collect();
    let keys: Vec<PublicKey> = key_bytes
        .iter()
        .map(|bytes| PublicKey::from_byte_array_compressed(*bytes))
        .collect::<Result<_, _>>()?;
    let nonces: Vec<AggregatedNonce> = nonce_bytes
        .iter()
        .map(AggregatedNonce::from_byte_array)
        .collect::<Result<_, _>>()?;
    let decoding = fastest(
        || (),
        |()| {
            for bytes in &key_bytes {
                black_box(PublicKey::from_byte_array_compressed(*bytes).is_ok());
            }
            for bytes in &nonce_bytes {
                black_box(AggregatedNonce::from_byte_array(bytes).is_ok());
            }
        },
    );
    let refs: Vec<&PublicKey> = keys.iter().collect();
    let tweak = Scalar::from_be_bytes([7; 32])?;
    let aggregate = || {
        let mut cache = KeyAggCache::new(&refs);
        black_box(cache.pubkey_xonly_tweak_add(&tweak).is_ok());
        cache
    };
    let aggregating = fastest(
        || (),
        |()| {
            black_box(aggregate());
        },
    );
    let cache = aggregate();
    let sighashes: Vec<&[u8; 32]> = plan.sighashes().collect();
    let session = |lane: usize| Session::new(&cache, nonces[lane], sighashes[lane]);
    let opening = spread(&|lane| {
        black_box(session(lane));
    });
    let sessions: Vec<Session> = (0..lanes).map(session).collect();

    let public = public_nonces(attempt)?;
    let adding = spread_over(lanes, 1, &|lane| {
        let of_lane: &[&PublicNonce] = &public[lane];
        black_box(AggregatedNonce::new(of_lane));
    });
    let partials = partials(attempt)?;
    let output_key = secp256k1_musig::XOnlyPublicKey::from_byte_array(plan.key().output_key())?;
    let verify = |lane: usize, partials: &[&PartialSignature]| {
        black_box(sessions[lane].partial_sig_agg(partials));
        let signature = schnorr::Signature::from_byte_array(signatures[lane]);
        black_box(schnorr::verify(&signature, sighashes[lane], &output_key).is_ok())
    };
    ensure!(
        verify(0, &partials[0].iter().collect::<Vec<_>>()),
        "an invalid signature"
    );
    let verifying = spread(&|lane| {
        verify(lane, &[&partials[lane][0]]);
    });
    let refs: Vec<Vec<&PartialSignature>> = partials.iter().map(|of| of.iter().collect()).collect();
    let adding_all = spread(&|lane| {
        verify(lane, &refs[lane]);
    });
    Ok(Primitives {
        cores,
        decoding,
        nonces: adding,
        keys: aggregating,
        sessions: opening,
        signing: signing(&sessions)?,
        verifying,
        adding_all,
    })
}

/// Everybody's nonces, lane by lane, in memory for as long as this program runs.
fn public_nonces(attempt: &Attempt) -> Result<Vec<Vec<&'static PublicNonce>>> {
    let lanes = attempt.proposal.nonces.len();
    let mut all = vec![Vec::with_capacity(attempt.slots.len()); lanes];
    for slot in &attempt.slots {
        let of_slot = slot.nonces.iter().map(|nonce| {
            let parsed = PublicNonce::from_byte_array(&nonce.serialize());
            parsed.map(|nonce| &*Box::leak(Box::new(nonce)))
        });
        for (lane, nonce) in of_slot.enumerate() {
            all[lane].push(nonce?);
        }
    }
    Ok(all)
}

fn partials(attempt: &Attempt) -> Result<Vec<Vec<PartialSignature>>> {
    let lanes = attempt.proposal.nonces.len();
    let mut all = vec![Vec::with_capacity(attempt.slots.len()); lanes];
    for of_signer in &attempt.partials {
        for (lane, partial) in of_signer.iter().enumerate() {
            let partial = PartialSignature::from_byte_array(&partial.serialize());
            all[lane].push(partial?);
        }
    }
    Ok(all)
}

/// One signer's partial signatures, under its key alone: of no use, but made as any other.
fn signing(sessions: &[Session]) -> Result<Duration> {
    let secret = SecretKey::from_secret_bytes([9; 32])?;
    let (pair, key) = (
        Keypair::from_secret_key(&secret),
        PublicKey::from_secret_key(&secret),
    );
    let cache = KeyAggCache::new(&[&key]);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let nonce = |_| {
            let random = SessionSecretRand::assume_unique_per_nonce_gen(rand::random(), &secret);
            let (nonce, _) = new_nonce_pair(random, None, Some(secret), key, None, None);
            std::sync::Mutex::new(Some(nonce))
        };
        let nonces: Vec<_> = (0..sessions.len()).map(nonce).collect();
        times.push(once(sessions.len(), 1, &|lane| {
            let nonce = nonces[lane].lock().ok().and_then(|mut nonce| nonce.take());
            let signed = nonce.map(|nonce| sessions[lane].partial_sign(nonce, &pair, &cache));
            black_box(signed);
        }));
    }
    Ok(times.into_iter().min().unwrap_or_default())
}

/// Least time until all lanes are done that are spread over so many cores.
fn spread_over(lanes: usize, cores: usize, of: &(dyn Fn(usize) + Sync)) -> Duration {
    let runs = (0..).map(|_| once(lanes, cores, of));
    let mut times: Vec<Duration> = Vec::new();
    let began = Instant::now();
    for time in runs {
        times.push(time);
        let long = began.elapsed() > Duration::from_millis(250);
        if times.len() >= TIMES && (long || times.len() >= 1_000) {
            break;
        }
    }
    times.into_iter().min().unwrap_or_default()
}

/// Starting the threads is not counted.
fn once(lanes: usize, cores: usize, of: &(dyn Fn(usize) + Sync)) -> Duration {
    let barrier = Barrier::new(cores);
    let part = lanes.div_ceil(cores);
    let run = |core: usize| {
        // libsecp256k1 sets up a thread at its first call.
        black_box(KeyAggCache::new(&[&some_key()]));
        barrier.wait();
        let began = Instant::now();
        ((core * part)..((core + 1) * part).min(lanes)).for_each(of);
        began.elapsed()
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores)
            .map(|core| scope.spawn(move || run(core)))
            .collect();
        let own = run(0);
        let others = others.into_iter().filter_map(|other| other.join().ok());
        others.fold(own, Duration::max)
    })
}

fn some_key() -> PublicKey {
    let secret = SecretKey::from_secret_bytes([1; 32]);
    secret.map_or_else(
        |_| unreachable!("one is a key"),
        |secret| PublicKey::from_secret_key(&secret),
    )
}
