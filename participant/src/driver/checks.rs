//! What the check of the coordinator's ledger says, and what follows.

use std::time::Duration;

use tutti_proto::params::PoolName;
use tutti_proto::participant::Input;

use super::{Driver, FollowSettings};
use crate::follow::{self, Follower};
use crate::miner::Hasher;
use crate::news::{CheckEvent, News};
use crate::store::StoreError;

impl Driver {
    /// Follows the ledger of the pool that was joined, from where its check was.
    pub(super) fn follow_ledger(&mut self) {
        let Some(params) = self.core.params() else {
            return;
        };
        let pool = params.name();
        if !self.follower.as_ref().is_some_and(|f| f.is_of(&pool)) {
            let FollowSettings {
                mode,
                start,
                keep,
                reports,
            } = &self.follow;
            let (from, reports) = ((start.clone(), keep.clone()), reports.clone());
            self.follower = Follower::start(*mode, &self.address, pool, from, reports);
        }
        if let (Some(follower), Some(last)) = (&mut self.follower, self.core.last_window()) {
            follower.joined(last.next(), params);
        }
    }

    /// There is no session any more.
    pub(super) fn end_session(&mut self) {
        self.session = None;
        self.board.now.connected = false;
        if let Some(follower) = &mut self.follower {
            follower.left();
        }
    }

    pub(super) fn checked(
        &mut self,
        pool: &PoolName,
        report: follow::Report,
    ) -> Result<(), StoreError> {
        // Of a pool that we have left nothing is to be known any more.
        if !self.follower.as_ref().is_some_and(|f| f.is_of(pool)) {
            return Ok(());
        }
        let board = &mut self.board.now;
        match report {
            follow::Report::Told(head) => return self.input(Input::HeadTold(head)),
            follow::Report::Checked { head, shares } => {
                let window = head.seq.0;
                board.checked_window = Some(window);
                board.shares_checked = board.shares_checked.saturating_add(shares);
                News::from(CheckEvent::Checked { window, shares }).emit();
                return self.input(Input::LedgerChecked(head));
            }
            follow::Report::Begins { head } => {
                let window = head.seq.0;
                News::from(CheckEvent::Begins { window }).emit();
                return self.input(Input::LedgerChecked(head));
            }
            follow::Report::Skipped { first, last } => {
                News::from(CheckEvent::Skipped { first, last }).emit();
            }
            follow::Report::SetAside { why } => {
                let why = &why;
                News::from(CheckEvent::SetAside { why }).emit();
            }
            follow::Report::Sampled { window, samples } => {
                board.checked_window = Some(window);
                let checked = u64::try_from(samples).unwrap_or(u64::MAX);
                board.shares_checked = board.shares_checked.saturating_add(checked);
                News::from(CheckEvent::Sampled { window, samples }).emit();
            }
            follow::Report::Unanswered { window, why } => {
                let why = &why;
                News::from(CheckEvent::Unanswered { window, why }).emit();
            }
            follow::Report::Silent { windows, pause } => return self.leave_for(windows, pause),
            follow::Report::Kept { window, file } => {
                let file = &file;
                News::from(CheckEvent::Kept { window, file }).emit();
            }
            follow::Report::Trouble { why, retry } => {
                let why = &why;
                News::from(CheckEvent::Unchecked { why, retry }).emit();
            }
            follow::Report::False(fault) => return self.input(Input::LedgerFalse(fault)),
        }
        Ok(())
    }

    /// Signs and hashes nothing for a while: the coordinator does not show what is asked for.
    fn leave_for(&mut self, windows: usize, pause: Duration) -> Result<(), StoreError> {
        News::from(CheckEvent::Silent { windows, pause }).emit();
        if let Some(session) = self.session.take() {
            session.leave(pause);
        }
        self.end_session();
        // What still comes of this session is nothing to the core any more.
        self.input(Input::Disconnected)?;
        // It would go on hashing; the next session begins with a job.
        self.hasher.set_jobs(Vec::new());
        self.board.now.hashing_round = None;
        Ok(())
    }
}
