//! Two signed statements of a coordinator about one thing: proof of fraud that anyone can check with
//! nothing but its identity.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{Attempt, Identity, RoundSeq, WindowSeq};
use crate::message::{Proposal, SignedHead, attempt_digest, head_digest, proposal_content};

/// Newest heads that are all remembered.
const NEWEST: u64 = 128;
/// Of older ones every so-manieth is, so that a ledger rolled back by days is found out soon too.
const MILESTONE: u64 = 64;
/// Most heads remembered, back to four days ago at the default refresh: they are written at each window.
const HEADS_LIMIT: usize = 512;
/// Newest attempts remembered.
const ATTEMPTS_LIMIT: usize = 64;

/// What a coordinator may state once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The ledger's head after a window.
    Head(WindowSeq),
    /// What is proposed for an attempt of a round that is to be signed.
    Proposal(RoundSeq, Attempt),
}

/// What it stated, and its identity signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The head's hash, or the hash of the proposal's content.
    pub hash: [u8; 32],
    /// BIP340 signature over subject and hash.
    pub signature: [u8; 64],
}

/// Two different statements about one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equivocation {
    /// Who made them.
    pub coordinator: Identity,
    /// About what.
    pub subject: Subject,
    /// The statements, in the order in which they were seen.
    pub statements: [Statement; 2],
}

/// Why two statements prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// It speaks of someone else.
    #[error("it is about coordinator {0}, not the one that was asked for")]
    OtherCoordinator(Identity),
    /// Whoever says the same thing twice does nothing wrong.
    #[error("both statements are the same")]
    Same,
    /// The first or the second statement is not the coordinator's.
    #[error("the signature of statement {0} is not the coordinator's")]
    Unsigned(usize),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(seq) => write!(f, "the ledger's head after window {seq}"),
            Self::Proposal(seq, attempt) => {
                write!(f, "the proposal of round {seq}, attempt {attempt}")
            }
        }
    }
}

impl Subject {
    /// What the coordinator signs.
    fn digest(&self, hash: &[u8; 32]) -> [u8; 32] {
        match self {
            Self::Head(seq) => head_digest(*seq, hash),
            Self::Proposal(seq, attempt) => attempt_digest(*seq, *attempt, false, hash),
        }
    }
}

impl Equivocation {
    /// Checks that this coordinator made both statements, and that they differ.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), NoProof> {
        if self.coordinator != *coordinator {
            return Err(NoProof::OtherCoordinator(self.coordinator));
        }
        let [first, second] = &self.statements;
        if first.hash == second.hash {
            return Err(NoProof::Same);
        }
        for (place, statement) in self.statements.iter().enumerate() {
            coordinator
                .verify(&self.subject.digest(&statement.hash), &statement.signature)
                .map_err(|_| NoProof::Unsigned(place + 1))?;
        }
        Ok(())
    }
}

/// What a coordinator stated lately. Every statement is to be verified before it is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    coordinator: Option<Identity>,
    heads: BTreeMap<WindowSeq, Statement>,
    attempts: BTreeMap<(RoundSeq, Attempt), Statement>,
}

impl Statements {
    /// Whose statements these are; none before the first.
    pub fn coordinator(&self) -> Option<&Identity> {
        self.coordinator.as_ref()
    }

    /// The newest window of which a head is kept.
    pub fn newest(&self) -> Option<WindowSeq> {
        self.heads.last_key_value().map(|(seq, _)| *seq)
    }

    /// Whether the head after this window is kept.
    pub fn knows(&self, window: &WindowSeq) -> bool {
        self.heads.contains_key(window)
    }

    /// The heads, oldest first.
    pub fn heads(&self) -> impl Iterator<Item = (&WindowSeq, &Statement)> {
        self.heads.iter()
    }

    /// Notes a head. Says whether it is new, or what it proves.
    pub fn note_head(
        &mut self,
        coordinator: &Identity,
        signed: &SignedHead,
    ) -> Result<bool, Box<Equivocation>> {
        self.belong_to(coordinator);
        let (seq, statement) = (
            signed.head.seq,
            Statement {
                hash: signed.head.hash,
                signature: signed.signature,
            },
        );
        if let Some(known) = self.heads.get(&seq) {
            let compared = compare(coordinator, Subject::Head(seq), known, statement);
            if !matches!(&compared, Err(proof) if proof.verify(coordinator).is_err()) {
                return compared;
            }
            // What we kept was damaged where it was kept: it proves nothing against anyone.
        }
        self.heads.insert(seq, statement);
        let newest = self.heads.last_key_value().map_or(0, |(seq, _)| seq.0);
        let recent = |seq: &WindowSeq| newest.saturating_sub(seq.0) < NEWEST;
        self.heads
            .retain(|seq, _| recent(seq) || seq.0.is_multiple_of(MILESTONE));
        while self.heads.len() > HEADS_LIMIT {
            self.heads.pop_first();
        }
        Ok(true)
    }

    /// Notes what is proposed for an attempt; of direct rounds nothing. Says what it proves.
    pub fn note_proposal(
        &mut self,
        coordinator: &Identity,
        proposal: &Proposal,
    ) -> Result<(), Box<Equivocation>> {
        let plan = &proposal.plan;
        if plan.inputs.is_direct() {
            return Ok(());
        }
        self.belong_to(coordinator);
        let key = (plan.inputs.seq, plan.inputs.attempt);
        let statement = Statement {
            hash: proposal_content(&plan.round, &plan.nonces),
            signature: proposal.signature,
        };
        if let Some(known) = self.attempts.get(&key) {
            let subject = Subject::Proposal(key.0, key.1);
            return compare(coordinator, subject, known, statement).map(drop);
        }
        self.attempts.insert(key, statement);
        while self.attempts.len() > ATTEMPTS_LIMIT {
            self.attempts.pop_first();
        }
        Ok(())
    }

    fn belong_to(&mut self, coordinator: &Identity) {
        if self.coordinator.as_ref() != Some(coordinator) {
            *self = Self {
                coordinator: Some(*coordinator),
                ..Self::default()
            };
        }
    }
}

fn compare(
    coordinator: &Identity,
    subject: Subject,
    known: &Statement,
    statement: Statement,
) -> Result<bool, Box<Equivocation>> {
    if known.hash == statement.hash {
        return Ok(false);
    }
    Err(Box::new(Equivocation {
        coordinator: *coordinator,
        subject,
        statements: [*known, statement],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKey;
    use crate::window::LedgerHead;

    fn key(n: u8) -> IdentityKey {
        IdentityKey::from_bytes(&mut [n; 32]).unwrap()
    }

    fn head(n: u8, seq: u64, hash: u8) -> SignedHead {
        let (seq, hash) = (WindowSeq(seq), [hash; 32]);
        SignedHead::sign(&key(n), LedgerHead { seq, hash }, &[3; 32])
    }

    #[test]
    fn two_heads_of_one_window_prove_it_to_everyone() {
        let (coordinator, other) = (key(1).identity(), key(2).identity());
        let mut statements = Statements::default();
        assert_eq!(statements.note_head(&coordinator, &head(1, 7, 1)), Ok(true));
        assert_eq!(
            statements.note_head(&coordinator, &head(1, 7, 1)),
            Ok(false)
        );
        assert_eq!(statements.note_head(&coordinator, &head(1, 8, 2)), Ok(true));
        let proof = statements.note_head(&coordinator, &head(1, 7, 2));
        let proof = *proof.unwrap_err();
        assert_eq!(proof.verify(&coordinator), Ok(()));
        assert_eq!(
            proof.verify(&other),
            Err(NoProof::OtherCoordinator(coordinator))
        );
        let mut same = proof;
        same.statements[1] = same.statements[0];
        assert_eq!(same.verify(&coordinator), Err(NoProof::Same));
        let mut elsewhere = proof;
        elsewhere.subject = Subject::Head(WindowSeq(8));
        assert_eq!(elsewhere.verify(&coordinator), Err(NoProof::Unsigned(1)));
        let mut forged = proof;
        forged.statements[1].signature = head(2, 7, 2).signature;
        assert_eq!(forged.verify(&coordinator), Err(NoProof::Unsigned(2)));
        let mut kind = proof;
        kind.subject = Subject::Proposal(RoundSeq(7), Attempt(0));
        assert_eq!(kind.verify(&coordinator), Err(NoProof::Unsigned(1)));
    }

    #[test]
    fn another_coordinators_statements_are_another_matter() {
        let mut statements = Statements::default();
        let (one, two) = (key(1).identity(), key(2).identity());
        statements.note_head(&one, &head(1, 7, 1)).unwrap();
        assert_eq!(statements.note_head(&two, &head(2, 7, 2)), Ok(true));
        assert_eq!(statements.heads().count(), 1);
    }

    #[test]
    fn the_newest_heads_and_old_milestones_are_kept_and_no_more() {
        let coordinator = key(1).identity();
        let mut statements = Statements::default();
        let signature = head(1, 1, 1).signature;
        for seq in 1..=200_000 {
            let (seq, hash) = (WindowSeq(seq), [1; 32]);
            let head = LedgerHead { seq, hash };
            let signed = SignedHead { head, signature };
            assert_eq!(statements.note_head(&coordinator, &signed), Ok(true));
        }
        let kept: Vec<u64> = statements.heads().map(|(seq, _)| seq.0).collect();
        assert_eq!(kept.len(), HEADS_LIMIT);
        assert!((200_000 - 127..=200_000).all(|seq| kept.contains(&seq)));
        let old = kept.iter().filter(|seq| **seq <= 200_000 - 128);
        assert!(old.clone().count() > 380 && old.clone().all(|seq| seq % 64 == 0));
    }
}
