//! A window that cannot be told, because the store has lost what its booking's round was: it is said to be
//! lost, not told without it, which would look like a lie, and not said to be forgotten.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/store.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::path::Path;

use ledger::{Served, WITHIN, serve};
use support::{close, close_with, found, machine, open, replay};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tutti_coordinator::feed::Feed;
use tutti_coordinator::grpc::{LedgerLimits, LedgerSide};
use tutti_coordinator::segments::{Archive, ArchiveSettings, Directory, Durable, Name};
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::Record;
use tutti_proto::id::WindowSeq;
use tutti_proto::window::{Booking, Ledger};
use tutti_proto::wire::pb;
use tutti_proto::wire::pb::followed::Followed as Told;
use tutti_proto::wire::pb::ledger_client::LedgerClient;

/// Closes a window without shares that books a block of a round that the store does not know.
fn close_with_booking(ledger: &mut Ledger) -> Record {
    let found = found(7);
    let booking = Booking {
        block: found.hash,
        round: found.round,
        lane: found.lane,
        undone: false,
        carry: found.carry,
        payouts: found.payouts.digest(),
        header: found.header,
    };
    close_with(ledger, &[], vec![booking])
}

/// What a running coordinator has beside its rounds.
struct Daemon {
    store: Store,
    feed: Feed,
    archive: Archive,
    index: watch::Receiver<tutti_coordinator::segments::Index>,
    served: Served,
    ledger: Ledger,
}

fn durable(store: &Store, ledger: &Ledger) -> Durable {
    Durable {
        log_end: store.log_end(),
        shares_from: ledger.seq().next(),
    }
}

/// A coordinator that has closed one window.
async fn daemon(path: &Path) -> Daemon {
    let (mut store, mut ledger) = (open(&path.join("store")), Ledger::default());
    store.save(&[close(&mut ledger, 0)]).unwrap();
    let (coordinator, records) = machine(replay(&store));
    store.save(&records).unwrap();
    let (directory, index) = Directory::open(&path.join("segments")).unwrap();
    let (checkpoint, _) = watch::channel(None);
    let settings = ArchiveSettings {
        directory: directory.clone(),
        index,
        params: coordinator.params().clone(),
        ledger: coordinator.ledger().clone(),
        unsettled: Vec::new(),
        open: Vec::new(),
        keep_windows: 0,
        checkpoint: checkpoint.clone(),
    };
    let end = store.log_end();
    let (archive, index) =
        Archive::start(settings, store.reader(), durable(&store, &ledger)).unwrap();
    let feed = Feed::start(
        &coordinator,
        store.reader(),
        end,
        (checkpoint, index.clone()),
    );
    let (feed, watched) = feed.unwrap();
    let side = LedgerSide {
        watched,
        index: index.clone(),
        directory,
        limits: LedgerLimits {
            followers: 8,
            followers_per_address: 8,
            downloads: 1,
            downloads_per_address: 1,
            samples: 1,
            samples_per_address: 1,
        },
    };
    let served = serve(side).await;
    Daemon {
        store,
        feed,
        archive,
        index,
        served,
        ledger,
    }
}

impl Daemon {
    fn save(&mut self, record: Record) {
        self.store.save(std::slice::from_ref(&record)).unwrap();
        self.feed.tell(&[record]);
        self.archive.wake(durable(&self.store, &self.ledger));
    }

    async fn dealt_with(&mut self, window: u64) {
        let is_there = |index: &tutti_coordinator::segments::Index| index.dealt_with.0 >= window;
        let waited = timeout(WITHIN, self.index.wait_for(is_there)).await;
        waited.unwrap().unwrap();
    }

    async fn follow(&self, window: u64) -> Streaming<pb::Followed> {
        let endpoint = Endpoint::from_shared(self.served.address.clone()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let request = pb::FollowRequest { window, shares: 0 };
        let mut client = LedgerClient::new(channel);
        client.follow(request).await.unwrap().into_inner()
    }
}

/// The windows that are told to their end, and how the stream ends.
async fn told(mut stream: Streaming<pb::Followed>) -> (Vec<u64>, Status) {
    let mut ended = Vec::new();
    loop {
        match timeout(WITHIN, stream.message()).await.expect("in time") {
            Ok(next) => {
                if let Some(Told::End(end)) = next.expect("no end without a word").followed {
                    ended.push(end.record.unwrap().seq);
                }
                assert!(!ended.contains(&2), "the lost window is told to its end");
            }
            Err(status) => return (ended, status),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_bookings_terms_are_lost_is_said_to_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = daemon(dir.path()).await;
    let live = daemon.follow(2).await;
    let closed = close_with_booking(&mut daemon.ledger);
    daemon.save(closed);
    // Whoever was in it is to come again, and is told then.
    let (ended, status) = told(live).await;
    assert_eq!(ended, [0; 0], "{status}");
    for (from, whole) in [(2, vec![]), (1, vec![1])] {
        let (ended, status) = told(daemon.follow(from).await).await;
        assert_eq!((ended, status.code()), (whole, Code::DataLoss), "{status}");
    }
    daemon.dealt_with(2).await;
    // Of the next one everything is there, and a restart knows the lost one still.
    let next = close(&mut daemon.ledger, 0);
    daemon.save(next);
    daemon.dealt_with(3).await;
    assert!(
        daemon
            .index
            .borrow()
            .file(&Name::Window(WindowSeq(3)))
            .is_some()
    );
    let (_, index) = Directory::open(&dir.path().join("segments")).unwrap();
    let lost = (1..=4).map(|window| index.is_lost(WindowSeq(window)));
    assert_eq!(lost.collect::<Vec<_>>(), [false, true, false, false]);
}
