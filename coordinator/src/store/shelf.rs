//! Where live rounds are kept while they live: small records, removed when their round is forgotten.
//!
//! A template's transactions may be megabytes, of which the next one repeats most. So each
//! transaction is stored once for all templates of its height, and assignments once for all
//! consecutive rounds that have them. Everything is in parts small enough to share a page of the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled::{Batch, Tree};
use tutti_proto::coordinator::{LiveNumber, LiveRecord, Record};
use tutti_proto::id::Identity;
use tutti_proto::lane::Assignments;

use super::RecordError;
use super::key::{self, Key, Space};
use super::live::{self, Read, Shared};
use super::record::{kind, of_kind, seal_content, unseal};

/// Bytes of a part: sixteen of them, which may share a leaf of the tree, stay below what sled keeps in
/// one.
pub(super) const PART_SIZE: usize = 7_000;
/// Jobs of a record.
const JOBS_OF_RECORD: usize = 200;
/// The one number of what is kept ahead.
const AHEAD: u64 = 0;

/// Transactions of a height, by their places.
type Transactions = Vec<Arc<[u8]>>;

/// A record that cannot be read, and what it was.
pub(super) type Damage = Box<(Key, RecordError)>;

/// What the shelf knows of its records without reading them.
#[derive(Default)]
pub(super) struct Shelf {
    /// Records of each value: parts, or jobs.
    counts: BTreeMap<(u8, u64), u64>,
    /// What each round, and the one ahead, shares with others.
    shares: BTreeMap<(u8, u64), (u32, u64)>,
    assignments: BTreeMap<u64, Arc<Assignments>>,
    /// Transactions of each height, and their places.
    transactions: BTreeMap<u32, BTreeMap<Arc<[u8]>, u64>>,
}

/// A live round as it was kept.
pub(super) struct KeptRound {
    pub(super) number: LiveNumber,
    pub(super) round: Arc<LiveRecord>,
    /// None once its shares count no more.
    pub(super) jobs: Option<Vec<(Identity, u8)>>,
}

/// All that was kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) intact: Intact,
    /// Rounds that cannot be read, and why.
    pub(super) damaged: BTreeMap<LiveNumber, Damage>,
    /// The same of the one that was kept ahead.
    pub(super) damaged_ahead: Option<Damage>,
}

/// What is as it was written.
#[derive(Default)]
pub(super) struct Intact {
    pub(super) rounds: Vec<KeptRound>,
    pub(super) ahead: Option<Arc<LiveRecord>>,
}

impl Intact {
    /// The records that it follows from.
    pub(super) fn into_records(self) -> Vec<Record> {
        let mut records = Vec::new();
        for kept in self.rounds {
            let (number, round) = (kept.number, kept.round);
            records.push(Record::Live { number, round });
            records.push(match kept.jobs {
                Some(z) => Record::JobsIssued { number, z },
                None => Record::LiveStale(number),
            });
        }
        let ahead = self.ahead.map(Some).map(Record::KeptAhead);
        records.extend(ahead);
        records
    }
}

fn id(space: Space, number: u64) -> (u8, u64) {
    (space.prefix()[0], number)
}

/// Reads what sled keeps, part by part.
struct Reader<'a> {
    tree: &'a Tree,
    counts: &'a BTreeMap<(u8, u64), u64>,
}

impl Reader<'_> {
    fn records(&self, space: Space, number: u64) -> u64 {
        let count = self.counts.get(&id(space, number));
        count.copied().unwrap_or_default()
    }

    fn record(&self, key: Key, kind: u8) -> Result<Vec<u8>, Damage> {
        let value = self.tree.get(key.to_bytes());
        let value = value
            .ok()
            .flatten()
            .ok_or_else(|| Box::new((key, RecordError::Missing)))?;
        let content = unseal(&key, &value).and_then(|sealed| of_kind(kind, sealed));
        content
            .map(<[u8]>::to_vec)
            .map_err(|error| Box::new((key, error)))
    }

    /// A value of parts; the first byte of each says whether it is the last.
    fn value(&self, space: Space, number: u64, kind: u8) -> Result<Vec<u8>, Damage> {
        let (mut value, mut ended) = (Vec::new(), false);
        let count = self.records(space, number);
        for part in 0..count {
            let key = Key::Part(space, number, part);
            let content = self.record(key, kind)?;
            let (last, content) = content
                .split_first()
                .ok_or_else(|| Box::new((key, RecordError::Length)))?;
            ended = *last == 1;
            value.extend_from_slice(content);
        }
        if ended {
            Ok(value)
        } else {
            let key = Key::Part(space, number, count);
            Err(Box::new((key, RecordError::Missing)))
        }
    }

    fn jobs(&self, number: u64) -> Result<Option<Vec<(Identity, u8)>>, Damage> {
        let mut jobs = Vec::new();
        for part in 0..self.records(Space::Jobs, number) {
            let key = Key::Part(Space::Jobs, number, part);
            let content = self.record(key, kind::JOBS)?;
            if content.is_empty() {
                return Ok(None);
            }
            jobs.extend(live::decode_jobs(&content).map_err(|error| Box::new((key, error)))?);
        }
        Ok(Some(jobs))
    }
}

/// The values that rounds share, each read once.
#[derive(Default)]
struct SharedValues {
    assignments: BTreeMap<u64, Result<Arc<Assignments>, Damage>>,
    transactions: BTreeMap<u32, Result<Transactions, Damage>>,
}

impl SharedValues {
    fn round(
        &mut self,
        reader: &Reader<'_>,
        space: Space,
        number: u64,
    ) -> Result<(LiveRecord, (u32, u64)), Damage> {
        let first = Key::Part(space, number, 0);
        let content = reader.value(space, number, kind::LIVE)?;
        let read = Read::decode(&content).map_err(|error| Box::new((first, error)))?;
        let of = (read.height(), read.assignments());
        let assignments = self.assignments.entry(of.1).or_insert_with(|| {
            let content = reader.value(Space::Assignments, of.1, kind::ASSIGNMENTS)?;
            let key = Key::Part(Space::Assignments, of.1, 0);
            let decoded =
                live::decode_assignments(&content).map_err(|error| Box::new((key, error)))?;
            Ok(Arc::new(decoded))
        });
        let assignments = assignments.clone()?;
        let height = u64::from(of.0);
        let known = self.transactions.entry(of.0).or_insert_with(|| {
            if reader.records(Space::Transactions, height) == 0 {
                return Ok(Vec::new());
            }
            let content = reader.value(Space::Transactions, height, kind::TRANSACTIONS)?;
            let key = Key::Part(Space::Transactions, height, 0);
            live::decode_transactions(&content).map_err(|error| Box::new((key, error)))
        });
        let known = known.as_ref().map_err(Clone::clone)?;
        let round = read.complete(assignments, known);
        Ok((round.map_err(|error| Box::new((first, error)))?, of))
    }
}

impl Shelf {
    /// Reads all that is kept. What is damaged is named, and the rest is as good as before.
    pub(super) fn load(tree: &Tree) -> Result<(Self, Kept), sled::Error> {
        let mut counts: BTreeMap<(u8, u64), u64> = BTreeMap::new();
        for space in Space::LIVE {
            for found in tree.scan_prefix(space.prefix()) {
                if let Some((number, part)) = key::numbers(&found?.0) {
                    counts.insert(id(space, number), part.saturating_add(1));
                }
            }
        }
        let (mut shelf, mut kept) = (Self::default(), Kept::default());
        let mut values = SharedValues::default();
        let reader = Reader {
            tree,
            counts: &counts,
        };
        let of = |space: Space| counts.keys().filter(move |key| key.0 == id(space, 0).0);
        let numbers: BTreeSet<u64> = of(Space::Live)
            .chain(of(Space::Jobs))
            .map(|k| k.1)
            .collect();
        for number in numbers {
            let round = values.round(&reader, Space::Live, number);
            let read = round.and_then(|round| Ok((round, reader.jobs(number)?)));
            match read {
                Ok(((round, of), jobs)) => {
                    shelf.shares.insert(id(Space::Live, number), of);
                    kept.intact.rounds.push(KeptRound {
                        number: LiveNumber(number),
                        round: Arc::new(round),
                        jobs,
                    });
                }
                Err(damage) => {
                    kept.damaged.insert(LiveNumber(number), damage);
                }
            }
        }
        if reader.records(Space::Ahead, AHEAD) > 0 {
            match values.round(&reader, Space::Ahead, AHEAD) {
                Ok((round, of)) => {
                    shelf.shares.insert(id(Space::Ahead, AHEAD), of);
                    kept.intact.ahead = Some(Arc::new(round));
                }
                Err(damage) => kept.damaged_ahead = Some(damage),
            }
        }
        for (number, assignments) in values.assignments {
            if let Ok(assignments) = assignments {
                shelf.assignments.insert(number, assignments);
            }
        }
        for (height, transactions) in values.transactions {
            if let Ok(known) = transactions {
                let places = known.into_iter().zip(0..).collect();
                shelf.transactions.insert(height, places);
            }
        }
        shelf.counts = counts;
        Ok((shelf, kept))
    }

    /// Adds what a record of a live round asks for; says whether it was one.
    pub(super) fn add(&mut self, batch: &mut Batch, record: &Record) -> bool {
        match record {
            Record::Live { number, round } => self.put_round(batch, Space::Live, number.0, round),
            Record::KeptAhead(Some(round)) => {
                self.remove(batch, Space::Ahead, AHEAD);
                self.put_round(batch, Space::Ahead, AHEAD, round);
            }
            Record::KeptAhead(None) => self.remove(batch, Space::Ahead, AHEAD),
            Record::JobsIssued { number, z } => {
                for jobs in z.chunks(JOBS_OF_RECORD) {
                    let content = live::encode_jobs(jobs);
                    self.append(batch, Space::Jobs, number.0, kind::JOBS, &content);
                }
            }
            Record::LiveStale(number) => {
                self.remove(batch, Space::Jobs, number.0);
                // One without jobs says that there will be no more.
                self.append(batch, Space::Jobs, number.0, kind::JOBS, &[]);
            }
            Record::LiveForgotten(number) => {
                self.remove(batch, Space::Jobs, number.0);
                self.remove(batch, Space::Live, number.0);
            }
            _ => return false,
        }
        true
    }

    /// Removes what no round shares any more; once a batch holds all else.
    pub(super) fn sweep(&mut self, batch: &mut Batch) {
        let heights: BTreeSet<u64> = self.shares.values().map(|of| u64::from(of.0)).collect();
        let numbers: BTreeSet<u64> = self.shares.values().map(|of| of.1).collect();
        for (space, wanted) in [
            (Space::Transactions, heights),
            (Space::Assignments, numbers),
        ] {
            let letter = id(space, 0).0;
            let there = self.counts.keys().filter(|key| key.0 == letter);
            let there: Vec<u64> = there.map(|key| key.1).collect();
            for number in there.into_iter().filter(|number| !wanted.contains(number)) {
                self.remove(batch, space, number);
            }
        }
    }

    fn append(&mut self, batch: &mut Batch, space: Space, number: u64, kind: u8, content: &[u8]) {
        let count = self.counts.entry(id(space, number)).or_default();
        let key = Key::Part(space, number, *count);
        *count = count.saturating_add(1);
        batch.insert(key.to_bytes(), seal_content(&key, kind, content));
    }

    fn append_value(
        &mut self,
        batch: &mut Batch,
        (space, number): (Space, u64),
        kind: u8,
        content: &[u8],
    ) {
        let parts = content.len().div_ceil(PART_SIZE).max(1);
        let mut rest = content;
        for part in 1..=parts {
            let (now, later) = rest.split_at(rest.len().min(PART_SIZE));
            let last = u8::from(part == parts);
            let content = [&[last], now].concat();
            self.append(batch, space, number, kind, &content);
            rest = later;
        }
    }

    fn put_round(&mut self, batch: &mut Batch, space: Space, number: u64, of: &LiveRecord) {
        let height = of.template.height;
        let assignments = self.put_assignments(batch, &of.assignments);
        let transactions = self.put_transactions(batch, height, &of.template.transactions);
        let content = live::encode(
            of,
            Shared {
                assignments,
                transactions,
            },
        );
        self.append_value(batch, (space, number), kind::LIVE, &content);
        self.shares.insert(id(space, number), (height, assignments));
    }

    fn put_assignments(&mut self, batch: &mut Batch, of: &Arc<Assignments>) -> u64 {
        let mut known = self.assignments.iter().rev();
        let same = known.find(|(_, known)| Arc::ptr_eq(known, of) || *known == of);
        if let Some((number, _)) = same {
            return *number;
        }
        let used = |key: &&(u8, u64)| key.0 == id(Space::Assignments, 0).0;
        let last = self.counts.keys().filter(used).map(|key| key.1).max();
        let number = last.map_or(0, |last| last.saturating_add(1));
        let content = live::encode_assignments(of);
        let at = (Space::Assignments, number);
        self.append_value(batch, at, kind::ASSIGNMENTS, &content);
        self.assignments.insert(number, of.clone());
        number
    }

    /// The places of a template's transactions, after adding those that are new.
    fn put_transactions(&mut self, batch: &mut Batch, height: u32, of: &[Arc<[u8]>]) -> Vec<u64> {
        if of.is_empty() {
            return Vec::new();
        }
        if !self.transactions.contains_key(&height) {
            // Of what is damaged nothing is continued.
            self.remove(batch, Space::Transactions, u64::from(height));
        }
        let places = self.transactions.entry(height).or_default();
        let mut new: Vec<&Arc<[u8]>> = Vec::new();
        let mut of_template = Vec::with_capacity(of.len());
        for transaction in of {
            let next = places.len() as u64;
            let place = *places.entry(transaction.clone()).or_insert_with(|| {
                new.push(transaction);
                next
            });
            of_template.push(place);
        }
        if !new.is_empty() {
            let content = live::encode_transactions(new.into_iter());
            let at = (Space::Transactions, u64::from(height));
            self.append_value(batch, at, kind::TRANSACTIONS, &content);
        }
        of_template
    }

    fn remove(&mut self, batch: &mut Batch, space: Space, number: u64) {
        let count = self.counts.remove(&id(space, number)).unwrap_or_default();
        for part in 0..count {
            batch.remove(Key::Part(space, number, part).to_bytes());
        }
        match space {
            Space::Live | Space::Ahead => drop(self.shares.remove(&id(space, number))),
            Space::Assignments => drop(self.assignments.remove(&number)),
            Space::Transactions => {
                let height = u32::try_from(number).ok();
                drop(height.and_then(|height| self.transactions.remove(&height)));
            }
            Space::Jobs | Space::Base => {}
        }
    }
}
