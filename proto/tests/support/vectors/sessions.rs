//! sessions.json: single signing sessions at the edges of BIP327: every parity of the keys that are negated
//! or not, and nonces that cancel out.

use musig2::secp::Point;
use serde::{Deserialize, Serialize};
use tutti_proto::musig::{
    AggregateKey, AggregateNonce, PartialSignature, PublicNonce, Session, SigningSlot,
};
use tutti_proto::payout::leaf_hash;

use super::super::seeded::Seeded;
use super::Vector;
use super::types::{bytes, slot_key};

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    slot_keys: Vec<String>,
    round: String,
    /// The signature hash.
    message: String,
    /// Of each signer, in the order of the keys.
    nonces: Vec<String>,
    partials: Vec<String>,
    #[serde(flatten)]
    follows: Follows,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Follows {
    aggregate_nonce: String,
    /// Whether each signer's partial signature is valid.
    valid: Vec<bool>,
    /// Their sum, and whether it is a signature of the output key.
    signature: String,
    verifies: bool,
}

impl Case {
    fn key(&self) -> AggregateKey {
        let keys = self.slot_keys.iter().map(|key| slot_key(key)).collect();
        AggregateKey::new(keys, &leaf_hash(&bytes(&self.round))).unwrap()
    }

    fn follows(&self) -> Follows {
        let (key, message) = (self.key(), bytes(&self.message));
        let nonce = |hex: &String| PublicNonce::parse(&bytes(hex)).unwrap();
        let nonces: Vec<PublicNonce> = self.nonces.iter().map(nonce).collect();
        let partial = |hex: &String| PartialSignature::parse(&bytes(hex)).unwrap();
        let partials: Vec<PartialSignature> = self.partials.iter().map(partial).collect();
        let aggregate = AggregateNonce::sum(nonces.iter()).unwrap();
        let session = Session::new(&key, &aggregate, &message);
        let signers = key.signers().iter().zip(&nonces).zip(&partials);
        let valid = signers.map(|((signer, nonce), partial)| {
            session.partial_is_valid(&key, partial, nonce, signer)
        });
        let signature = session.sum(partials.iter()).unwrap();
        Follows {
            aggregate_nonce: hex::encode(aggregate.serialize()),
            valid: valid.collect(),
            signature: hex::encode(signature),
            verifies: key.verify(&message, &signature),
        }
    }

    fn with(mut self, what: &str, change: impl FnOnce(&mut Self)) -> Self {
        self.what = what.into();
        change(&mut self);
        self.follows = self.follows();
        self
    }

    fn clone(&self) -> Self {
        Self {
            what: String::new(),
            slot_keys: self.slot_keys.clone(),
            round: self.round.clone(),
            message: self.message.clone(),
            nonces: self.nonces.clone(),
            partials: self.partials.clone(),
            follows: Follows::default(),
        }
    }
}

/// Two signers who sign.
fn honest(rng: &mut Seeded) -> Case {
    let mut slots = [0, 1].map(|_| SigningSlot::generate(rng, 1));
    slots.sort_by_key(|(_, public)| public.key);
    let [round, message] = [rng.bytes32(), rng.bytes32()];
    let keys = slots.iter().map(|(_, public)| public.key).collect();
    let key = AggregateKey::new(keys, &leaf_hash(&round)).unwrap();
    let nonces = [0, 1].map(|n: usize| slots[n].1.nonces[0]);
    let aggregate = AggregateNonce::sum(nonces.iter()).unwrap();
    let session = Session::new(&key, &aggregate, &message);
    let partials = slots.map(|(slot, _)| slot.sign(&key, &[session]).unwrap().remove(0));
    let keys = key.signers().iter();
    Case {
        what: String::new(),
        slot_keys: keys.map(|key| hex::encode(key.serialize())).collect(),
        round: hex::encode(round),
        message: hex::encode(message),
        nonces: nonces.map(|nonce| hex::encode(nonce.serialize())).into(),
        partials: partials
            .map(|partial| hex::encode(partial.serialize()))
            .into(),
        follows: Follows::default(),
    }
}

/// Whether the keys' sum, and then the output key, has an odd y.
fn parities(case: &Case) -> [bool; 2] {
    let points = case
        .slot_keys
        .iter()
        .map(|key| Point::from_hex(key).unwrap());
    let sum = musig2::KeyAggContext::new(points).unwrap();
    let internal: Point = sum.aggregated_pubkey();
    let leaf = leaf_hash(&bytes(&case.round));
    let output: Point = sum.with_taproot_tweak(&leaf).unwrap().aggregated_pubkey();
    [internal, output].map(|point| point.serialize()[0] == 3)
}

/// The second signer's nonce, of which so many of the two points are the negatives of the first's.
fn cancelled(case: &mut Case, points: usize) {
    let mut nonce: [u8; 66] = bytes(&case.nonces[1]);
    let first: [u8; 66] = bytes(&case.nonces[0]);
    nonce[..33 * points].copy_from_slice(&first[..33 * points]);
    for point in 0..points {
        nonce[33 * point] ^= 1;
    }
    case.nonces[1] = hex::encode(nonce);
}

const PARITIES: [(&str, [bool; 2]); 4] = [
    ("sum of the keys even, output key even", [false, false]),
    ("sum of the keys even, output key odd", [false, true]),
    ("sum of the keys odd, output key even", [true, false]),
    ("sum of the keys odd, output key odd", [true, true]),
];

impl Vector for File {
    fn generate() -> Self {
        let mut rng = Seeded::new("tutti vectors: sessions");
        let mut cases = Vec::new();
        for (what, wanted) in PARITIES {
            let found = std::iter::repeat_with(|| honest(&mut rng)).find(|c| parities(c) == wanted);
            cases.push(found.unwrap().with(what, |_| {}));
        }
        let last = cases[3].clone();
        cases.push(
            last.clone()
                .with("each signer's partial signature as the other's", |c| {
                    c.partials.reverse();
                }),
        );
        cases.push(last.clone().with("a partial signature of 0", |c| {
            c.partials[0] = "00".repeat(32);
        }));
        cases.push(
            last.clone()
                .with("nonces of which the first points cancel out", |c| {
                    cancelled(c, 1);
                }),
        );
        cases.push(last.with(
            "nonces that cancel out: the session's is the generator",
            |c| {
                cancelled(c, 2);
            },
        ));
        Self { cases }
    }

    fn check(&self) {
        for (case, (what, wanted)) in self.cases.iter().zip(PARITIES) {
            assert_eq!((case.what.as_str(), parities(case)), (what, wanted));
        }
        for case in &self.cases {
            assert_eq!(case.follows(), case.follows, "{}", case.what);
        }
    }
}
