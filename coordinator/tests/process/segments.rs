//! Segments and checkpoints on a real coordinator: their files, damage, retention.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use serde_json::Value;
use tonic::{Code, Status};
use tutti_coordinator::store::Store;
use tutti_proto::id::WindowSeq;
use tutti_proto::participant::Input;
use tutti_proto::sample::Sample;
use tutti_proto::segment::{Checkpoint, FileId, Segment};
use tutti_proto::window::total;
use tutti_proto::wire::{FromWire, ToWire, pb, positions_to_wire};
use tutti_proto::work::Work;

use crate::files::copy_files;
use crate::ledger::{REGTEST, Reader, client, follow, mining, new_tip, quiet, shares};
use crate::pool::{Miner, World};
use crate::support::{WITHIN, output, run_fails};

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

    pub fn until_segment(&mut self, window: WindowSeq) {
        let wanted = |line: &tutti_regtest::daemon::Line| {
            line.event() == "segment" && line.fields["window"] == window.0
        };
        self.daemon.wait_for("a segment", WITHIN, wanted).unwrap();
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn miners_are_listed_with_their_work_while_the_pool_runs() {
    let (mut world, mut miner) = mining().await;
    let mut work = 0u128;
    let mut last = WindowSeq(0);
    for count in [20, 7] {
        work += (count as u128) << miner.orders[0].z;
        shares(&mut miner, count).await;
        last = new_tip(&world, &mut miner).await;
    }
    world.until_segment(last);
    let work = work.to_string();
    let path = world.dir.path().join("coordinator.toml");
    let miners = |more: &[&str]| {
        let said = output(&[&["miners", "--config", path.to_str().unwrap()], more].concat());
        assert!(said.status.success(), "{said:?}");
        assert!(said.stderr.is_empty(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let identity = miner.core.identity().to_string();
    let listed: Value = serde_json::from_str(&miners(&["--json"])).unwrap();
    assert_eq!(listed["work"], work);
    assert_eq!(listed["miners"].as_array().unwrap().len(), 1);
    assert_eq!(listed["miners"][0]["identity"], identity);
    assert_eq!(listed["miners"][0]["work"], work);
    let of_file = |file: String| {
        let bytes = std::fs::read(world.segments().join(file)).unwrap();
        Segment::decode(&bytes).unwrap().end.record
    };
    let records = world.files().into_iter().map(of_file);
    let worked = records.filter(|record| !record.tally.is_empty());
    let worked = worked.map(|record| record.seq.0).max().unwrap();
    assert_eq!(listed["miners"][0]["last_window"], worked);
    assert_eq!(listed["last_window"], last.0);
    let table = miners(&["--minutes", "600"]);
    assert!(table.contains("miners    1\n"), "{table}");
    assert!(table.contains("100.00 %"), "{table}");
    assert!(table.contains(&identity), "{table}");
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
    let store = data.join("store");
    std::fs::remove_dir_all(&store).unwrap();
    let empty = world.dir.path().join("empty");
    drop(Store::open(&empty, Network::Regtest).unwrap());
    copy_files(&empty, &store);
    let words = run_fails(&world.dir.path().join("coordinator.toml"));
    let said = format!("has the segment of window {closed}, but the store ends with window 0");
    assert!(words.contains(&said), "{words}");
    assert!(words.contains("equivocates"), "{words}");
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
    // Not before its payout is in the chain.
    world.daemon.wait_event("payout_broadcast", WITHIN).unwrap();
    world.node.mine(1).unwrap();
    // Of two threads, either of which may be first.
    world.daemon.wait_and_keep("block_settled", WITHIN).unwrap();
    let pruned = world.daemon.wait_event("segment_pruned", WITHIN).unwrap();
    assert_eq!(pruned.number("window").unwrap(), explaining);
    new_tip(&world, &mut miner).await;
    let last = new_tip(&world, &mut miner).await;
    world.until_segment(last);
    let windows = world.windows();
    assert!(windows.len() > 1, "what counts is kept: {windows:?}");
    assert!(windows[0] > explaining, "{windows:?}");
    file(&world.address, explains).await.unwrap();
    let gone = pb::file_request::File::Window(explaining);
    let gone = file(&world.address, gone).await.unwrap_err();
    let first = format!("the first that is kept is {}", windows[0]);
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains(&first), "{gone}");
    let gone = follow(&world.address, 1, 0).await.unwrap().message().await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
}
