//! Reading at a start what the state machine goes on from. What is damaged is named or given up here.

use std::collections::BTreeMap;

use tutti_proto::coordinator::{Record, Restored};
use tutti_proto::id::{Identity, RoundSeq, WindowSeq};
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::ShareRecord;

use super::key::{self, Key};
use super::opening::guarded;
use super::rescue::Rescue;
use super::shelf::{Damage, Kept, Shelf};
use super::{RecordError, Store, StoreError, record};

/// What a replay found.
#[derive(Default)]
pub struct Replayed {
    /// State of the state machine.
    pub restored: Restored,
    /// The last committed round; 0 if there was none.
    pub last_round: RoundSeq,
    /// Records that were read.
    pub records: u64,
    /// What is damaged and was given up, because nothing acknowledged depends on it.
    pub given_up: Vec<StoreError>,
    /// Takes out what was given up; to be saved.
    pub repairs: Vec<Record>,
}

impl Store {
    pub(super) fn kept(&self) -> Result<(Shelf, Kept), StoreError> {
        Shelf::load(&self.tree).map_err(|e| self.sled("read", e))
    }

    /// Reads everything the state machine needs; `progress` is told how far it is, in records.
    pub fn replay(
        &self,
        coordinator: &Identity,
        progress: impl FnMut(u64, u64),
    ) -> Result<Replayed, StoreError> {
        let read = guarded(&self.path, "read", || self.read_all(coordinator, progress));
        match (read, &self.rescue) {
            (Ok(replayed), rescue) => {
                self.forget_rescue(rescue)?;
                Ok(replayed)
            }
            (Err(error), _) => Err(error.with(Rescue::find(&self.path))),
        }
    }

    pub(super) fn forget_rescue(&self, rescue: &Option<Rescue>) -> Result<(), StoreError> {
        let removed = rescue.as_ref().map_or(Ok(()), Rescue::remove);
        removed.map_err(|e| self.sled("tidy", e.into()))
    }

    fn read_all(
        &self,
        coordinator: &Identity,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Replayed, StoreError> {
        let mut replayed = Replayed::default();
        let mut window = WindowSeq(0);
        let reader = self.reader();
        let mut of = self.next;
        if let Some(base) = reader.base()? {
            of = of.saturating_sub(base.number);
            window = base.window();
            replayed.restored = base.restore(&reader, coordinator)?;
        }
        let mut closed_shares: BTreeMap<WindowSeq, u64> = BTreeMap::new();
        self.each_log(|key, record| {
            if let Record::WindowClosed(closed) = &record {
                window = closed.record.seq;
                closed_shares.insert(window, closed.record.shares);
            }
            self.apply(&mut replayed, coordinator, key, record)?;
            progress(replayed.records, of);
            Ok(())
        })?;
        self.replay_live(&mut replayed, coordinator)?;
        self.replay_credits(&mut replayed, coordinator, &closed_shares)?;
        let window = window.next();
        let mut read_to = 0;
        let read = reader.each_share(window, |key, index, share| {
            read_to = index.saturating_add(1);
            let record = Record::Share {
                window,
                index,
                share,
            };
            self.apply(&mut replayed, coordinator, key, record)
        });
        match read {
            Err(StoreError::Damaged {
                key,
                source: RecordError::Missing,
                ..
            }) => return Err(self.lost(key, window, self.at.shares)?),
            // sled may find a last one, and what is before it not.
            Ok(()) if window == self.at.window && read_to < self.at.shares => {
                let key = Key::Share(window, read_to).to_string();
                return Err(self.lost(key, window, self.at.shares)?);
            }
            read => read?,
        }
        if let Some(entry) = self.tree.scan_prefix(Key::COMMITTED).next_back() {
            let (key, _) = entry.map_err(|e| self.sled("read", e))?;
            replayed.last_round = match key::of_round(&key) {
                Some(Key::Committed(seq, _)) => seq,
                // Of a time when the round was not in the key.
                _ => RoundSeq(self.number(&key)?),
            };
        }
        Ok(replayed)
    }

    /// The records of live rounds that are there, as a replay gives them.
    pub fn live_records(&self) -> Result<Vec<Record>, StoreError> {
        let (_, kept) = self.kept()?;
        Ok(kept.intact.into_records())
    }

    /// The live rounds and the jobs issued on them.
    fn replay_live(
        &self,
        replayed: &mut Replayed,
        coordinator: &Identity,
    ) -> Result<(), StoreError> {
        let (_, kept) = self.kept()?;
        let mut give_up = |record: Record, damage: Damage| {
            let (key, source) = *damage;
            replayed.given_up.push(self.damaged(&key, source));
            replayed.repairs.push(record);
        };
        // What is given up keeps its number: whatever of it is left belongs to no other round.
        let numbers = kept.intact.rounds.iter().map(|kept| kept.number);
        let last = numbers.chain(kept.damaged.keys().copied()).max();
        for (number, damage) in kept.damaged {
            give_up(Record::LiveForgotten(number), damage);
        }
        if let Some(damage) = kept.damaged_ahead {
            give_up(Record::KeptAhead(None), damage);
        }
        if let Some(last) = last {
            replayed.restored.number_after(last);
        }
        for record in kept.intact.into_records() {
            self.apply(replayed, coordinator, &Key::Meta("live"), record)?;
        }
        Ok(())
    }

    /// The shares that were accepted in closed windows on rounds whose shares count, so that none
    /// counts again.
    fn replay_credits(
        &self,
        replayed: &mut Replayed,
        coordinator: &Identity,
        closed: &BTreeMap<WindowSeq, u64>,
    ) -> Result<(), StoreError> {
        for (window, count) in closed.range(replayed.restored.credits_from()..) {
            let mut shares = Vec::new();
            let read = self.reader().each_share(*window, |key, index, share| {
                shares.push((*key, index, share));
                Ok(())
            });
            let complete = read.and_then(|()| {
                if shares.len() as u64 == *count {
                    return Ok(());
                }
                let key = Key::Share(*window, shares.len() as u64);
                Err(self.damaged(&key, RecordError::Missing))
            });
            match complete {
                Ok(()) => {}
                Err(damaged @ StoreError::Damaged { .. }) => {
                    replayed.given_up.push(damaged);
                    let stale = replayed.restored.distrust(*window);
                    replayed.repairs.extend(stale);
                    continue;
                }
                Err(error) => return Err(error),
            }
            let window = *window;
            for (key, index, share) in shares {
                let record = Record::Share {
                    window,
                    index,
                    share,
                };
                self.apply(replayed, coordinator, &key, record)?;
            }
        }
        Ok(())
    }

    /// The closed windows that the log has, in their order.
    pub fn windows(&self) -> Result<Vec<WindowEnd>, StoreError> {
        let mut windows = Vec::new();
        self.each_log(|_, record| {
            if let Record::WindowClosed(closed) = record {
                windows.push(closed);
            }
            Ok(())
        })?;
        Ok(windows)
    }

    /// The shares of a window, in their order.
    pub fn shares(&self, window: WindowSeq) -> Result<Vec<ShareRecord>, StoreError> {
        let mut shares = Vec::new();
        self.reader().shares(window, |share| shares.push(share))?;
        Ok(shares)
    }

    fn each_log(
        &self,
        mut take: impl FnMut(&Key, Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let first = self.reader().base_number()?;
        let rows = self.tree.range(Key::Log(first).to_bytes()..);
        let rows =
            rows.take_while(|row| !matches!(row, Ok((key, _)) if !key.starts_with(Key::LOG)));
        for (expected, entry) in (first..).zip(rows) {
            let (key, value) = entry.map_err(|e| self.sled("read", e))?;
            let number = self.number(&key)?;
            let key = Key::Log(expected);
            if number != expected {
                return Err(self.damaged(&key, RecordError::Missing));
            }
            let record = record::open_log(&key, &value).map_err(|e| self.damaged(&key, e))?;
            take(&key, record)?;
        }
        Ok(())
    }

    fn apply(
        &self,
        replayed: &mut Replayed,
        coordinator: &Identity,
        key: &Key,
        record: Record,
    ) -> Result<(), StoreError> {
        replayed.records += 1;
        let applied = replayed.restored.apply(coordinator, record);
        applied.map_err(|source| StoreError::Contradiction {
            path: self.path.clone(),
            key: key.to_string(),
            source,
        })
    }
}
