//! Following a whole ledger, told by a coordinator that is honest, breaks off, forgets, or lies.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bitcoin::Amount;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tutti_participant::follow::{self, Follower, Keep, Mode, Report, Start};
use tutti_participant::segments::FileName;
use tutti_proto::audit::{AuditError, HeaderError};
use tutti_proto::coordinator::Record;
use tutti_proto::deadline::Millis;
use tutti_proto::follower::FollowError;
use tutti_proto::id::WindowSeq;
use tutti_proto::message::SignedHead;
use tutti_proto::participant::{self, LedgerFault};
use tutti_proto::segment::{Checkpoint, CheckpointError, FileId, Segment, WindowPart};
use tutti_proto::share::ShareTree;
use tutti_proto::window::{Ledger, LedgerHead};
use tutti_proto::wire::pb::ledger_server::{self, LedgerServer};
use tutti_proto::wire::pb::{self, followed::Followed};
use tutti_proto::wire::{FromWire, ToWire};
use tutti_proto::work::header_hash;
use tutti_tests::sim::{Archive, World, WorldOptions, identity_key, script};

const BLOCK: u8 = 12;
const DEADLINE: Duration = Duration::from_secs(60);

type Told = Vec<Result<pb::Followed, Status>>;
type Script = Box<dyn Fn(u64, u64) -> Told + Send + Sync>;

/// A coordinator that tells what its script says for a window and a number of shares, and then nothing.
struct Teller {
    script: Script,
    asked: mpsc::UnboundedSender<(u64, u64)>,
}

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ledger_server::Ledger for Teller {
    type FollowStream = Stream_<pb::Followed>;
    type FileStream = Stream_<pb::FileChunk>;

    async fn follow(
        &self,
        request: Request<pb::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let pb::FollowRequest { window, shares } = request.into_inner();
        let told = (self.script)(window, shares);
        self.asked.send((window, shares)).expect("the test listens");
        let stream = tokio_stream::iter(told).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn sample(
        &self,
        _: Request<pb::SampleRequest>,
    ) -> Result<Response<pb::SampleReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn file(
        &self,
        _: Request<pb::FileRequest>,
    ) -> Result<Response<Self::FileStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A check of what a script tells.
struct Check {
    _follower: Follower,
    reports: mpsc::Receiver<(tutti_proto::params::PoolName, Report)>,
    asked: mpsc::UnboundedReceiver<(u64, u64)>,
}

impl Check {
    async fn start(archive: &Archive, dir: &Path, signers_min: u16, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let (tell, asked) = mpsc::unbounded_channel();
        let teller = Teller {
            script,
            asked: tell,
        };
        let server = tonic::transport::Server::builder()
            .add_service(LedgerServer::new(teller).max_encoding_message_size(64 << 20));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (tell, reports) = follow::reports();
        let start = Start {
            file: dir.join(follow::CHECKED),
            spacing: Duration::ZERO,
            signers_min,
        };
        let keep = Keep {
            directory: dir.join("segments"),
            windows: 1_000,
        };
        let pool = archive.params.name();
        let follower = Follower::start(Mode::Full, &address, pool, (start, Some(keep)), tell);
        Self {
            _follower: follower.expect("everything is checked"),
            reports,
            asked,
        }
    }

    /// The next report, but for heads as they are told.
    async fn report(&mut self) -> Report {
        loop {
            let report = tokio::time::timeout(DEADLINE, self.reports.recv()).await;
            match report.expect("in time").expect("a report").1 {
                Report::Told(_) => {}
                report => return report,
            }
        }
    }

    async fn asked(&mut self) -> (u64, u64) {
        let asked = tokio::time::timeout(DEADLINE, self.asked.recv()).await;
        asked.expect("in time").expect("a request")
    }

    /// These windows are checked, and kept under the names of their bytes.
    async fn checks(&mut self, segments: &[Segment]) {
        for segment in segments {
            let record = &segment.end.record;
            match self.report().await {
                Report::Checked { head, shares } => {
                    assert_eq!((head, shares), (segment.end.head.head, record.shares));
                }
                other => panic!("{other:?}"),
            }
            match self.report().await {
                Report::Kept { window, file } => {
                    let name = FileName::Segment(record.seq, FileId::of(&segment.encode()));
                    // The name or, of a kept file, its CID.
                    assert_eq!(window, record.seq.0);
                    assert!(name.to_string().contains(&file), "{file} is not {name}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn begins(&mut self) -> LedgerHead {
        match self.report().await {
            Report::Begins { head } => head,
            other => panic!("{other:?}"),
        }
    }

    async fn skipped(&mut self) -> (u64, u64) {
        match self.report().await {
            Report::Skipped { first, last } => (first, last),
            other => panic!("{other:?}"),
        }
    }

    async fn trouble(&mut self) -> String {
        match self.report().await {
            Report::Trouble { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// What is found false, after windows that were true.
    async fn fault(&mut self) -> (u64, LedgerFault) {
        let mut checked = 0;
        loop {
            match self.report().await {
                Report::Checked { .. } => checked += 1,
                Report::Kept { .. } | Report::Begins { .. } => {}
                Report::False(fault) => return (checked, fault),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn round(world: &mut World) {
    let before = world.coordinator.ledger().seq();
    world.new_tip();
    world.run_until(Millis(1_000), "a round on the new tip", |world| {
        world.coordinator.ledger().seq() > before && world.all_hash_last_round()
    });
    world.settle();
}

/// A pool that finds a block and books it.
fn pool() -> (World, Archive) {
    let mut world = World::new(WorldOptions {
        block_zero_bits: BLOCK,
        // A block pays 9,536 sat and fees: parts fall below dust limits.
        height: 150 * 19 + 10,
        ..WorldOptions::default()
    });
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(Millis(1_000), "the first round", World::all_hash_last_round);
    for miner in [0, 0, 0, 1, 0, 2, 0, 1, 3, 0, 0, 1] {
        world.share(miner);
        world.settle();
    }
    round(&mut world);
    let found = world.miners[0].hash_until(BLOCK).expect("a job");
    world.tell_miner(0, participant::Input::ShareFound(found));
    world.settle();
    for _ in 0..3 {
        round(&mut world);
        for _ in 0..5 {
            world.share(1);
            world.settle();
        }
    }
    round(&mut world);
    let archive = Archive::of(&world).expect("segments");
    assert!(archive.segments.iter().any(is_booking));
    (world, archive)
}

fn is_booking(segment: &Segment) -> bool {
    !segment.end.record.bookings.is_empty()
}

fn message(followed: Followed) -> Result<pb::Followed, Status> {
    Ok(pb::Followed {
        followed: Some(followed),
    })
}

fn part(part: &WindowPart) -> Result<pb::Followed, Status> {
    message(Followed::Part(part.to_wire()))
}

fn windows(segments: &[Segment]) -> Told {
    let mut told = Vec::new();
    for segment in segments {
        told.extend(segment.parts.iter().map(part));
        told.push(message(Followed::End(segment.end.to_wire())));
    }
    told
}

fn broken() -> Result<pb::Followed, Status> {
    Err(Status::unavailable("the network"))
}

/// What a lying coordinator does so that a false window looks true: it signs all heads from there on anew.
fn sign_again(archive: &mut Archive, from: usize) {
    let mut ledger = Ledger::default();
    for (place, segment) in archive.segments.iter_mut().enumerate() {
        let end = &mut segment.end;
        end.record.previous = ledger.head().hash;
        ledger.append(&end.record).expect("it follows");
        if place >= from {
            end.state = ledger.state();
            end.head = SignedHead::sign(&identity_key(0), ledger.head(), &[4; 32]);
        }
    }
}

/// Hashes the shares of a segment under the terms that it tells now.
fn hash_again(segment: &mut Segment) {
    let pool = segment.pool;
    let terms = segment.parts[0].terms.iter().cloned();
    let terms: Vec<_> = terms.map(|t| t.check(&pool).expect("terms")).collect();
    let mut tree = ShareTree::default();
    let mut seen = std::collections::BTreeSet::new();
    for share in segment.parts.iter_mut().flat_map(|part| &mut part.shares) {
        let terms = &terms[usize::from(share.terms)];
        let owner = terms.owners()[share.owner as usize];
        let judged = loop {
            match terms.judge(&owner, &share.rolled) {
                Ok(judged) if seen.insert(judged.hash) => break judged,
                _ => share.rolled.nonce += 1,
            }
        };
        tree.add(&judged.record).expect("a sum");
    }
    let record = &mut segment.end.record;
    record.shares_root = tree.root();
    record.shares = tree.shares();
    record.tally = tree.tally().clone();
}

/// Follows a pool whose archive was changed: the first window that is false, and why.
async fn lie(archive: Archive) -> (u64, LedgerFault) {
    let dir = TempDir::new().expect("a directory");
    let told = windows(&archive.segments);
    let script = move |_, _| told.clone();
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    check.fault().await
}

fn busy(archive: &Archive) -> usize {
    let is_busy = |segment: &Segment| segment.end.record.shares >= 5;
    let place = archive.segments.iter().position(is_busy);
    place.expect("a window with shares")
}

fn amounts(fault: LedgerFault) -> AuditError {
    match fault {
        LedgerFault::Amounts(error) => *error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_honest_ledger_is_checked_over_a_stream_that_breaks_in_the_middle_of_a_window() {
    let (_, archive) = pool();
    let place = busy(&archive);
    let (segments, dir) = (&archive.segments, TempDir::new().expect("a directory"));
    let (window, whole) = (segments[place].end.record.seq.0, &segments[place].parts[0]);
    let mut first = windows(&segments[..place]);
    let shares = whole.shares[..3].to_vec();
    first.push(part(&WindowPart {
        shares,
        ..whole.clone()
    }));
    first.push(broken());
    let mut then = vec![part(&WindowPart {
        first_share: 3,
        shares: whole.shares[3..].to_vec(),
        ..whole.clone()
    })];
    then.push(message(Followed::End(segments[place].end.to_wire())));
    then.extend(windows(&segments[place + 1..]));
    let script = move |asked, _| match asked {
        0 => first.clone(),
        _ => then.clone(),
    };
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    check.checks(&segments[..place]).await;
    let why = check.trouble().await;
    assert!(why.contains("the network"), "{why}");
    check.checks(&segments[place..]).await;
    assert_eq!(check.asked().await, (0, 0));
    assert_eq!(check.asked().await, (window, 3));
}

/// Lets a first process check these windows, from the pool's first on, so that its file is written.
async fn checked_before(archive: &Archive, dir: &Path, known: &[Segment]) {
    let mut told = windows(known);
    told.push(broken());
    let mut check = Check::start(archive, dir, 2, Box::new(move |_, _| told.clone())).await;
    check.checks(known).await;
    // By then the file is written.
    check.trouble().await;
}

/// The state after a window of this range, on which a round was signed.
fn signed_after(world: &World, archive: &Archive, windows: std::ops::Range<u64>) -> Checkpoint {
    let committed = world.records.iter().filter_map(|record| match record {
        Record::Committed(committed) => Some(committed.round),
        _ => None,
    });
    let committed: Vec<_> = committed.collect();
    let mut made = committed
        .iter()
        .filter_map(|round| archive.signed_checkpoint(world, round));
    let is_there = |made: &Checkpoint| windows.contains(&made.head.head.seq.0);
    made.find(is_there).expect("signed there")
}

fn after<'a>(archive: &'a Archive, checkpoint: &Checkpoint) -> &'a [Segment] {
    let place = usize::try_from(checkpoint.head.head.seq.0).expect("few");
    &archive.segments[place..]
}

fn told_from(checkpoint: &Checkpoint, later: &[Segment]) -> Told {
    let mut told = vec![message(Followed::Checkpoint(checkpoint.to_wire()))];
    told.extend(windows(later));
    told
}

fn gone() -> Told {
    vec![Err(Status::not_found("not kept"))]
}

#[tokio::test]
async fn a_restart_goes_on_from_what_was_checked_and_needs_no_window_to_say_so() {
    let (_, archive) = pool();
    let dir = TempDir::new().expect("a directory");
    let (known, later) = archive.segments.split_at(3);
    checked_before(&archive, dir.path(), known).await;
    let mut told = windows(later);
    told.push(broken());
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(move |_, _| told.clone())).await;
    // What builds on this head can be signed before anything is told.
    assert_eq!(check.begins().await, known[2].end.head.head);
    check.checks(later).await;
    assert_eq!(check.asked().await, (4, 0));
}

#[tokio::test]
async fn a_window_that_the_pool_has_forgotten_is_said_to_be_unchecked_and_the_check_starts_after_it()
 {
    let (world, archive) = pool();
    let dir = TempDir::new().expect("a directory");
    let known = &archive.segments[..3];
    checked_before(&archive, dir.path(), known).await;
    let checkpoint = signed_after(&world, &archive, 4..100);
    let last = checkpoint.head.head.seq.0;
    let later = after(&archive, &checkpoint);
    assert!(!later.is_empty());
    let told = told_from(&checkpoint, later);
    let script = move |window, _| match window {
        0 => told.clone(),
        _ => gone(),
    };
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    assert_eq!(check.begins().await, known[2].end.head.head);
    let why = check.trouble().await;
    assert!(why.contains("no longer keeps window 4"), "{why}");
    assert_eq!(check.skipped().await, (4, last));
    assert_eq!(check.begins().await, checkpoint.head.head);
    check.checks(later).await;
    assert_eq!(check.asked().await, (4, 0));
    assert_eq!(check.asked().await, (0, 0));
}

#[tokio::test]
async fn no_check_starts_anew_from_a_state_that_is_older_than_its_own_or_from_none() {
    let (world, archive) = pool();
    let known = &archive.segments[..4];
    let old = signed_after(&world, &archive, 2..4);
    for (told, said) in [
        (
            told_from(&old, after(&archive, &old)),
            "newest signed state",
        ),
        (windows(&archive.segments), "no signed state"),
    ] {
        let dir = TempDir::new().expect("a directory");
        checked_before(&archive, dir.path(), known).await;
        let script = move |window, _| match window {
            0 => told.clone(),
            _ => gone(),
        };
        let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
        check.begins().await;
        check.trouble().await;
        let why = check.trouble().await;
        assert!(why.contains(said), "{why}");
        // What is not there now may be there later.
        for request in [(5, 0), (0, 0), (5, 0)] {
            assert_eq!(check.asked().await, request);
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_and_set_aside_and_the_check_starts_anew() {
    let (world, archive) = pool();
    let checkpoint = signed_after(&world, &archive, 2..5);
    let later = after(&archive, &checkpoint);
    let whole = {
        let dir = TempDir::new().expect("a directory");
        checked_before(&archive, dir.path(), &archive.segments[..3]).await;
        std::fs::read(dir.path().join(follow::CHECKED)).expect("a file")
    };
    let mut payees = Checkpoint::decode(&whole[32..]).expect("a checkpoint");
    payees.outputs.pop().expect("a payee");
    let mut other_payees = whole[..32].to_vec();
    other_payees.extend(payees.encode());
    let mut flipped = whole.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let cut_off = whole[..20].to_vec();
    let without_seal = whole[32..].to_vec();
    for damaged in [other_payees, flipped, cut_off, without_seal] {
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join(follow::CHECKED);
        std::fs::write(&file, &damaged).expect("written");
        let told = told_from(&checkpoint, later);
        let script = Box::new(move |_, _| told.clone());
        let mut check = Check::start(&archive, dir.path(), 2, script).await;
        let why = match check.report().await {
            Report::SetAside { why } => why,
            other => panic!("{other:?}"),
        };
        assert!(why.contains(file.to_str().expect("text")), "{why}");
        let aside = dir.path().join("checked.checkpoint.damaged");
        assert!(why.contains(aside.to_str().expect("text")), "{why}");
        assert_eq!(std::fs::read(aside).expect("kept"), damaged);
        assert_eq!(check.begins().await, checkpoint.head.head);
        check.checks(later).await;
        assert_eq!(check.asked().await, (0, 0));
    }
}

#[tokio::test]
async fn a_checkpoint_is_the_word_of_enough_signers_or_none() {
    let (world, archive) = pool();
    let checkpoint = signed_after(&world, &archive, 2..5);
    let signed = checkpoint.signed.clone().expect("signed");
    let signers = signed.terms.inputs.signers.len();
    let place = usize::try_from(checkpoint.head.head.seq.0).expect("few");
    let later = archive.segments[place..].to_vec();
    let script = |checkpoint: &Checkpoint| -> Script {
        let mut told = vec![message(Followed::Checkpoint(checkpoint.to_wire()))];
        told.extend(windows(&later));
        Box::new(move |_, _| told.clone())
    };
    let enough = u16::try_from(signers).expect("few");
    for (min, takes) in [(enough, true), (enough + 1, false)] {
        let dir = TempDir::new().expect("a directory");
        let mut check = Check::start(&archive, dir.path(), min, script(&checkpoint)).await;
        match takes {
            true => {
                // A newcomer need not wait for a window to close.
                assert_eq!(check.begins().await, checkpoint.head.head);
                check.checks(&later).await;
            }
            false => {
                let why = check.trouble().await;
                assert!(why.contains("policy.signers_min asks"), "{why}");
            }
        }
    }
    let dir = TempDir::new().expect("a directory");
    let mut others = checkpoint.clone();
    let of_round = &mut others.signed.as_mut().expect("signed").terms.inputs.signers;
    of_round.retain(|signer| signer.identity != archive.params.coordinator);
    assert_eq!(of_round.len(), signers - 1);
    let mut check = Check::start(&archive, dir.path(), 2, script(&others)).await;
    assert_eq!(check.fault().await, (0, LedgerFault::NotCoordinators));

    let dir = TempDir::new().expect("a directory");
    let unsigned = Checkpoint {
        signed: None,
        ..checkpoint
    };
    let mut check = Check::start(&archive, dir.path(), 2, script(&unsigned)).await;
    let fault = LedgerFault::Checkpoint(CheckpointError::Unsigned);
    assert_eq!(check.fault().await, (0, fault));
}

#[tokio::test]
async fn a_share_without_work_and_one_that_is_told_twice() {
    let (_, mut archive) = pool();
    let place = busy(&archive);
    let segment = &mut archive.segments[place];
    let (name, part) = (segment.pool, &mut segment.parts[0]);
    let share = &mut part.shares[1];
    let terms = part.terms[usize::from(share.terms)].clone();
    let terms = terms.check(&name).expect("terms");
    let owner = terms.owners()[share.owner as usize];
    while terms.judge(&owner, &share.rolled).is_ok() {
        share.rolled.nonce += 1;
    }
    let (checked, fault) = lie(archive).await;
    assert_eq!(checked, place as u64);
    assert!(
        matches!(
            fault,
            LedgerFault::Followed(FollowError::Share { share: 1, .. })
        ),
        "{fault}"
    );

    let (_, mut archive) = pool();
    let part = &mut archive.segments[place].parts[0];
    part.shares[4] = part.shares[2];
    let window = WindowSeq(place as u64 + 1);
    let twice = FollowError::Duplicate { window, share: 4 };
    assert_eq!(
        lie(archive).await,
        (place as u64, LedgerFault::Followed(twice))
    );
}

#[tokio::test]
async fn a_booking_with_another_carry_and_one_of_a_block_that_is_none() {
    let (_, mut archive) = pool();
    let place = archive.segments.iter().position(is_booking).expect("one");
    let booking = &mut archive.segments[place].end.record.bookings[0];
    let friend = identity_key(999).identity();
    booking.carry.insert(friend, 5_000);
    let (window, block) = (WindowSeq(place as u64 + 1), booking.block);
    sign_again(&mut archive, place);
    let (checked, fault) = lie(archive).await;
    let expected = AuditError::Carry {
        window,
        block,
        who: friend,
        claimed: 5_000,
        follows: 0,
    };
    assert_eq!((checked, amounts(fault)), (place as u64, expected));

    let (_, mut archive) = pool();
    let booking = &mut archive.segments[place].end.record.bookings[0];
    // Any nonce makes a header, few make a block.
    booking.header[76..].copy_from_slice(&7u32.to_le_bytes());
    booking.block = header_hash(&booking.header);
    sign_again(&mut archive, place);
    match amounts(lie(archive).await.1) {
        AuditError::Header {
            window: at,
            error: HeaderError::ZeroBits { .. } | HeaderError::Target(_),
            ..
        } => assert_eq!(at, window),
        other => panic!("{other}"),
    }

    let (_, mut archive) = pool();
    let booking = &mut archive.segments[place].end.record.bookings[0];
    booking.block = [7; 32];
    sign_again(&mut archive, place);
    match amounts(lie(archive).await.1) {
        AuditError::Header {
            error: HeaderError::OtherHash(_),
            ..
        } => {}
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_coinbase_that_pays_somebody_else() {
    let (_, mut archive) = pool();
    let place = busy(&archive);
    let segment = &mut archive.segments[place];
    // All of it to an output of the coordinator's: a direct round needs nobody's signature.
    let terms = &mut segment.parts[0].terms[0];
    terms.inputs.signers.clear();
    let reward = Amount::from_sat(terms.inputs.reward);
    let friend = script(999).as_script().to_owned();
    let name = tutti_proto::coinbase::round_script(&terms.round());
    terms.outputs = vec![(friend, reward), (name, Amount::ZERO)];
    let round = terms.round();
    hash_again(segment);
    sign_again(&mut archive, place);
    let (checked, fault) = lie(archive).await;
    assert_eq!(checked, place as u64);
    match amounts(fault) {
        AuditError::Output { round: of, .. } => assert_eq!(of, round),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_round_on_a_ledger_that_is_not_ours() {
    let (_, mut archive) = pool();
    let place = busy(&archive);
    let segment = &mut archive.segments[place];
    let terms = &mut segment.parts[0].terms[0];
    terms.inputs.signers.clear();
    let ours = terms.inputs.ledger;
    terms.inputs.ledger.hash[0] ^= 1;
    let reward = Amount::from_sat(terms.inputs.reward);
    let friend = script(999).as_script().to_owned();
    let name = tutti_proto::coinbase::round_script(&terms.round());
    terms.outputs = vec![(friend, reward), (name, Amount::ZERO)];
    hash_again(segment);
    sign_again(&mut archive, place);
    match amounts(lie(archive).await.1) {
        AuditError::Ledger {
            claimed, follows, ..
        } => {
            assert_eq!(*follows, ours);
            assert_eq!(claimed.seq, ours.seq);
        }
        other => panic!("{other}"),
    }
}
