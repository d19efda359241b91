//! The hot paths: what is done for each payee, signature, share and hash.

use std::hint::black_box;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tutti_participant::miner::kernel::{Kernel, Nonces, Work};
use tutti_proto::coordinator::{Input, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::message::ToCoordinator;
use tutti_proto::musig::{
    AggregateKey, AggregateNonce, NoncesAhead, PublicSlot, Session, SigningSlot,
};
use tutti_proto::participant;
use tutti_proto::plan::ProposedPlan;
use tutti_proto::split::{Account, SplitInput, split};
use tutti_proto::wire::{FromWire, ToWire};
use tutti_tests::sim::{Delivery, Miner, World, WorldOptions};

use crate::attempt::Attempt;
use crate::past::{PastOptions, archive, past};
use crate::shares::follow::Stream;
use crate::start::{fill, start};

/// Hashes of the kernel's path: a few tenths of a millisecond of one core.
const HASHES: u32 = 1_000;
const PAYEES: u64 = 1_000;
const SIGNERS: usize = 20;
const LANES: u16 = 4;
const SHARES: usize = 200;

/// Calls what it is given, and counts.
type Counted = fn(&mut dyn FnMut());

/// A path that must not grow.
#[derive(Clone, Copy, Debug)]
pub struct HotPath {
    pub name: &'static str,
    run: fn(Counted) -> Result<()>,
}

/// All of them.
pub const PATHS: [HotPath; 9] = [
    HotPath {
        name: "split, 1000 payees",
        run: split_reward,
    },
    HotPath {
        name: "share check, 200 shares",
        run: check_shares,
    },
    HotPath {
        name: "partial signature, 20 signers",
        run: sign,
    },
    HotPath {
        name: "last answer, 20 signers, 4 lanes",
        run: last_answer,
    },
    HotPath {
        name: "proposal check, 20 signers, 4 lanes",
        run: check_proposal,
    },
    HotPath {
        name: "nonces ahead, 20 signers, 4 lanes",
        run: sum_nonces,
    },
    HotPath {
        name: "follower's check, 200 shares",
        run: follow,
    },
    HotPath {
        name: "start, 400 shares of 4",
        run: start_again,
    },
    HotPath {
        name: "portable kernel, 1000 hashes",
        run: hash,
    },
];

impl HotPath {
    /// Prepares the path, and takes it once while counting.
    pub fn run(&self, counted: Counted) -> Result<()> {
        (self.run)(counted)
    }
}

fn split_reward(counted: Counted) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(1);
    let account = |place: u64| Account {
        serial_id: SerialId(2 * place + 1),
        dust_limit: 330,
        output_size: 43,
        weight: rng.random_range(1..1u128 << 70),
        carry: 0,
    };
    let accounts: Vec<Account> = (0..PAYEES).map(account).collect();
    let input = SplitInput {
        reward: 5_000_000_000_000,
        feerate: FeeRate::FLOOR,
        operator_fee_ppm: 10_000,
        shards_max: usize::MAX,
        accounts: &accounts,
    };
    let mut done = None;
    counted(&mut || done = split(black_box(&input)).ok());
    done.context("nothing was split").map(drop)
}

/// A pool of one miner, whose shares reach the coordinator's core one after the other.
fn check_shares(counted: Counted) -> Result<()> {
    let mut world = World::new(WorldOptions {
        miners: 1,
        lanes: 1,
        ..WorldOptions::default()
    });
    world.connect(0);
    world.template();
    world.run_until(
        Millis(60_000),
        "the first round",
        World::all_hash_last_round,
    );
    let peer = world.miners[0].peer.context("the miner is connected")?;
    let mut rng = StdRng::seed_from_u64(2);
    let mut said = Vec::new();
    for _ in 0..SHARES {
        let found = world.miners[0].find_share().context("there is a job")?;
        let input = participant::Input::ShareFound(found);
        said.extend(world.miners[0].handle(&mut rng, input, false).sent);
    }
    let mut effects = Vec::new();
    let (coordinator, now) = (&mut world.coordinator, world.now);
    counted(&mut || {
        for message in said.drain(..) {
            effects.push(coordinator.handle(now, &mut rng, Input::Received { peer, message }));
        }
    });
    // Each must have been taken: a refusal is shorter.
    let mut stored = 0;
    for effects in effects {
        let saved = effects.save(|records| {
            stored += records.len();
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(_) = saved;
    }
    ensure!(stored == SHARES, "{stored} shares were taken");
    Ok(())
}

/// What a signature takes from everyone.
struct Round {
    key: AggregateKey,
    session: Session,
    slots: Vec<SigningSlot>,
}

const SIGHASH: [u8; 32] = [3; 32];

fn round() -> Result<Round> {
    let mut rng = StdRng::seed_from_u64(3);
    let mut both: Vec<(SigningSlot, PublicSlot)> = (0..SIGNERS)
        .map(|_| SigningSlot::generate(&mut rng, 1))
        .collect();
    both.sort_by_key(|(_, public)| public.key);
    let (slots, public): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    let keys = public.iter().map(|slot| slot.key).collect();
    let key = AggregateKey::new(keys, &[3; 32])?;
    let nonce = AggregateNonce::sum(public.iter().map(|slot| &slot.nonces[0]));
    let session = Session::new(&key, &nonce.context("there are signers")?, &SIGHASH);
    Ok(Round {
        key,
        session,
        slots,
    })
}

fn sign(counted: Counted) -> Result<()> {
    let mut round = round()?;
    let mut slot = round.slots.pop();
    let sessions = [round.session];
    let mut done = None;
    counted(&mut || {
        done = slot
            .take()
            .and_then(|slot| slot.sign(&round.key, &sessions).ok())
    });
    done.context("nothing was signed").map(drop)
}

/// The last signer's answer, as the coordinator's core takes it: the round is committed, and all have jobs.
fn last_answer(counted: Counted) -> Result<()> {
    let mut options = WorldOptions {
        miners: u16::try_from(SIGNERS)?,
        lanes: LANES,
        ..WorldOptions::default()
    };
    // Nobody has work yet.
    options.settings.free_signers = SIGNERS;
    let mut world = World::new(options);
    (0..SIGNERS).for_each(|miner| world.connect(miner));
    world.template();
    let first = "the first round";
    world.run_until(Millis(60_000), first, World::all_hash_last_round);
    world.settle();
    world.new_tip();
    let mut answers = Vec::new();
    while let Some((_, delivery)) = next(&mut world, !answers.is_empty()) {
        match delivery {
            Delivery::Up(peer, message @ ToCoordinator::TxSignatures(_)) => {
                answers.push(Input::Received { peer, message });
            }
            Delivery::Up(peer, message) => {
                world.tell_coordinator(Input::Received { peer, message });
            }
            Delivery::Down(peer, message) => {
                let at_peer = |miner: &Miner| miner.peer == Some(peer);
                let miner = world.miners.iter().position(at_peer);
                let miner = miner.context("a message to nobody")?;
                world.tell_miner(miner, participant::Input::Received(message));
            }
            other => bail!("{other:?} is no message"),
        }
    }
    let last = answers.pop().context("nobody has signed")?;
    ensure!(answers.len() + 1 == SIGNERS, "{} signed", answers.len() + 1);
    for answer in answers {
        world.tell_coordinator(answer);
    }
    let mut rng = StdRng::seed_from_u64(4);
    let (coordinator, now) = (&mut world.coordinator, world.now);
    let (mut last, mut done) = (Some(last), None);
    counted(&mut || {
        let last = last.take();
        done = last.map(|last| coordinator.handle(now, &mut rng, last));
    });
    let effects = done.context("it was not handled")?;
    let is_committed = |record: &Record| matches!(record, Record::Committed(_));
    ensure!(effects.records().iter().any(is_committed), "no round");
    Ok(())
}

/// What comes next in a world; once `some` answers are here, only what is on its way.
fn next(world: &mut World, some: bool) -> Option<(Millis, Delivery)> {
    while !some && world.network.next_at().is_none() {
        // A deadline of the coordinator's.
        if !world.step() {
            break;
        }
    }
    let (at, delivery) = world.network.pop()?;
    world.now = world.now.max(at);
    Some((at, delivery))
}

/// A proposal's bytes at a participant, until it may be signed.
fn check_proposal(counted: Counted) -> Result<()> {
    let attempt = Attempt::new(SIGNERS, LANES)?;
    let bytes = attempt.proposal.encode();
    let mut checked = None;
    counted(&mut || {
        let proposal = ProposedPlan::decode(black_box(&bytes)).ok();
        checked = proposal.and_then(|proposal| attempt.check(&proposal).ok());
    });
    checked.context("it was not accepted").map(drop)
}

/// All signers' nonces before the round, and the round's when one of them has left.
fn sum_nonces(counted: Counted) -> Result<()> {
    let attempt = Attempt::new(SIGNERS, LANES)?;
    let mut sums = None;
    counted(&mut || {
        let ahead = NoncesAhead::start(attempt.slots.clone(), usize::from(LANES));
        sums = ahead.ok().and_then(|mut ahead| {
            ahead.complete();
            ahead.finish(&attempt.slots[1..], usize::from(LANES)).ok()
        });
    });
    let sums = sums.context("nothing was summed")?;
    ensure!(sums.len() == usize::from(LANES), "{} sums", sums.len());
    Ok(())
}

/// A window's shares at a participant that follows them.
fn follow(counted: Counted) -> Result<()> {
    let archive = archive(&past(PastOptions {
        miners: 4,
        lanes: LANES,
        closed: 1,
        shares: SHARES,
    })?)?;
    let mut stream = Stream::of(&archive, SHARES)?;
    let mut checked = Ok(());
    counted(&mut || checked = stream.check());
    Ok(checked?)
}

/// A coordinator's start, on an open window and the one before.
fn start_again(counted: Counted) -> Result<()> {
    let world = past(PastOptions {
        miners: 4,
        lanes: 1,
        closed: 1,
        shares: SHARES,
    })?;
    let directory = tempfile::tempdir()?;
    fill(directory.path(), &world.records)?;
    let params = world.coordinator.params();
    let mut started = Ok(());
    counted(&mut || started = start(directory.path(), params, SHARES));
    started
}

fn hash(counted: Counted) -> Result<()> {
    let work = Work::new([7; 8], [1, 2, 3]);
    let nonces = Nonces {
        first: 0,
        count: HASHES,
    };
    let mut found = 0;
    counted(&mut || {
        Kernel::PORTABLE.search(black_box(&work), nonces, 1, &mut |_| found += 1);
    });
    ensure!(found > 0, "half of the hashes were to be found");
    Ok(())
}
