//! What a person is told of each warning and error beside its fields: what happened, why, and what to do. Where
//! the field `why` says the cause, the sentence leaves it out.

/// Events of trouble, each with its sentence.
const SENTENCES: &[(&str, &str)] = &[
    // Rounds.
    (
        "attempt_failed",
        "the signers did not all sign in time or in order; the next attempt goes on without the culprits, nothing to do unless it is always the same ones",
    ),
    (
        "direct_round",
        "no signed round was there in time, so the largest payees are paid by the coinbase itself and the others are owed; if this goes on, see the failed attempts before it",
    ),
    (
        "no_signers",
        "no participant can sign now, so the last round is hashed on; it goes on once one is connected, so look at why they left if this lasts",
    ),
    (
        "unplannable",
        "the round's payouts cannot be computed from this template and ledger, so none is signed; the next template is tried, and if that fails too, the error says what to change",
    ),
    // The process.
    (
        "fault",
        "this is a defect of Tutti: please report it with this line; unless it came from a peer's message (a thread named connections or slots) the daemon ends now, and is to be started again, nothing acknowledged is lost",
    ),
    (
        "failed",
        "the daemon does not start, or ended by itself; its reason says what to do, and nothing acknowledged is lost",
    ),
    // Found blocks.
    (
        "block_refused",
        "the node refused a found block, whose reward is lost; see the reason here and in the node's debug.log, and unless it only came too late, stop until it is found",
    ),
    (
        "block_not_booked",
        "a found block came into the chain too late for the ledger, so what it left owed stays as it was; its payouts are broadcast all the same, tell your miners, it cannot be booked later",
    ),
    (
        "block_lost",
        "another block took a found one's place in the chain; its amounts are undone unless it comes back, nothing to do",
    ),
    (
        "block_back",
        "a found block that had left the chain is in it again, and its amounts count again; nothing to do",
    ),
    (
        "block_waiting",
        "a found block is not with the node yet, and is handed over again until it is; every second counts, so mend the node at once",
    ),
    (
        "block_not_kept",
        "a found block could not be written to the disk, and is lost if this process ends before the node has it; mend the disk, and do not restart before block_accepted",
    ),
    (
        "block_damaged",
        "a found block from before the restart cannot be read, so it is not handed over; if no node has it yet, its reward is lost without a copy",
    ),
    (
        "fate_unknown",
        "the node does not say whether it still has a found block; it is asked again, look at the node if this lasts",
    ),
    (
        "block_unexplained",
        "the store does not lead to a found block's amounts, so auditors cannot check them; the payouts are not touched, keep a copy of the data directory and look after the disk",
    ),
    // Payouts and bumps.
    (
        "settlement",
        "the block of this payout is not in the best chain any more; the payout is kept in case it comes back, nothing to do",
    ),
    (
        "payout_refused",
        "the node did not take a payout that is due, and gets it again at the next tip; nothing to do if it takes it then, else its reason says what is in the way",
    ),
    (
        "payout_waiting",
        "the node fails at a payout, which is asked for again while the others go on; look at the node if this lasts",
    ),
    (
        "payouts_waiting",
        "the node is away, so no payout is broadcast or bumped until it is back; mend the node",
    ),
    (
        "payouts_damaged",
        "a found block's payouts are not on this disk as they should be, so the pool may not broadcast them after a restart; the participants do, look after the disk",
    ),
    (
        "payouts_unreadable",
        "a found block's payouts in the store cannot be read, so the pool does not broadcast them; the participants do, look after the disk",
    ),
    (
        "payout_not_bumped",
        "a payout needs a higher fee and does not get it from the pool; participants raise it too, or send coins to bump_address or raise the limits in [bump]",
    ),
    (
        "bump_refused",
        "the node did not take the child that was to raise a payout's fee; another is made when it is due again, nothing to do",
    ),
    (
        "bump_credit_refused",
        "a bump of a payout is not what the pool's terms credit, so whoever made it is not paid for it; nothing to do",
    ),
    (
        "no_fee_estimates",
        "unset -blocksonly if payouts are to be bumped by an estimate",
    ),
    // The node.
    (
        "node_away",
        "the node gives no templates, so miners stay on the last one; it is asked again by itself, mend the node",
    ),
    (
        "feerate_unknown",
        "the node gives no fee estimate, so new payouts pay the feerate that is shown until it does, and may need a bump at maturity; unset -blocksonly or mend the node, mining goes on",
    ),
    // Participants.
    (
        "reader_too_slow",
        "a participant does not read what it is sent, so its session ends; it comes back by itself, its owner may look at its connection and load",
    ),
    (
        "connections_full",
        "there are as many connections as [limits] allow, so this one was closed; raise participants or followers there, or look at who opens so many",
    ),
    (
        "accept_failed",
        "no further connection can be taken, mostly for want of file descriptors; raise the process's limit (LimitNOFILE of its unit), it is tried again each second",
    ),
    // The disk.
    (
        "record_given_up",
        "a stored record is damaged and is done without, which takes nothing that was acknowledged from anybody; copy the data directory, and look after the disk",
    ),
    (
        "store_not_copied",
        "the store was not closed in order, and there is no room for a copy before it is opened; the start goes on without one, make room",
    ),
    (
        "file_damaged",
        "a file of the ledger's public side is not what was written, so nobody is served it; restore it from a copy, and look after the disk",
    ),
    (
        "archive_failed",
        "a closed window could not be written for auditors, and waits in the store until it can; make room, or mend rights or disk",
    ),
    (
        "segment_refused",
        "a closed window would pass no audit, so it is not published and full followers cannot go on; its shares stay in the store, keep a copy of the data directory and report it",
    ),
    (
        "segment_oversized",
        "a closed window's file is larger than readers have to take, so some cannot audit it; lower shares_per_second or raise interval_ms, so that windows hold fewer shares",
    ),
    (
        "feed_broken",
        "followers are not told the rest of the open window, and get it once it is closed; if it comes again, look after the disk and report it",
    ),
    (
        "flood_left_out",
        "so many messages or connections were refused that lines of this event were not written (100 a second are); the metrics count refused messages and shares, and if it goes on, see who causes them and limit connections of one address",
    ),
    (
        "log_left_out",
        "lines of this log were not written, because whoever reads it is too slow; lower log.level, or look at what takes stderr",
    ),
];

/// The sentence for an event of this name; none for what is no trouble.
pub(super) fn sentence(name: &str) -> Option<&'static str> {
    let known = SENTENCES.iter().find(|(event, _)| *event == name);
    known.map(|(_, sentence)| *sentence)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{SENTENCES, sentence};

    /// Where events get their level and name.
    const SOURCES: [&str; 3] = [
        include_str!("event.rs"),
        include_str!("settlement.rs"),
        include_str!("../news.rs"),
    ];
    /// Events whose level is chosen apart from their name.
    const CHOSEN: [&str; 1] = ["settlement"];

    #[test]
    fn every_warning_and_error_says_what_happened_why_and_what_to_do() {
        let mut names = BTreeSet::from(CHOSEN);
        for source in SOURCES {
            let places = source.split("Level::WARN, \"").skip(1);
            let places = places.chain(source.split("Level::ERROR, \"").skip(1));
            names.extend(places.filter_map(|after| after.split('"').next()));
        }
        assert!(
            names.len() > 30,
            "they are written in another way: {names:?}"
        );
        let told: BTreeSet<_> = SENTENCES.iter().map(|(event, _)| *event).collect();
        assert_eq!(told.len(), SENTENCES.len(), "two sentences for one event");
        let without: Vec<_> = names
            .iter()
            .filter(|name| sentence(name).is_none())
            .collect();
        assert!(without.is_empty(), "no sentence for {without:?}");
    }
}
