//! Which windows closed while this process was in the pool's session: what is told of these we were there
//! to check, so no pool has a reason not to tell it. And how much work counts there: no state that is signed by a
//! few says that.

use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolParams;
use tutti_proto::window::Ledger;
use tutti_proto::work::Work;

/// Sessions of which each is told from the next. Of more the oldest count as one.
const SESSIONS: usize = 1_024;

/// The windows of the process's sessions.
#[derive(Debug, Default)]
pub(super) struct Attended {
    /// The window that was open at first, and the one that is or was open at last; oldest first.
    sessions: Vec<(WindowSeq, WindowSeq)>,
    /// The last session goes on.
    is_joined: bool,
    /// Of the last session.
    params: Option<PoolParams>,
    /// The most work that counts by the target of any proposal in a session. It ends with the process: whoever invents
    /// a ledger invents as much as is asked for, while a target that was too hard would keep an honest pool's participant
    /// from starting anew until its owner helps.
    depth: Option<Work>,
}

impl Attended {
    /// A session begins, with this window open.
    pub(super) fn joined(&mut self, open: WindowSeq) {
        self.left();
        if self.sessions.len() >= SESSIONS {
            let (first, _) = self.sessions.remove(0);
            if let Some(oldest) = self.sessions.first_mut() {
                oldest.0 = first;
            }
        }
        self.sessions.push((open, open));
        self.is_joined = true;
    }

    /// The open window has closed in the session.
    pub(super) fn closed(&mut self, window: WindowSeq) {
        let session = self.sessions.last_mut().filter(|_| self.is_joined);
        if let Some((_, open)) = session.filter(|(_, open)| *open == window) {
            *open = window.next();
        }
    }

    /// The session's parameters are these.
    pub(super) fn has_params(&mut self, params: &PoolParams) {
        self.params = Some(params.clone());
    }

    /// A round under this compact target is proposed in the session. Whoever proposes one that is too hard lets more
    /// windows count than do.
    pub(super) fn proposed(&mut self, bits: u32) {
        let depth = self
            .params
            .as_ref()
            .map(|params| params.scoring_depth(bits));
        self.depth = self.depth.max(depth);
    }

    /// The first window whose work counts, as far as the sessions show. None before any proposal.
    pub(super) fn counts_from(&self, ledger: &Ledger) -> Option<WindowSeq> {
        let scoring = self.params.as_ref()?.scoring;
        ledger.counts_from(scoring, self.depth?).ok()
    }

    /// The session is over.
    pub(super) fn left(&mut self) {
        self.is_joined = false;
        if self
            .sessions
            .last()
            .is_some_and(|(first, open)| first == open)
        {
            self.sessions.pop();
        }
    }

    /// Whether this window closed in a session, or is open in the present one or will be.
    pub(super) fn has(&self, window: WindowSeq) -> bool {
        let is_later = |(first, _): &(WindowSeq, WindowSeq)| self.is_joined && window >= *first;
        let mut closed = self.sessions.iter();
        self.sessions.last().is_some_and(is_later)
            || closed.any(|(first, open)| (*first..*open).contains(&window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(attended: &Attended, windows: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let mut all = windows.collect::<Vec<_>>();
        all.retain(|window| attended.has(WindowSeq(*window)));
        all
    }

    #[test]
    fn what_closed_in_a_session_is_remembered_and_what_closed_between_two_is_not() {
        let mut attended = Attended::default();
        assert_eq!(has(&attended, 0..=20), [0; 0]);
        attended.joined(WindowSeq(5));
        assert_eq!(has(&attended, 0..=8), [5, 6, 7, 8], "whatever comes of it");
        attended.closed(WindowSeq(5));
        attended.closed(WindowSeq(6));
        // One that is none of the session's.
        attended.closed(WindowSeq(1_000));
        attended.left();
        assert_eq!(has(&attended, 0..=20), [5, 6], "7 closed without us");
        attended.joined(WindowSeq(10));
        attended.joined(WindowSeq(12));
        attended.closed(WindowSeq(12));
        attended.left();
        assert_eq!(has(&attended, 0..=20), [5, 6, 12]);
    }

    #[test]
    fn it_does_not_grow_with_the_sessions_and_forgets_no_window() {
        let mut attended = Attended::default();
        for session in 0..3_000 {
            attended.joined(WindowSeq(2 * session));
            attended.closed(WindowSeq(2 * session));
            attended.left();
        }
        assert_eq!(attended.sessions.len(), SESSIONS);
        assert!((0..3_000).all(|session| attended.has(WindowSeq(2 * session))));
        assert!(!attended.has(WindowSeq(5_997)));
    }
}
