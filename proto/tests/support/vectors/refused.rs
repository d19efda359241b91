//! What SPEC.md's section 24 calls each refusal.

use tutti_proto::audit::AuditError;
use tutti_proto::follower::FollowError;
use tutti_proto::message::PlaceError;
use tutti_proto::reject::RejectCode;
use tutti_proto::roster::RosterError;
use tutti_proto::segment::CheckpointError;
use tutti_proto::share::OpeningError;
use tutti_proto::window::{CreditError, LedgerError};
use tutti_proto::wire::WireError;

/// What the payee set does not take: the token of section 21.
pub fn payee_set(error: &RosterError) -> String {
    let code = match error {
        RosterError::WrongParity(_) => RejectCode::SerialParity,
        RosterError::BadSignature(_) => RejectCode::BadSignature,
        RosterError::SerialTaken(_) | RosterError::NotAbove(_) => RejectCode::SerialTaken,
        RosterError::Quota => RejectCode::OutputQuota,
        RosterError::NotYours(_) | RosterError::Active(_) => RejectCode::NotYourOutput,
        RosterError::Full => RejectCode::PoolFull,
    };
    code.token().into()
}

/// What an opening does not show.
pub fn opening(error: &OpeningError) -> String {
    match error {
        OpeningError::Root => "root",
        OpeningError::Tally(_) => "work",
        OpeningError::Position(_) => "position",
        OpeningError::Overflow(_) => "overflow",
    }
    .into()
}

/// A message that does not decode: the token of section 21.
pub fn message(error: &WireError) -> String {
    error.code().token().into()
}

pub fn place(error: &PlaceError) -> String {
    match error {
        PlaceError::NoSuchPayee => "no-such-payee",
        PlaceError::Twice(_) => "twice",
    }
    .into()
}

pub fn ledger(error: &LedgerError) -> String {
    match error {
        LedgerError::Gap { .. } => "gap".into(),
        LedgerError::Forked(_) => "forked".into(),
        LedgerError::BookedTwice(_) => "booked-twice".into(),
        LedgerError::NotBooked(_) => "not-booked".into(),
        LedgerError::OtherBooking(_) => "other-booking".into(),
        LedgerError::Credit { error, .. } => format!("credit-{}", credit(error)),
        LedgerError::Overflow => "overflow".into(),
        LedgerError::NotThisHead(_) => "other-head".into(),
    }
}

/// Which of section 9's checks of a credit fails.
fn credit(error: &CreditError) -> u8 {
    match error {
        CreditError::NotBooked => 1,
        CreditError::Again => 2,
        CreditError::OtherPayouts => 3,
        CreditError::TooLarge | CreditError::OtherPayees(_) => 4,
        CreditError::OtherPayout => 5,
        CreditError::ChildVersion
        | CreditError::ChildSize
        | CreditError::SpendsOther
        | CreditError::NoAnchor
        | CreditError::NoPayee => 6,
        CreditError::Nothing | CreditError::OtherIdentity | CreditError::OtherAmount { .. } => 7,
        CreditError::NotProven | CreditError::Work => 8,
        CreditError::NoHeight | CreditError::TooEarly { .. } => 9,
    }
}

pub fn follower(error: &FollowError) -> String {
    match error {
        FollowError::Window { .. } => "window".into(),
        FollowError::Gap { .. } => "share-gap".into(),
        FollowError::Terms { .. } | FollowError::TooManyTerms(_) => "terms".into(),
        FollowError::OldRound { .. } => "old-round".into(),
        FollowError::Dangling { .. } => "dangling".into(),
        FollowError::Share { refusal, .. } => refusal.code.token().into(),
        FollowError::Duplicate { .. } => "duplicate".into(),
        FollowError::Count { .. } => "count".into(),
        FollowError::Work { .. } => "work".into(),
        FollowError::Root(_) => "root".into(),
        FollowError::Ledger(error) => ledger(error),
        FollowError::UnsignedHead(_) => "unsigned-head".into(),
        FollowError::Overflow(_) => "overflow".into(),
    }
}

pub fn audit(error: &AuditError) -> String {
    match error {
        AuditError::Params(_) => "other-pool",
        AuditError::Follow(error) => return follower(error),
        AuditError::NotCanonical(_) | AuditError::NotNamed { .. } => "not-canonical",
        AuditError::Dangling(_) => "dangling",
        AuditError::Checkpoint { error, .. } => return checkpoint(error),
        AuditError::Spans { .. } => "spans",
        AuditError::OtherHead { .. } => "other-head",
        AuditError::TooManyChanges(_) | AuditError::Change { .. } => "change",
        AuditError::Ledger { .. } | AuditError::RoundSeq { .. } => "round-ledger",
        AuditError::NoRoster { .. } => "round-payees",
        AuditError::Plan { .. } => "plan",
        AuditError::Output { .. } | AuditError::OutputsChanged { .. } => "outputs",
        AuditError::Payout { .. } | AuditError::PayoutForm { .. } => "payout",
        AuditError::NoTerms { .. } => "no-terms",
        AuditError::NoLane { .. } | AuditError::Header { .. } => "header",
        AuditError::BookedElsewhere { .. } => "booked-elsewhere",
        AuditError::Carry { .. } | AuditError::NoChange { .. } => "carry",
        AuditError::Payees { .. } => "payouts",
        AuditError::Unbalanced { .. } | AuditError::Overflow(_) => "overflow",
    }
    .into()
}

pub fn checkpoint(error: &CheckpointError) -> String {
    match error {
        CheckpointError::UnsignedHead => "unsigned-head".into(),
        CheckpointError::Ledger(error) => ledger(error),
        CheckpointError::Roster(_) => "payee-set".into(),
        CheckpointError::Terms(_) => "terms".into(),
        CheckpointError::OtherLedger => "other-ledger".into(),
        CheckpointError::Unsigned => "unsigned-payout".into(),
    }
}
