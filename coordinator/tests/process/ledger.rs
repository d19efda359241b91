//! The ledger's public side on a real coordinator: followers, files, samples, retention.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tutti_proto::follower::Follower;
use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolName;
use tutti_proto::participant::Input;
use tutti_proto::reject::RejectCode;
use tutti_proto::segment::{Checkpoint, WindowEnd, WindowPart};
use tutti_proto::terms::Rolled;
use tutti_proto::window::Ledger;
use tutti_proto::wire::pb::followed::Followed as Told;
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::{FILE_LIMIT, FromWire, pb, reject_code};

use crate::pool::{Miner, World};
use crate::support::WITHIN;

pub const REGTEST: &str = "[regtest]\nblock_zero_bits = 14\n";

pub async fn client(address: &str) -> LedgerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    LedgerClient::new(channel).max_decoding_message_size(FILE_LIMIT)
}

pub async fn follow(
    address: &str,
    window: u64,
    shares: u64,
) -> Result<Streaming<pb::Followed>, Status> {
    let request = pb::FollowRequest { window, shares };
    let followed = client(address).await.follow(request).await?;
    Ok(followed.into_inner())
}

/// Follows and checks, as a participant does.
pub struct Reader {
    pool: PoolName,
    pub follower: Option<Follower>,
    pub stream: Streaming<pb::Followed>,
    /// Shares that came, by what their miner chose, and how often.
    pub seen: BTreeMap<(WindowSeq, u64), Rolled>,
    ends: Vec<WindowSeq>,
}

impl Reader {
    /// From a window on; 0: from a checkpoint.
    pub async fn open(address: &str, pool: PoolName, window: u64) -> Self {
        let ledger = (window > 0).then(Ledger::default);
        Self {
            pool,
            follower: ledger.map(|ledger| Follower::new(pool, ledger)),
            stream: follow(address, window, 0).await.unwrap(),
            seen: BTreeMap::new(),
            ends: Vec::new(),
        }
    }

    /// A new stream, from where this one got.
    async fn resume(&mut self, address: &str) {
        let follower = self.follower.as_mut().unwrap();
        let (window, shares) = follower.position();
        follower.resume();
        self.stream = follow(address, window.0, shares).await.unwrap();
    }

    pub async fn next(&mut self) -> Result<(), Status> {
        let told = timeout(WITHIN, self.stream.message()).await;
        let told = told.expect("more in time")?;
        match told.and_then(|told| told.followed).expect("no end") {
            Told::Checkpoint(checkpoint) => {
                let checkpoint = Checkpoint::from_wire(checkpoint).unwrap();
                assert!(checkpoint.signed.is_some(), "signers signed it");
                let (ledger, _) = checkpoint.check().unwrap();
                assert!(self.follower.is_none(), "one checkpoint");
                self.follower = Some(Follower::new(self.pool, ledger));
            }
            Told::Part(part) => {
                let part = WindowPart::from_wire(part).unwrap();
                let follower = self.follower.as_mut().unwrap();
                follower.part(&part).unwrap();
                for (place, share) in (part.first_share..).zip(&part.shares) {
                    let again = self.seen.insert((part.window, place), share.rolled);
                    assert_eq!(again, None, "a share came twice");
                }
            }
            Told::End(end) => {
                let end = WindowEnd::from_wire(end).unwrap();
                self.ends.push(end.record.seq);
                self.follower.as_mut().unwrap().end(&end).unwrap();
            }
        }
        Ok(())
    }

    pub async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.next().await.unwrap();
        }
    }

    pub async fn until_closed(&mut self, window: WindowSeq) {
        let head = |reader: &Self| reader.follower.as_ref().map(|it| it.head().seq);
        self.until(|reader| head(reader) >= Some(window)).await;
    }
}

/// Sends so many shares that are no blocks, and waits until they are acknowledged.
pub async fn shares(miner: &mut Miner, count: usize) {
    let z = miner.orders[0].z;
    let job = miner.orders[0].job;
    let until = miner.acknowledged() + count;
    let mut nonce = 0;
    for _ in 0..count {
        let found = miner.hash_from(nonce, z..=z + 2);
        nonce = found.nonce + 1;
        miner.input(Input::ShareFound(found)).await;
    }
    let all = |miner: &Miner| miner.acknowledged() >= until;
    miner.until("acks", all).await;
    assert_eq!(
        miner.orders[0].job, job,
        "the job was not replaced meanwhile"
    );
}

/// Closes the window by a block of others, and waits for the rounds on it: that of the next height is
/// signed last, and then nothing happens by itself for a while. Says the last closed window.
pub async fn new_tip(world: &World, miner: &mut Miner) -> WindowSeq {
    let ahead = world.node.height().unwrap() + 3;
    world.node.mine(1).unwrap();
    quiet(miner, ahead).await
}

pub async fn quiet(miner: &mut Miner, ahead: u32) -> WindowSeq {
    let signed = |miner: &Miner| {
        let mut held = miner.held.iter();
        held.any(|held| held.height == ahead && held.signers > 0)
    };
    miner.until("the round of the next height", signed).await;
    miner.held.iter().map(|held| held.window).max().unwrap()
}

pub async fn mining() -> (World, Miner) {
    let world = World::start_with(REGTEST);
    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    (world, miner)
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_every_share_once_however_often_they_are_cut() {
    let (world, mut miner) = mining().await;
    let pool = miner.core.params().unwrap().name();
    let mut first = Reader::open(&world.address, pool, 1).await;
    let mut sent = 0;
    for _ in 0..4 {
        shares(&mut miner, 20).await;
        sent += 20;
        first.until(|reader| reader.seen.len() >= sent - 15).await;
        // In the middle of a window.
        first.resume(&world.address).await;
        first.until(|reader| reader.seen.len() == sent).await;
        new_tip(&world, &mut miner).await;
    }
    let last = new_tip(&world, &mut miner).await;
    let mut late = Reader::open(&world.address, pool, 1).await;
    let mut newcomer = Reader::open(&world.address, pool, 0).await;
    shares(&mut miner, 20).await;
    let closed = new_tip(&world, &mut miner).await;
    for reader in [&mut first, &mut late, &mut newcomer] {
        reader.until_closed(closed).await;
    }
    assert_eq!(first.seen.len(), 100);
    assert_eq!(late.seen, first.seen, "from files as from the stream");
    let start = newcomer.ends[0];
    assert!(
        start > WindowSeq(1) && start >= last,
        "{start} after {last}"
    );
    let newer = first
        .seen
        .iter()
        .filter(|((window, _), _)| *window >= start);
    let newer: BTreeMap<_, _> = newer.map(|(at, rolled)| (*at, *rolled)).collect();
    assert_eq!(newcomer.seen, newer);
    assert_eq!(newer.len(), 20);
    let head = |reader: &Reader| {
        let follower = reader.follower.as_ref().unwrap();
        (follower.head().seq == closed).then_some(follower.head())
    };
    let heads: Vec<_> = [&first, &late, &newcomer]
        .map(head)
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(heads.len(), 3);
    assert!(heads.windows(2).all(|two| two[0] == two[1]));
}

/// Whoever follows has the end of each window that the session told of, before anything happens that
/// could push it out: no share of the next window, and no round, comes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_window_waits_for_nothing_that_comes_after_it() {
    let (world, mut miner) = mining().await;
    let pool = miner.core.params().unwrap().name();
    let mut reader = Reader::open(&world.address, pool, 1).await;
    for tips in 1..=10 {
        shares(&mut miner, 5).await;
        let last = new_tip(&world, &mut miner).await;
        reader.until_closed(last).await;
        let told = miner.closed.iter().filter(|window| **window <= last);
        let ends: BTreeSet<_> = reader.ends.iter().collect();
        assert!(told.clone().all(|window| ends.contains(window)), "{ends:?}");
        assert!(told.count() >= tips, "the session tells of every window");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_limited_for_each_address_and_free_again() {
    let limits = format!("[limits]\nfollowers_per_address = 2\n{REGTEST}");
    let world = World::start_with(&limits);
    let one = follow(&world.address, 1, 0).await.unwrap();
    let two = follow(&world.address, 1, 0).await.unwrap();
    let third = follow(&world.address, 1, 0).await.unwrap_err();
    assert_eq!(reject_code(&third), Some(RejectCode::RateLimited));
    assert!(third.message().contains("at most 2"), "{third}");
    drop((one, two));
    let again = async {
        while follow(&world.address, 1, 0).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WITHIN, again).await.expect("a place is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_changes_its_fee_is_followed_across_the_change() {
    let (mut world, mut miner) = mining().await;
    let pool = miner.core.params().unwrap().name();
    shares(&mut miner, 10).await;
    new_tip(&world, &mut miner).await;
    // The open window's rounds were made under the old fee.
    shares(&mut miner, 10).await;
    world.daemon.kill().unwrap();
    world.keys = "operator_fee_ppm = 777\n".into();
    world.restart();
    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    assert_eq!(miner.core.params().unwrap().operator_fee_ppm, 777);
    shares(&mut miner, 5).await;
    let closed = new_tip(&world, &mut miner).await;
    world.until_segment(closed);
    let mut reader = Reader::open(&world.address, pool, 1).await;
    reader.until_closed(closed).await;
    assert_eq!(reader.seen.len(), 25);
}
