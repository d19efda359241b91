//! Looking at a few shares of each window, of a coordinator that answers, does not, or lies.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tutti_participant::follow::{self, Follower, Mode, Report, Start, TRIES, UNANSWERED_LIMIT};
use tutti_proto::deadline::Millis;
use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolName;
use tutti_proto::participant::LedgerFault;
use tutti_proto::reject::RejectCode;
use tutti_proto::sample::{Sample, SampleError, SampledShare};
use tutti_proto::segment::Segment;
use tutti_proto::share::{Openings, ShareRecord};
use tutti_proto::terms::{Rolled, RoundTerms, TermsError};
use tutti_proto::window::{WindowRecord, total};
use tutti_proto::wire::pb::ledger_server::{self, LedgerServer};
use tutti_proto::wire::{ToWire, pb, positions_from_wire};
use tutti_proto::work::Work;
use tutti_tests::sim::{Archive, World, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(60);
/// As many as one may ask for: with few shares in a window some are asked for twice.
const SAMPLES: usize = 64;

/// What the coordinator does with a request.
enum Answer {
    Sample(pb::SampleReply),
    Refuse(Status),
    /// It never does.
    Hang,
}

type Asked = (u64, Vec<Work>);
type Script = Box<dyn Fn(u64, &[Work]) -> Answer + Send + Sync>;
type Nothing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Answerer {
    script: Script,
    asked: mpsc::UnboundedSender<Asked>,
}

#[tonic::async_trait]
impl ledger_server::Ledger for Answerer {
    type FollowStream = Nothing<pb::Followed>;
    type FileStream = Nothing<pb::FileChunk>;

    async fn follow(
        &self,
        _: Request<pb::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn sample(
        &self,
        request: Request<pb::SampleRequest>,
    ) -> Result<Response<pb::SampleReply>, Status> {
        let pb::SampleRequest { window, positions } = request.into_inner();
        let positions = positions_from_wire(positions).expect("positions");
        let answer = (self.script)(window, &positions);
        self.asked.send((window, positions)).expect("somebody asks");
        match answer {
            Answer::Sample(reply) => Ok(Response::new(reply)),
            Answer::Refuse(status) => Err(status),
            Answer::Hang => std::future::pending().await,
        }
    }

    async fn file(
        &self,
        _: Request<pb::FileRequest>,
    ) -> Result<Response<Self::FileStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A sampler, and what it asks and says.
struct Check {
    follower: Follower,
    reports: mpsc::Receiver<(PoolName, Report)>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Check {
    async fn start(pool: PoolName, within: Duration, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let (tell, asked) = mpsc::unbounded_channel();
        let answerer = Answerer {
            script,
            asked: tell,
        };
        let server = tonic::transport::Server::builder().add_service(LedgerServer::new(answerer));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (tell, reports) = follow::reports();
        let mode = Mode::Light {
            samples: SAMPLES,
            within,
        };
        let start = Start {
            file: "nothing-is-kept".into(),
            spacing: Duration::ZERO,
            signers_min: 2,
        };
        let follower = Follower::start(mode, &address, pool, (start, None), tell);
        Self {
            follower: follower.expect("it samples"),
            reports,
            asked,
        }
    }

    async fn report(&mut self) -> Report {
        let report = tokio::time::timeout(DEADLINE, self.reports.recv()).await;
        report.expect("in time").expect("a report").1
    }

    async fn sampled(&mut self) -> u64 {
        match self.report().await {
            Report::Sampled { window, samples } => {
                assert_eq!(samples, SAMPLES);
                window
            }
            other => panic!("{other:?}"),
        }
    }

    async fn unanswered(&mut self) -> (u64, String) {
        match self.report().await {
            Report::Unanswered { window, why } => (window, why),
            other => panic!("{other:?}"),
        }
    }

    async fn silent(&mut self) -> (usize, Duration) {
        match self.report().await {
            Report::Silent { windows, pause } => (windows, pause),
            other => panic!("{other:?}"),
        }
    }

    /// The next requests: all of one window, with the same positions.
    fn same(&mut self, times: u32) -> Asked {
        let first = self.asked.try_recv().expect("asked");
        for _ in 1..times {
            assert_eq!(self.asked.try_recv().expect("asked again"), first);
        }
        first
    }
}

/// A window that was closed by an honest coordinator, and how it answers.
struct Window {
    pool: PoolName,
    record: WindowRecord,
    terms: Vec<RoundTerms>,
    shares: Vec<ShareRecord>,
}

impl Window {
    fn honest() -> Self {
        let mut world = World::new(WorldOptions::default());
        for miner in 0..3 {
            world.connect(miner);
        }
        world.new_tip();
        world.run_until(Millis(1_000), "a round", World::all_hash_last_round);
        for miner in [0, 0, 0, 1, 0, 2, 0, 1] {
            world.share(miner);
            world.settle();
        }
        let before = world.coordinator.ledger().seq();
        world.new_tip();
        world.run_until(Millis(1_000), "a round on the new tip", |world| {
            world.coordinator.ledger().seq() > before && world.all_hash_last_round()
        });
        let archive = Archive::of(&world).expect("segments");
        let busy = |segment: &&Segment| segment.end.record.tally.len() > 1;
        let segment = archive.segments.iter().find(busy).expect("shares");
        let part = &segment.parts[0];
        let checked = |terms: &RoundTerms| terms.clone().check(&segment.pool).expect("terms");
        let terms: Vec<_> = part.terms.iter().map(checked).collect();
        let share = |share: &tutti_proto::segment::PackedShare| {
            let terms = &terms[usize::from(share.terms)];
            let owner = terms.owners()[share.owner as usize];
            terms.judge(&owner, &share.rolled).expect("a share").record
        };
        Self {
            pool: segment.pool,
            record: segment.end.record.clone(),
            terms: part.terms.clone(),
            shares: part.shares.iter().map(share).collect(),
        }
    }

    /// As if it were another window, not much later: a sample does not know the chain.
    fn at(&self, seq: u64) -> WindowRecord {
        WindowRecord {
            seq: WindowSeq(seq),
            ..self.record.clone()
        }
    }

    /// With twice the work, which the last of those who worked never did.
    fn inflated(&self, seq: u64) -> WindowRecord {
        let mut record = self.at(seq);
        let more = total(&record.tally).expect("a sum").0;
        let last = record.tally.values_mut().next_back().expect("work");
        last.0 += more;
        record
    }

    /// None where there is no share.
    fn sample(&self, positions: &[Work]) -> Option<Sample> {
        let openings = Openings::of(&self.shares).expect("a sum");
        let open = |position: &Work| {
            let opening = openings.at(*position)?;
            let word = |at: usize| {
                let bytes = opening.share.header[at..at + 4].try_into();
                u32::from_le_bytes(bytes.expect("four bytes"))
            };
            let round = opening.share.round;
            let place = self.terms.iter().position(|terms| {
                terms.round() == round && terms.header.previous_block == opening.share.header[4..36]
            });
            Some(SampledShare {
                terms: place.expect("its terms"),
                identity: opening.share.identity,
                rolled: Rolled {
                    lane: opening.share.lane,
                    version: word(0) as i32,
                    time: word(68),
                    nonce: word(76),
                },
                path: opening.path,
                shares: opening.shares,
                account_path: opening.account_path,
            })
        };
        let shares: Option<Vec<_>> = positions.iter().map(open).collect();
        Some(Sample {
            terms: self.terms.clone(),
            shares: shares?,
        })
    }

    /// What an honest answer, changed by a liar, shows.
    async fn lie(
        self,
        record: WindowRecord,
        change: impl Fn(&mut Sample) + Send + Sync + 'static,
    ) -> SampleError {
        let pool = self.pool;
        let script = move |_, positions: &[Work]| {
            let mut sample = self.sample(positions).expect("all are there");
            change(&mut sample);
            Answer::Sample(sample.to_wire())
        };
        let mut check = Check::start(pool, DEADLINE, Box::new(script)).await;
        check.follower.closed(&record);
        match check.report().await {
            Report::False(LedgerFault::Sampled(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

fn refuse() -> Answer {
    Answer::Refuse(Status::not_found("no such window here"))
}

#[tokio::test]
async fn whoever_hangs_refuses_or_talks_nonsense_is_left_and_a_later_answer_to_the_same_question_counts()
 {
    let window = Window::honest();
    let (pool, records) = (window.pool, (11..=15).map(|seq| window.at(seq)));
    let records: Vec<_> = records.collect();
    let (answers, is_good) = tokio::sync::watch::channel(false);
    let script = move |seq, positions: &[Work]| match (seq, *is_good.borrow()) {
        (15, _) | (_, true) => {
            let sample = window.sample(positions).expect("all are there");
            Answer::Sample(sample.to_wire())
        }
        (11, _) => Answer::Hang,
        (12, _) => {
            let mut reply = window.sample(positions).expect("all").to_wire();
            // Not 32 bytes.
            reply.openings[0].identity = vec![1, 2, 3].into();
            Answer::Sample(reply)
        }
        _ => refuse(),
    };
    let within = Duration::from_secs(1);
    let mut check = Check::start(pool, within, Box::new(script)).await;
    let mut questions = Vec::new();
    for (record, said) in records
        .iter()
        .zip(["no answer in", "malformed", "no such window"])
    {
        check.follower.closed(record);
        let (window, why) = check.unanswered().await;
        assert_eq!(window, record.seq.0);
        assert!(why.contains(said), "{why}");
        questions.push(check.same(TRIES));
    }
    let (windows, first) = check.silent().await;
    assert_eq!(windows, UNANSWERED_LIMIT);
    assert!(first >= Duration::from_secs(30), "{first:?}");
    // Whoever is no better when we are back is left again, for longer at most.
    check.follower.closed(&records[3]);
    assert_eq!(check.unanswered().await.0, 14);
    let (windows, second) = check.silent().await;
    assert_eq!(windows, UNANSWERED_LIMIT);
    assert!(second >= Duration::from_secs(60), "{second:?}");
    check.same(TRIES);
    // It answers again, what it owes too.
    answers.send(true).expect("it runs");
    check.follower.closed(&records[4]);
    assert_eq!(check.sampled().await, 15);
    for seq in 11..=13 {
        assert_eq!(check.sampled().await, seq);
    }
    check.same(1);
    for question in questions {
        assert_eq!(check.same(1), question, "asked again unchanged");
    }
    // And nothing is owed any more.
    check.follower.closed(&records[3]);
    assert_eq!(check.sampled().await, 14);
    assert!(check.reports.try_recv().is_err());
}

#[tokio::test]
async fn false_work_is_not_hidden_by_refusing_the_positions_where_it_stands_nor_by_honest_windows_between()
 {
    let window = Window::honest();
    let (pool, honest) = (window.pool, [12, 14].map(|seq| window.at(seq)));
    let inflated = [11, 13, 15].map(|seq| window.inflated(seq));
    // It answers only if all positions fall into shares that there are.
    let script = move |_, positions: &[Work]| match window.sample(positions) {
        Some(sample) => Answer::Sample(sample.to_wire()),
        None => refuse(),
    };
    let mut check = Check::start(pool, DEADLINE, Box::new(script)).await;
    let mut owed: Vec<Asked> = Vec::new();
    for (place, lie) in inflated.iter().enumerate() {
        check.follower.closed(lie);
        assert_eq!(check.unanswered().await.0, lie.seq.0);
        // After the honest window before, what was owed was asked for again.
        for question in &owed {
            assert_eq!(&check.same(1), question);
        }
        owed.push(check.same(TRIES));
        if let Some(honest) = honest.get(place) {
            check.follower.closed(honest);
            assert_eq!(check.sampled().await, honest.seq.0);
            check.same(1);
        }
    }
    assert_eq!(check.silent().await.0, UNANSWERED_LIMIT);
    let distinct: BTreeSet<&Asked> = owed.iter().collect();
    assert_eq!(distinct.len(), 3, "each window has positions of its own");
}

#[tokio::test]
async fn windows_that_close_while_an_answer_is_waited_for_do_not_pile_up_and_are_not_passed_over() {
    let window = Window::honest();
    let (pool, record) = (window.pool, window.at(11));
    let (answers, is_good) = tokio::sync::watch::channel(false);
    let script = move |_, positions: &[Work]| match *is_good.borrow() {
        true => Answer::Sample(window.sample(positions).expect("all").to_wire()),
        false => Answer::Hang,
    };
    let within = Duration::from_secs(2);
    let mut check = Check::start(pool, within, Box::new(script)).await;
    check.follower.closed(&record);
    let first = tokio::time::timeout(DEADLINE, check.asked.recv()).await;
    assert_eq!(first.expect("in time").expect("asked").0, 11);
    for _ in 0..30 {
        check.follower.closed(&record);
    }
    answers.send(true).expect("it runs");
    // The one that was asked for, and those that found room.
    for _ in 0..17 {
        check.sampled().await;
    }
    // None of the others comes later; but they are not forgotten.
    check.follower.closed(&record);
    check.sampled().await;
    assert_eq!(check.silent().await.0, 14);
}

#[tokio::test]
async fn a_share_too_few() {
    let window = Window::honest();
    let record = window.at(11);
    let error = window.lie(record, |sample| {
        sample.shares.pop();
    });
    let (got, want) = (SAMPLES - 1, SAMPLES);
    assert_eq!(error.await, SampleError::Count { got, want });
}

#[tokio::test]
async fn terms_that_do_not_belong_together_and_a_share_of_a_round_that_is_not_there() {
    let window = Window::honest();
    let (record, bits) = (window.at(11), window.terms[0].inputs.bits);
    let error = window.lie(record, |sample| sample.terms[0].header.bits += 1);
    let told = bits + 1;
    assert_eq!(error.await, TermsError::Bits { told, bits }.into());

    let window = Window::honest();
    let record = window.at(11);
    let error = window.lie(record, |sample| sample.shares[0].terms = 63);
    assert!(matches!(error.await, SampleError::Dangling(_)));
}

#[tokio::test]
async fn shares_of_a_round_that_is_over_or_not_proposed_yet() {
    for age in [0, 1_002] {
        let window = Window::honest();
        let record = window.at(window.terms[0].inputs.ledger.seq.0 + age);
        let error = window.lie(record, |_| ()).await;
        assert!(matches!(error, SampleError::OldRound(_)), "{error}");
    }
}

#[tokio::test]
async fn one_header_in_two_places() {
    let window = Window::honest();
    let record = window.at(11);
    let error = window.lie(record, |sample| {
        // Of 64 positions in eight shares some fall into one.
        let nonce = |share: &SampledShare| (share.rolled.nonce, share.rolled.lane);
        let first = nonce(&sample.shares[0]);
        let mut later = sample.shares.iter_mut().skip(1);
        let again = later.find(|share| nonce(share) == first).expect("again");
        again.account_path.pop();
    });
    assert!(matches!(error.await, SampleError::Duplicate(_)));
}

#[tokio::test]
async fn a_share_that_is_none_and_one_that_is_not_below_the_records_root() {
    let window = Window::honest();
    let record = window.at(11);
    let error = window.lie(record, |sample| sample.shares[0].rolled.time = 0);
    match error.await {
        SampleError::Share { refusal, .. } => {
            assert_eq!(refusal.code, RejectCode::TimeOutOfRange);
        }
        other => panic!("{other}"),
    }

    let window = Window::honest();
    let record = window.at(11);
    let error = window.lie(record, |sample| sample.shares[0].shares += 1);
    assert!(matches!(error.await, SampleError::Opening { .. }));
}
