//! The published vectors: how each file is made, and how a reader checks it.
//!
//! `generate` and `check` share no path beyond the crate itself: `check` starts from what the file
//! says and computes anew, as a second implementation would.

mod blame;
mod checkpoints;
mod coinbase;
mod credited;
mod equivocation;
mod false_credits;
mod false_rounds;
mod false_segments;
mod false_states;
mod false_terms;
mod judged;
mod key_aggregation;
mod ledger;
mod messages;
mod openings;
mod patch;
mod payee_set;
mod payout;
mod plan;
mod plan_check;
mod records;
mod refused;
mod round;
mod samples;
mod segments;
mod sessions;
mod shares;
mod split;
mod split_direct;
mod transcript;
mod types;
mod undecodable;
mod window_closed;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// One file of `proto/vectors`.
pub struct Vectors {
    pub file: &'static str,
    pub generate: fn() -> String,
    pub check: fn(&str),
}

/// A file of this type.
trait Vector: Serialize + DeserializeOwned {
    fn generate() -> Self;
    fn check(&self);
}

const fn of<V: Vector>(file: &'static str) -> Vectors {
    Vectors {
        file,
        generate: || {
            let mut text = serde_json::to_string_pretty(&V::generate()).unwrap();
            text.push('\n');
            text
        },
        check: |text| serde_json::from_str::<V>(text).unwrap().check(),
    }
}

pub const ALL: &[Vectors] = &[
    of::<split::File>("split.json"),
    of::<split_direct::File>("split_direct.json"),
    of::<coinbase::File>("coinbase.json"),
    of::<key_aggregation::File>("key_aggregation.json"),
    of::<sessions::File>("sessions.json"),
    of::<payout::File>("payout.json"),
    of::<ledger::File>("ledger.json"),
    of::<shares::File>("shares.json"),
    of::<transcript::File>("transcript.json"),
    of::<payee_set::File>("payee_set.json"),
    of::<messages::File>("messages.json"),
    of::<round::File>("round.json"),
    of::<blame::File>("blame.json"),
    of::<plan::File>("plan.json"),
    of::<plan_check::File>("plan_check.json"),
    of::<records::File>("records.json"),
    of::<segments::File>("segments.json"),
    of::<checkpoints::File>("checkpoints.json"),
    of::<judged::File>("judged.json"),
    of::<openings::File>("openings.json"),
    of::<samples::File>("samples.json"),
    of::<equivocation::File>("equivocation.json"),
    of::<window_closed::File>("window_closed.json"),
];
