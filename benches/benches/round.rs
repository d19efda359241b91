//! The arithmetic of a round, each side's, on all cores.
//!
//! - `coordinator: nonces`: everybody's nonces are summed, as none was expected to sign.
//! - `coordinator: nonces, as expected`: they were summed before the round, by those who sign it.
//! - `coordinator: nonces, one left`: all of those sign it but one.
//! - `coordinator: plan`: from a template to a proposal: split, keys, coinbases, sessions.
//! - `coordinator: last partial -> verified`: the last signer's partial signatures are added, and all lanes'
//!   signatures are verified: with them and what is known every payout is complete.
//! - `participant: proposal -> partials`: everything computed, compared and signed.
//! - `participant: bytes -> partials`: the same from the proposal's bytes.
//!
//! Times are of the fastest of many calls, the program's as the limits', in several passes in turn: a machine that is slower
//! for a second is so for both. Limits: libsecp256k1's operations alone, called directly, on as many cores. For a
//! proposal: key aggregation, a session and a partial signature per lane, and for its bytes the
//! decoding of keys and nonces. For the last partial: one addition and one verification per lane;
//! `all added at once` is what the limit would be if no partial were added before the last came.
//!
//! Options: `--json`, `--full` (1,000 signers on 64 and 256 lanes: minutes to prepare), `--signers N`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tutti_benches::attempt::Attempt;
use tutti_benches::primitive::{Primitives, primitives};
use tutti_benches::{Printer, Row, fastest};
use tutti_proto::musig::{NoncesAhead, PartialSums, PublicSlot, nonce_sums};
use tutti_proto::plan::{CheckedPlan, ProposedPlan};
use tutti_proto::wire::{FromWire, ToWire};

const SIGNERS: [usize; 5] = [2, 10, 100, 250, 1_000];
const LANES: [u16; 5] = [1, 4, 16, 64, 256];
/// Signers times lanes that take no minutes to prepare.
const EASY: usize = 64_000;

/// How often a cell's limits and figures are measured, in turn.
const PASSES: usize = 3;

fn main() -> Result<()> {
    let mut printer = Printer::new("round");
    let asked = |option: &str| std::env::args().position(|argument| argument == option);
    let only = asked("--signers").and_then(|at| std::env::args().nth(at + 1));
    let only: Option<usize> = only.map(|number| number.parse()).transpose()?;
    for signers in SIGNERS {
        for lanes in LANES {
            let is_easy = signers * usize::from(lanes) <= EASY;
            let is_asked = only.is_none_or(|only| only == signers);
            if is_asked && (is_easy || asked("--full").is_some()) {
                run(signers, lanes, &mut printer)?;
            }
        }
    }
    Ok(())
}

/// A figure's time, and what of the primitive operations is its limit.
struct Figure {
    name: &'static str,
    value: Duration,
    limit: fn(&Primitives) -> Duration,
}

fn run(signers: usize, lanes: u16, printer: &mut Printer) -> Result<()> {
    let attempt = Attempt::new(signers, lanes)?;
    let plan = attempt.plan()?;
    let sums = all_but_last(&attempt);
    let signatures = last(&attempt, &plan, sums.clone())?;
    plan.complete(&signatures)?;
    let mut limit = primitives(&attempt, &plan, &signatures)?;
    let mut figures = figures(&attempt, &plan, &sums);
    for _ in 1..PASSES {
        limit = limit.least(&primitives(&attempt, &plan, &signatures)?);
        for (figure, again) in figures
            .iter_mut()
            .zip(self::figures(&attempt, &plan, &sums))
        {
            figure.value = figure.value.min(again.value);
        }
    }
    figures.push(Figure {
        name: "  if all were added at once",
        value: limit.adding_all,
        limit: |limit| limit.verifying,
    });
    for Figure {
        name,
        value,
        limit: of,
    } in figures
    {
        printer.row(&Row {
            parameters: vec![
                ("signers", signers as u64),
                ("lanes", u64::from(lanes)),
                ("cores", limit.cores as u64),
            ],
            figure: name,
            value,
            limit: Some(of(&limit)),
        });
    }
    Ok(())
}

fn figures(attempt: &Attempt, plan: &CheckedPlan, sums: &PartialSums) -> Vec<Figure> {
    let sessions = plan.sessions().len();
    let mut figures = Vec::new();
    let mut figure = |name, value, limit| figures.push(Figure { name, value, limit });
    let value = fastest(
        || (),
        |()| {
            black_box(nonce_sums(&attempt.slots, sessions).is_ok());
        },
    );
    figure("coordinator: nonces", value, |limit| limit.nonces);
    let mut ahead = |name, slots: &[Arc<PublicSlot>]| {
        let value = fastest(
            || expected(attempt, sessions),
            |ahead| {
                black_box(ahead.finish(slots, sessions).is_ok());
            },
        );
        figure(name, value, |limit| limit.nonces);
    };
    ahead("coordinator: nonces, as expected", &attempt.slots);
    ahead("coordinator: nonces, one left", &attempt.slots[1..]);
    let value = fastest(|| (), |()| drop(black_box(attempt.plan())));
    figure("coordinator: plan", value, |limit| {
        limit.keys + limit.sessions
    });
    let value = fastest(
        || sums.clone(),
        |sums| {
            let signatures = last(attempt, plan, sums).expect("valid partials");
            black_box(plan.complete(&signatures).expect("valid sums"));
        },
    );
    figure("coordinator: last partial -> verified", value, |limit| {
        limit.verifying
    });

    let signing = |limit: &Primitives| limit.keys + limit.sessions + limit.signing;
    let value = fastest(
        || attempt.own_slot().0,
        |slot| {
            let plan = attempt.check(&attempt.proposal).expect("an honest plan");
            black_box(plan.sign(slot).expect("our slot"));
        },
    );
    figure("participant: proposal -> partials", value, signing);
    let bytes = attempt.proposal.encode();
    let value = fastest(
        || attempt.own_slot().0,
        |slot| {
            let proposal = ProposedPlan::decode(&bytes).expect("an honest proposal");
            let plan = attempt.check(&proposal).expect("an honest plan");
            black_box(plan.sign(slot).expect("our slot"));
        },
    );
    figure("participant: bytes -> partials", value, |limit| {
        limit.keys + limit.sessions + limit.signing + limit.decoding
    });
    figures
}

/// Sums that were made before the round, of all signers' nonces.
fn expected(attempt: &Attempt, sessions: usize) -> NoncesAhead<PublicSlot> {
    let mut ahead = NoncesAhead::start(attempt.slots.clone(), sessions).expect("enough nonces");
    ahead.complete();
    ahead
}

/// What the coordinator has added when the last signer answers.
fn all_but_last(attempt: &Attempt) -> PartialSums {
    let mut partials = attempt.partials.iter();
    let first = partials.next().map_or(&[][..], Vec::as_slice);
    let mut sums = PartialSums::of(first);
    let others = attempt.partials.len().saturating_sub(2);
    partials.take(others).for_each(|others| sums.add(others));
    sums
}

fn last(attempt: &Attempt, plan: &CheckedPlan, mut sums: PartialSums) -> Result<Vec<[u8; 64]>> {
    sums.add(attempt.partials.last().context("nobody signed")?);
    let sessions = plan.sessions().iter().enumerate();
    let signatures = sessions.map(|(place, session)| sums.signature(place, session));
    Ok(signatures.collect::<Result<_, _>>()?)
}
