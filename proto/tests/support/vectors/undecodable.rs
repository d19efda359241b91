//! Segments that do not decode, made of a true one.

use prost::Message;
use tutti_proto::segment::Segment;
use tutti_proto::wire::{ToWire, pb};

/// How a message is spoiled.
type Spoil = fn(&mut pb::Segment);

/// Of the second window.
const SPOILED: &[(&str, Spoil)] = &[
    ("format 1", |s| s.format = 1),
    ("no pool", |s| s.pool = None),
    ("no end", |s| s.end = None),
    ("a network that there is not", |s| {
        s.pool.as_mut().unwrap().network = vec![1, 2, 3, 4].into();
    }),
    ("a coordinator that is no key", |s| {
        s.pool.as_mut().unwrap().coordinator = vec![0xff; 32].into();
    }),
    ("shares of 79 bytes", |s| {
        s.parts[0].shares = s.parts[0].shares[..79].to_vec().into();
    }),
    ("a change of the payee set that is none of the three", |s| {
        s.parts[0].outputs[0].change = None;
    }),
    ("an output added with a script of no standard type", |s| {
        use pb::output_change::Change;
        if let Some(Change::Added(output)) = &mut s.parts[0].outputs[1].change {
            output.script = vec![0x51].into();
        }
    }),
    ("parameters with an operator fee above all", |s| {
        let params = s.parts[0].terms[0].params.as_mut().unwrap();
        params.operator_fee_ppm = 1_000_001;
    }),
    ("parameters with a tag that is empty", |s| {
        params(s).tag.clear();
    }),
    ("parameters with a tag of 33 characters", |s| {
        params(s).tag = "a".repeat(33);
    }),
    ("parameters with a tag that cannot be printed", |s| {
        params(s).tag = "\u{7f}".into();
    }),
    ("parameters with fewer nonces than lanes", |s| {
        params(s).nonces_per_slot = 1;
    }),
    ("parameters with a depth of 0", |s| {
        params(s).pplns_depth = 0
    }),
    ("parameters with 40 direct payees", |s| {
        params(s).direct_payees = 40;
    }),
    ("parameters with a third scoring", |s| params(s).scoring = 2),
    ("parameters with 65 zero bits", |s| {
        params(s).block_zero_bits = Some(65);
    }),
    ("parameters with no zero bits, said", |s| {
        params(s).block_zero_bits = Some(0);
    }),
    ("parameters with zero bits on signet", |s| {
        params(s).network = vec![0x0a, 0x03, 0xcf, 0x40].into();
    }),
    ("parameters with credits at once", |s| {
        params(s).bump_credit_after = 0;
    }),
    ("inputs with a feerate of 999", |s| inputs(s).feerate = 999),
    ("inputs with a feerate of 1,000,001", |s| {
        inputs(s).feerate = 1_000_001;
    }),
    ("inputs with a witness commitment of 31 bytes", |s| {
        inputs(s).witness_commitment = Some(vec![1; 31].into());
    }),
    ("inputs with signers that descend", |s| {
        inputs(s).signers.reverse();
    }),
    ("inputs with a signer twice", |s| {
        let again = inputs(s).signers[2].clone();
        inputs(s).signers.push(again);
    }),
    ("inputs with a signer's key that is no point", |s| {
        inputs(s).signers[2].key = [&[3][..], &[0xff; 32]].concat().into();
    }),
    ("inputs with a signer's key that is not compressed", |s| {
        inputs(s).signers[2].key = [&[4][..], &[1; 64]].concat().into();
    }),
    ("slices that descend", |s| {
        s.parts[0].terms[0].slices.reverse();
    }),
    ("slices of one owner with two z", |s| {
        let slices = &mut s.parts[0].terms[0].slices;
        slices[1].owner = slices[0].owner.clone();
        slices[1].z = slices[0].z + 1;
    }),
    ("slices that overlap", |s| {
        let slices = &mut s.parts[0].terms[0].slices;
        let mut within = slices.last().unwrap().clone();
        within.prefix_len += 1;
        slices.push(within);
    }),
    ("a merkle path of 33 hashes", |s| {
        let header = s.parts[0].terms[0].header.as_mut().unwrap();
        header.merkle_path = vec![vec![1; 32].into(); 33];
    }),
    ("a tally that descends", |s| record(s).tally.reverse()),
    ("a booking of lane 256", |s| {
        record(s).bookings[0].lane = 256
    }),
    ("17 credits", |s| {
        record(s).credits = vec![Default::default(); 17]
    }),
    ("a state of 31 bytes", |s| {
        s.end.as_mut().unwrap().state = vec![1; 31].into();
    }),
];

fn params(segment: &mut pb::Segment) -> &mut pb::PoolParams {
    segment.parts[0].terms[0].params.as_mut().unwrap()
}

fn inputs(segment: &mut pb::Segment) -> &mut pb::RoundInputs {
    segment.parts[0].terms[0].inputs.as_mut().unwrap()
}

fn record(segment: &mut pb::Segment) -> &mut pb::WindowRecord {
    segment.end.as_mut().unwrap().record.as_mut().unwrap()
}

/// The spoiled messages, and one whose bytes are.
pub fn all(segment: &Segment) -> Vec<(&'static str, Vec<u8>)> {
    let mut lies = Vec::new();
    for (what, spoil) in SPOILED {
        let mut message = segment.to_wire();
        spoil(&mut message);
        lies.push((*what, message.encode_to_vec()));
    }
    let file = segment.encode();
    // Ten bytes, of which the last says more than 64 bits.
    let long = [&file[..1], &[0x82], &[0x80; 8], &[0x02], &file[2..]].concat();
    lies.push(("the format in ten bytes and more than 64 bits", long));
    lies
}
