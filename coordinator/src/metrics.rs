//! What a monitoring system reads (`[metrics]` in the configuration): what was counted since the start, and what is so
//! now, as OpenMetrics text over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use prost::bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tutti_proto::coordinator::{Event, Fate, RoundKind};
use tutti_proto::message::AbortReason;
use tutti_proto::reject::RejectCode;
use tutti_proto::wire::PoolInfo;
use tutti_proto::work::Work;

use crate::news::{News, abort_reason};

/// Who reads at once; others are turned away.
const READERS: usize = 8;
/// How long one may take.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// After the socket fails.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const ROUNDS: [&str; 3] = ["present", "next_height", "direct"];
const BLOCKS: [&str; 7] = [
    "found",
    "accepted",
    "refused",
    "not_booked",
    "lost",
    "back",
    "settled",
];

/// Counts by one name.
type By = Family<[(&'static str, &'static str); 1], Counter>;

/// What is counted.
pub struct Metrics {
    registry: Registry,
    shares: Counter,
    /// Hashes beyond 2^53 are not exact, and need not be.
    work: Counter<f64, AtomicU64>,
    shares_refused: By,
    refused: By,
    rounds: By,
    round_seconds: Histogram,
    attempts_failed: By,
    blocks: By,
    flush_seconds: Histogram,
    now: Now,
}

/// What Pool.Info says.
#[derive(Default)]
struct Now {
    participants: Gauge,
    payees: Gauge,
    signers: Gauge,
    height: Gauge,
    window: Gauge,
}

fn begin(family: &By, name: &'static str, values: impl IntoIterator<Item = &'static str>) {
    for value in values {
        drop(family.get_or_create(&[(name, value)]));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("tutti"),
            shares: Counter::default(),
            work: Counter::default(),
            shares_refused: By::default(),
            refused: By::default(),
            rounds: By::default(),
            // 1 ms to 16 s, and 100 us to 1.6 s.
            round_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            attempts_failed: By::default(),
            blocks: By::default(),
            flush_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 15)),
            now: Now::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        // From the start: of what appears with its first count no system sees that it rose.
        let codes = || RejectCode::ALL.iter().map(|code| code.token());
        let reasons = AbortReason::ALL.iter().map(|reason| abort_reason(*reason));
        begin(&self.shares_refused, "code", codes());
        begin(&self.refused, "code", codes());
        begin(&self.rounds, "kind", ROUNDS);
        begin(&self.attempts_failed, "reason", reasons);
        begin(&self.blocks, "fate", BLOCKS);
        let registry = &mut self.registry;
        let shares = "Shares that were made durable and acknowledged";
        registry.register("shares", shares, self.shares.clone());
        let work = "Work of these shares, expected hashes: its rate is the pool's hashrate";
        registry.register("work_hashes", work, self.work.clone());
        let refused = "Shares that were refused, by reject code";
        registry.register("shares_refused", refused, self.shares_refused.clone());
        let refused = "Other messages that were refused, by reject code";
        registry.register("refused", refused, self.refused.clone());
        let rounds = "Rounds that may be hashed: present, next_height or direct";
        registry.register("rounds", rounds, self.rounds.clone());
        let took = "From a round's first proposal to its commit";
        let (of, seconds) = (self.round_seconds.clone(), Unit::Seconds);
        registry.register_with_unit("round", took, seconds, of);
        let failed = "Attempts that failed, by reason";
        registry.register("attempts_failed", failed, self.attempts_failed.clone());
        let blocks = "Blocks of this pool, by what became of them";
        registry.register("blocks", blocks, self.blocks.clone());
        let flush = "Time of a flush of shares to the disk";
        let (of, seconds) = (self.flush_seconds.clone(), Unit::Seconds);
        registry.register_with_unit("flush", flush, seconds, of);
        for (name, help, of) in [
            (
                "participants",
                "Participants that are joined",
                &self.now.participants,
            ),
            ("payees", "Outputs in the payee set", &self.now.payees),
            (
                "signers",
                "Signers of the last committed round, the coordinator included",
                &self.now.signers,
            ),
            (
                "template_height",
                "Height of the newest template",
                &self.now.height,
            ),
            ("window", "Windows that are closed", &self.now.window),
        ] {
            registry.register(name, help, of.clone());
        }
        self
    }

    /// A share was acknowledged.
    pub(crate) fn share(&self, z: u8) {
        self.shares.inc();
        self.work.inc_by(Work::of_zero_bits(z).0 as f64);
    }

    /// Shares were made durable.
    pub(crate) fn flushed(&self, took: Duration) {
        self.flush_seconds.observe(took.as_secs_f64());
    }

    /// Something happened that the log tells.
    pub(crate) fn happened(&self, event: &Event) {
        let count = |family: &By, name, value| {
            family.get_or_create(&[(name, value)]).inc();
        };
        let block = |fate| count(&self.blocks, "fate", fate);
        match event {
            Event::ShareRefused { code, .. } => count(&self.shares_refused, "code", code.token()),
            Event::Refused { reject, .. } => count(&self.refused, "code", reject.code.token()),
            Event::Committed { kind, took, .. } => {
                let kind = match kind {
                    RoundKind::NextHeight => "next_height",
                    _ => "present",
                };
                count(&self.rounds, "kind", kind);
                self.round_seconds.observe(took.0 as f64 / 1_000.0);
            }
            Event::Direct { .. } => count(&self.rounds, "kind", "direct"),
            Event::AttemptFailed { reason, .. } => {
                count(&self.attempts_failed, "reason", abort_reason(*reason));
            }
            Event::CandidateFound(_) => block("found"),
            Event::BlockAccepted(_) => block("accepted"),
            Event::BlockRefused { .. } => block("refused"),
            Event::BlockNotBooked(_) => block("not_booked"),
            Event::BlockFate { fate, .. } => block(match fate {
                Fate::Lost => "lost",
                Fate::Back => "back",
                Fate::Settled => "settled",
            }),
            _ => {}
        }
    }

    /// All of it, as text.
    fn text(&self, info: &PoolInfo) -> Result<String, std::fmt::Error> {
        let now = &self.now;
        now.participants.set(info.participants.into());
        now.payees.set(info.payees.into());
        now.signers.set(info.signers.into());
        now.height.set(info.height.into());
        now.window
            .set(i64::try_from(info.window.0).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Answers whoever connects, until `stop` changes.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    info: watch::Receiver<PoolInfo>,
    mut stop: watch::Receiver<bool>,
) {
    let readers = Arc::new(Semaphore::new(READERS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                News::accept_failed(&error).tell();
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Ok(place) = readers.clone().try_acquire_owned() else {
            continue;
        };
        let (metrics, info) = (metrics.clone(), info.clone());
        tokio::spawn(async move {
            let answers = service_fn(|request| {
                let answer = answer(&request, &metrics, &info);
                async { Ok::<_, Infallible>(answer) }
            });
            let mut http1 = http1::Builder::new();
            http1.timer(TokioTimer::new()).keep_alive(false);
            let served = http1.serve_connection(TokioIo::new(stream), answers);
            // Whoever is cut off asks again.
            let _ = timeout(READ_WITHIN, served).await;
            drop(place);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    info: &watch::Receiver<PoolInfo>,
) -> Response<Full<Bytes>> {
    let is_asked = request.method() == Method::GET && request.uri().path() == "/metrics";
    let text = is_asked.then(|| metrics.text(&info.borrow().clone()));
    let (status, kind, text) = match text {
        Some(Ok(text)) => (StatusCode::OK, OPENMETRICS, text),
        // Never: a string takes any text.
        Some(Err(_)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            String::new(),
        ),
        None => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "only GET /metrics is here\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_the_alerts_ask_for_is_served() {
        let metrics = Metrics::default();
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap_or_else(|error| panic!("{error}"));
        let served: Vec<&str> = text
            .lines()
            .map(|line| line.split(['{', ' ']).next().unwrap_or(line))
            .collect();
        let alerts = include_str!("../../contrib/prometheus/alerts.yml");
        let mut words = alerts.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let names = words.by_ref().filter(|word| word.starts_with("tutti_"));
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 6, "{names:?}");
        for name in names {
            assert!(served.contains(&name), "{name} of {served:?}");
        }
    }
}
