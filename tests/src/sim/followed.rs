//! A follower of everything that the coordinator makes durable: an honest ledger never fails its check.

use tutti_proto::coordinator::Record;
use tutti_proto::follower::Follower;
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::params::PoolName;
use tutti_proto::segment::{OutputChange, PackedShare, WindowEnd, WindowPart};
use tutti_proto::share::ShareRecord;
use tutti_proto::terms::{CheckedTerms, Rolled, RoundTerms};
use tutti_proto::window::Ledger;

use tutti_proto::message::OutputExpired;

/// What was told of the open window, and who checks it.
pub struct Followed {
    pool: PoolName,
    /// The ledger of a past that is taken for granted.
    past: Ledger,
    follower: Option<Follower>,
    terms: Vec<CheckedTerms>,
    part: WindowPart,
    /// Places in `terms` of those that the open window tells.
    told: Vec<usize>,
}

impl Followed {
    pub fn new(pool: PoolName) -> Self {
        Self {
            pool,
            past: Ledger::default(),
            follower: None,
            terms: Vec::new(),
            part: WindowPart {
                window: WindowSeq(1),
                ..WindowPart::default()
            },
            told: Vec::new(),
        }
    }

    /// A record of a past whose shares nobody saw.
    pub fn restored(&mut self, record: &Record) {
        if let Record::WindowClosed(end) = record {
            // Whatever is restored was appended before.
            let _ = self.past.append(&end.record);
            self.part.window = end.record.seq.next();
        }
    }

    /// Takes what was made durable. Says what a follower finds wrong with it.
    pub fn recorded(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Terms(round, terms) => self.terms(*round, terms)?,
            Record::Share { share, .. } => self.share(share)?,
            Record::OutputAdded(output) => {
                let change = OutputChange::Added(output.clone());
                self.part.outputs.push(change);
            }
            Record::OutputRemoved(removal) => {
                let change = OutputChange::Removed(removal.clone());
                self.part.outputs.push(change);
            }
            Record::OutputExpired(serial_id) => {
                let serial_id = *serial_id;
                let change = OutputChange::Expired(OutputExpired { serial_id });
                self.part.outputs.push(change);
            }
            Record::WindowClosed(end) => self.end(end)?,
            _ => {}
        }
        Ok(())
    }

    fn terms(&mut self, round: RoundId, terms: &RoundTerms) -> Result<(), String> {
        let checked = terms.clone().check(&self.pool);
        let checked = checked.map_err(|error| format!("terms of {round:?}: {error}"))?;
        if checked.round() != round {
            return Err(format!("terms of {round:?} are another round's"));
        }
        self.terms.push(checked);
        Ok(())
    }

    /// The place of a round's terms among those of the open window, which are told now if they were not.
    fn place(&mut self, is: impl Fn(&CheckedTerms) -> bool) -> Option<u16> {
        let known = self.terms.iter().rposition(is)?;
        let told = self.told.iter().position(|told| *told == known);
        let place = told.unwrap_or_else(|| {
            self.told.push(known);
            let terms = self.terms[known].terms().clone();
            self.part.terms.push(terms);
            self.told.len() - 1
        });
        u16::try_from(place).ok()
    }

    fn share(&mut self, share: &ShareRecord) -> Result<(), String> {
        let of = |terms: &CheckedTerms| {
            terms.round() == share.round
                && terms.terms().header.previous_block == share.header[4..36]
        };
        let place = self.place(of).ok_or("a share of a round without terms")?;
        let owners = self.terms[self.told[usize::from(place)]].owners();
        let owner = owners.binary_search(&share.identity);
        let owner = owner.map_err(|_| "a share of somebody without a slice")?;
        let field = |at: usize| {
            let bytes = share.header[at..at + 4].try_into().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        self.part.shares.push(PackedShare {
            terms: place,
            owner: u32::try_from(owner).unwrap_or(u32::MAX),
            rolled: Rolled {
                lane: share.lane,
                version: field(0) as i32,
                time: field(68),
                nonce: field(76),
            },
        });
        Ok(())
    }

    fn end(&mut self, end: &WindowEnd) -> Result<(), String> {
        for booking in &end.record.bookings {
            self.place(|terms| terms.round() == booking.round)
                .ok_or("a booking of a round without terms")?;
        }
        let next = WindowPart {
            window: self.part.window.next(),
            ..WindowPart::default()
        };
        let part = std::mem::replace(&mut self.part, next);
        self.told.clear();
        let start = || Follower::new(self.pool, self.past.clone());
        let follower = self.follower.get_or_insert_with(start);
        let checked = follower.part(&part).and_then(|()| follower.end(end));
        checked.map(drop).map_err(|error| error.to_string())
    }
}
