//! The ledger's public side on a real coordinator: followers, files, samples, retention.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tutti_proto::follower::Follower;
use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolName;
use tutti_proto::participant::Input;
use tutti_proto::reject::RejectCode;
use tutti_proto::sample::Sample;
use tutti_proto::segment::{Checkpoint, FileId, Segment, WindowEnd, WindowPart};
use tutti_proto::terms::Rolled;
use tutti_proto::window::{Ledger, total};
use tutti_proto::wire::pb::followed::Followed as Told;
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::{FILE_LIMIT, FromWire, ToWire, pb, positions_to_wire, reject_code};
use tutti_proto::work::Work;

use crate::pool::{Miner, World};
use crate::support::{WITHIN, run_fails};

const REGTEST: &str = "[regtest]\nblock_zero_bits = 14\n";

async fn client(address: &str) -> LedgerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    LedgerClient::new(channel).max_decoding_message_size(FILE_LIMIT)
}

async fn follow(
    address: &str,
    window: u64,
    shares: u64,
) -> Result<Streaming<pb::Followed>, Status> {
    let request = pb::FollowRequest { window, shares };
    let followed = client(address).await.follow(request).await?;
    Ok(followed.into_inner())
}

/// Follows and checks, as a participant does.
struct Reader {
    pool: PoolName,
    follower: Option<Follower>,
    stream: Streaming<pb::Followed>,
    /// Shares that came, by what their miner chose, and how often.
    seen: BTreeMap<(WindowSeq, u64), Rolled>,
    ends: Vec<(WindowSeq, Instant)>,
}

impl Reader {
    /// From a window on; 0: from a checkpoint.
    async fn open(address: &str, pool: PoolName, window: u64) -> Self {
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

    async fn next(&mut self) -> Result<(), Status> {
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
                self.ends.push((end.record.seq, Instant::now()));
                self.follower.as_mut().unwrap().end(&end).unwrap();
            }
        }
        Ok(())
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.next().await.unwrap();
        }
    }

    async fn until_closed(&mut self, window: WindowSeq) {
        let head = |reader: &Self| reader.follower.as_ref().map(|it| it.head().seq);
        self.until(|reader| head(reader) >= Some(window)).await;
    }
}

/// Sends so many shares that are no blocks, and waits until they are acknowledged.
async fn shares(miner: &mut Miner, count: usize) {
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
async fn new_tip(world: &World, miner: &mut Miner) -> WindowSeq {
    let ahead = world.node.height().unwrap() + 3;
    world.node.mine(1).unwrap();
    quiet(miner, ahead).await
}

async fn quiet(miner: &mut Miner, ahead: u32) -> WindowSeq {
    let signed = |miner: &Miner| {
        let mut held = miner.held.iter();
        held.any(|held| held.height == ahead && held.signers > 0)
    };
    miner.until("the round of the next height", signed).await;
    miner.held.iter().map(|held| held.window).max().unwrap()
}

async fn mining() -> (World, Miner) {
    let world = World::start_with(REGTEST);
    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    (world, miner)
}

async fn file(address: &str, which: pb::file_request::File) -> Result<(String, Vec<u8>), Status> {
    let request = pb::FileRequest { file: Some(which) };
    let mut chunks = client(address).await.file(request).await?.into_inner();
    let (mut cid, mut bytes) = (String::new(), Vec::new());
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.bytes);
        (cid, _) = (chunk.cid, chunk.length);
    }
    Ok((cid, bytes))
}

impl World {
    fn segments(&self) -> PathBuf {
        self.dir.path().join("coordinator-data").join("segments")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.segments()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn windows(&self) -> Vec<u64> {
        let names = self.files().into_iter();
        let window = |name: &str| {
            name.strip_suffix(".segment")?
                .split('-')
                .next()?
                .parse()
                .ok()
        };
        names.filter_map(|name| window(&name)).collect()
    }

    fn until_segment(&mut self, window: WindowSeq) {
        let wanted = |line: &tutti_regtest::daemon::Line| {
            line.event() == "segment" && line.fields["window"] == window.0
        };
        self.daemon.wait_for("a segment", WITHIN, wanted).unwrap();
    }
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
    let start = newcomer.ends[0].0;
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
    assert!(heads.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_window_comes_as_fast_as_the_session_tells_it() {
    let (world, mut miner) = mining().await;
    let pool = miner.core.params().unwrap().name();
    let mut reader = Reader::open(&world.address, pool, 1).await;
    let (enough, mut stop) = tokio::sync::oneshot::channel();
    let reading = tokio::spawn(async move {
        loop {
            tokio::select! {
                next = reader.next() => next.unwrap(),
                _ = &mut stop => return reader,
            }
        }
    });
    let mut last = WindowSeq(0);
    for _ in 0..10 {
        shares(&mut miner, 5).await;
        last = new_tip(&world, &mut miner).await;
    }
    enough.send(()).unwrap();
    let mut reader = reading.await.unwrap();
    reader.until_closed(last).await;
    let lag = |(window, told): &(WindowSeq, Instant)| {
        let at = reader.ends.iter().find(|(closed, _)| closed == window)?.1;
        Some(at.saturating_duration_since(*told))
    };
    let mut lags: Vec<Duration> = miner.closed.iter().filter_map(lag).collect();
    lags.sort();
    eprintln!(
        "after the session's word: median {:?}, worst {:?} of {}",
        lags[lags.len() / 2],
        lags[lags.len() - 1],
        lags.len()
    );
    assert!(lags.len() >= 10, "{}", lags.len());
    assert!(
        lags[lags.len() / 2] < Duration::from_millis(100),
        "{lags:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_hashes_to_its_name_and_opens_where_it_is_asked() {
    let (mut world, mut miner) = mining().await;
    let z = miner.orders[0].z;
    shares(&mut miner, 30).await;
    let found = miner.hash(14..=u8::MAX);
    assert!(z < 14);
    let window = miner
        .held
        .iter()
        .map(|held| held.window)
        .max()
        .unwrap()
        .next();
    miner.input(Input::ShareFound(found)).await;
    // In whatever order they are written.
    let explained = RefCell::new(None);
    let missing = RefCell::new(BTreeSet::from([window.0, window.next().0]));
    let all = |line: &tutti_regtest::daemon::Line| {
        match line.event() {
            "block_explained" => *explained.borrow_mut() = Some(line.clone()),
            "segment" => {
                let window = line.number("window").unwrap();
                missing.borrow_mut().remove(&window);
            }
            _ => {}
        }
        explained.borrow().is_some() && missing.borrow().is_empty()
    };
    world
        .daemon
        .wait_for("an explanation and two segments", WITHIN, all)
        .unwrap();
    let explained = explained.into_inner().unwrap();

    use pb::file_request::File;
    let address = world.address.clone();
    let (cid, bytes) = file(&address, File::Window(window.0)).await.unwrap();
    assert_eq!(FileId::of(&bytes).to_string(), cid);
    let name = format!("{:010}-{cid}.segment", window.0);
    assert!(world.files().contains(&name), "{:?}", world.files());
    assert_eq!(
        file(&address, File::Cid(cid.clone())).await.unwrap().1,
        bytes
    );
    let segment = Segment::decode(&bytes).unwrap();
    assert_eq!(segment.end.record.shares, 31);

    let hash: BlockHash = explained.text("hash").unwrap().parse().unwrap();
    let block = File::Block(hash.to_byte_array().to_vec().into());
    let (cid, bytes) = file(&address, block).await.unwrap();
    assert_eq!(cid, explained.text("cid").unwrap());
    assert!(
        world
            .files()
            .contains(&format!("block-{hash}-{cid}.checkpoint"))
    );
    let checkpoint = Checkpoint::decode(&bytes).unwrap();
    let terms = checkpoint.signed.as_ref().unwrap().terms.clone();
    let inputs = &terms.inputs;
    let (ledger, roster) = checkpoint.check().unwrap();
    assert_eq!(
        (ledger.head(), roster.digest()),
        (inputs.ledger, inputs.roster)
    );
    let round = terms.round();
    assert!(miner.held.iter().any(|held| held.round == round));

    let all = total(&segment.end.record.tally).unwrap();
    let positions = [Work(0), Work(all.0 / 2), Work(all.0 - 1)];
    let sample = |positions: &[Work]| {
        let request = pb::SampleRequest {
            window: window.0,
            positions: positions_to_wire(positions),
        };
        let address = address.clone();
        async move { client(&address).await.sample(request).await }
    };
    let answer = sample(&positions).await.unwrap().into_inner();
    let answer = Sample::from_wire(answer).unwrap();
    answer
        .check(&segment.pool, &segment.end.record, &positions)
        .unwrap();
    assert_eq!(sample(&[all]).await.unwrap_err().code(), Code::OutOfRange);

    let none = file(&address, File::Window(1_000)).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    let early = follow(&address, 1_000, 0).await.unwrap_err();
    assert_eq!(early.code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_segment_was_not_written_before_a_kill_gets_it_after() {
    let (mut world, mut miner) = mining().await;
    let pool = miner.core.params().unwrap().name();
    world.until_segment(WindowSeq(1));
    // A disk that refuses.
    let (segments, aside) = (world.segments(), world.dir.path().join("aside"));
    std::fs::rename(&segments, &aside).unwrap();
    std::fs::write(&segments, "").unwrap();
    shares(&mut miner, 20).await;
    let closed = new_tip(&world, &mut miner).await;
    world.daemon.wait_event("archive_failed", WITHIN).unwrap();
    // Whoever follows need not wait for the file.
    let mut before = Reader::open(&world.address, pool, 1).await;
    std::fs::remove_file(&segments).unwrap();
    std::fs::rename(&aside, &segments).unwrap();
    world.daemon.kill().unwrap();
    assert!(before.stream.message().await.is_err() || before.stream.message().await.is_err());

    world.restart();
    world.until_segment(closed);
    let mut after = Reader::open(&world.address, pool, 1).await;
    after.until_closed(closed).await;
    assert_eq!(after.seen.len(), 20);
}

/// Flips a bit of the last share of the first window that has so many.
fn spoil(world: &World, shares: u64) -> WindowSeq {
    for file in world.files() {
        let path = world.segments().join(&file);
        let mut bytes = std::fs::read(&path).unwrap();
        let Ok(segment) = Segment::decode(&bytes) else {
            continue;
        };
        if segment.end.record.shares == shares {
            // The end is behind the shares, and behind its key and its length.
            let end = segment.end.encode().len();
            let length = prost::length_delimiter_len(end);
            let last = bytes.len() - end - length - 2;
            bytes[last] ^= 1;
            let changed = Segment::decode(&bytes).unwrap();
            assert_ne!(changed.parts, segment.parts, "a share is another");
            assert_eq!(changed.end, segment.end);
            std::fs::write(&path, bytes).unwrap();
            return segment.end.record.seq;
        }
    }
    panic!("no window has {shares} shares");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_segment_is_told_and_served_to_nobody() {
    let (mut world, mut miner) = mining().await;
    let pool = miner.core.params().unwrap().name();
    shares(&mut miner, 20).await;
    // Followers of what closed lately are told it from memory.
    new_tip(&world, &mut miner).await;
    new_tip(&world, &mut miner).await;
    let last = new_tip(&world, &mut miner).await;
    world.until_segment(last);
    let rotten = spoil(&world, 20);
    for _ in 0..2 {
        let mut reader = Reader::open(&world.address, pool, 1).await;
        let refused = loop {
            // What comes is true.
            if let Err(refused) = reader.next().await {
                break refused;
            }
        };
        assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        assert_eq!(reader.follower.unwrap().position().0, rotten);
    }
    let told = world.daemon.wait_event("file_damaged", WITHIN).unwrap();
    assert!(
        told.text("path")
            .unwrap()
            .contains(&format!("{:010}-", rotten.0))
    );
    let which = pb::file_request::File::Window(rotten.0);
    let refused = file(&world.address, which).await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    let request = pb::SampleRequest {
        window: rotten.0,
        positions: positions_to_wire(&[Work(0)]),
    };
    let refused = client(&world.address).await.sample(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::DataLoss);
    // Others are served.
    let after = pb::file_request::File::Window(last.0);
    file(&world.address, after).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_checkpoint_is_made_again() {
    let (mut world, mut miner) = mining().await;
    let found = miner.hash(14..=u8::MAX);
    miner.input(Input::ShareFound(found)).await;
    let explained = world.daemon.wait_event("block_explained", WITHIN).unwrap();
    let (hash, cid) = (
        explained.text("hash").unwrap(),
        explained.text("cid").unwrap(),
    );
    let path = world
        .segments()
        .join(format!("block-{hash}-{cid}.checkpoint"));
    let whole = std::fs::read(&path).unwrap();
    world.daemon.kill().unwrap();
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    std::fs::write(&path, rotten).unwrap();
    world.restart();
    // It may be told before the daemon listens; so the file says when.
    let deadline = Instant::now() + WITHIN;
    while std::fs::read(&path).ok().as_ref() != Some(&whole) {
        assert!(
            Instant::now() < deadline,
            "the checkpoint is not made again"
        );
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_behind_its_segments_signs_nothing() {
    let (mut world, mut miner) = mining().await;
    let closed = new_tip(&world, &mut miner).await;
    world.until_segment(closed);
    world.daemon.kill().unwrap();
    let data = world.dir.path().join("coordinator-data");
    std::fs::remove_dir_all(data.join("store")).unwrap();
    let words = run_fails(&world.dir.path().join("coordinator.toml"));
    let said = format!("has the segment of window {closed}, but the store ends with window 0");
    assert!(words.contains(&said), "{words}");
    assert!(words.contains("equivocates"), "{words}");
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
async fn old_segments_go_but_never_what_counts_or_explains_an_unsettled_block() {
    let more = format!("[segments]\nkeep_windows = 1\n{REGTEST}");
    let mut world = World::start_with(&more);
    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    // So many shares are all that counts.
    let depth = (8 << 14) / (1 << miner.orders[0].z);
    let found = miner.hash(14..=u8::MAX);
    miner.input(Input::ShareFound(found)).await;
    let explained = world.daemon.wait_event("block_explained", WITHIN).unwrap();
    let explains = {
        let hash: BlockHash = explained.text("hash").unwrap().parse().unwrap();
        pb::file_request::File::Block(hash.to_byte_array().to_vec().into())
    };
    let (_, bytes) = file(&world.address, explains.clone()).await.unwrap();
    // Nobody had worked before.
    let explaining = Checkpoint::decode(&bytes).unwrap().ledger.seq.next().0;
    miner
        .until("an ack", |miner| miner.acknowledged() >= 1)
        .await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    for _ in 0..3 {
        shares(&mut miner, depth + 1).await;
        new_tip(&world, &mut miner).await;
    }
    let last = new_tip(&world, &mut miner).await;
    world.until_segment(last);
    // Windows from before any work went at once.
    let kept: Vec<u64> = (explaining..=last.0).collect();
    assert_eq!(world.windows(), kept, "the block is not settled");
    world.node.mine(200).unwrap();
    world.daemon.wait_event("block_settled", WITHIN).unwrap();
    let pruned = world.daemon.wait_event("segment_pruned", WITHIN).unwrap();
    assert_eq!(pruned.number("window").unwrap(), explaining);
    new_tip(&world, &mut miner).await;
    let last = new_tip(&world, &mut miner).await;
    world.until_segment(last);
    let windows = world.windows();
    assert!(windows.len() > 1, "what counts is kept: {windows:?}");
    assert!(windows[0] > explaining, "{windows:?}");
    file(&world.address, explains).await.unwrap();
    let gone = follow(&world.address, 1, 0).await.unwrap().message().await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
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
