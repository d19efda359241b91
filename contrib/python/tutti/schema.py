"""proto/schema/tutti/v1/pool.proto: the messages that files and vectors hold, with every limit."""

from collections import namedtuple
from itertools import pairwise

from .digest import require
from .lanes import check_assignments
from .params import check_params
from .secp256k1 import is_identity

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
# kind: a scalar's type, or a message's name; rule: the kind's limit; most: a list's longest length.
Field = namedtuple("Field", "number name kind rule most optional", defaults=(None, None, False))
VARINTS = ("uint32", "uint64", "sint64", "bool", "enum")


def F(number, name, kind, rule=None, most=None, optional=False):
    if kind in ("uint32", "uint64") and rule is None:
        rule = (0, U32 if kind == "uint32" else U64)
    return Field(number, name, kind, rule, most, optional)


def hash_(number, name, **more):
    return F(number, name, "bytes", 32, **more)


def one(number, name, kind):
    """A message of a oneof."""
    return F(number, name, kind, optional=True)


LANE, U16 = (0, 255), (0, 65_535)
ABORT_REASONS = range(1, 10)
REJECT_CODES = frozenset([*range(1, 10), *range(20, 26), 30, 31, 40, 41, 42, *range(60, 67)])

SCHEMA = {
    "ToCoordinator": [
        one(1, "share", "Share"),
        one(2, "join", "Join"),
        one(3, "tx_add_output", "TxAddOutput"),
        one(4, "tx_remove_output", "TxRemoveOutput"),
        one(5, "slots", "Slots"),
        one(6, "tx_complete", "TxComplete"),
        one(7, "tx_signatures", "TxSignatures"),
        one(8, "tx_abort", "TxAbort"),
        one(9, "holds", "Holds"),
    ],
    "ToParticipant": [
        one(1, "share_ack", "ShareAck"),
        one(2, "share_reject", "ShareReject"),
        one(3, "challenge", "Challenge"),
        one(4, "welcome", "Welcome"),
        one(5, "tx_add_output", "TxAddOutput"),
        one(6, "tx_remove_output", "TxRemoveOutput"),
        one(7, "window_closed", "WindowClosed"),
        one(8, "assignments", "AssignmentsSet"),
        one(9, "proposal", "Proposal"),
        one(10, "tx_aborted", "TxAborted"),
        one(11, "commit", "Commit"),
        one(12, "job", "Job"),
        one(13, "block_found", "BlockFound"),
        one(14, "reject", "Reject"),
        one(15, "output_expired", "OutputExpired"),
    ],
    "Challenge": [
        F(1, "version", "uint32"),
        hash_(2, "nonce"),
        F(3, "params", "PoolParams"),
    ],
    "Join": [
        F(1, "identity", "identity"),
        F(2, "hashrate", "uint64"),
        F(3, "user_agent", "text", 64),
        F(4, "signature", "bytes", 64),
        hash_(5, "head", optional=True),
    ],
    "Welcome": [
        F(1, "outputs", "TxAddOutput", most=100_000),
        F(2, "ledger", "LedgerSnapshot", optional=True),
        F(3, "head", "SignedHead"),
    ],
    "PublicSlot": [F(1, "key", "point"), F(2, "nonces", "nonce", most=1024)],
    "AnnouncedSlot": [F(1, "slot", "PublicSlot"), F(2, "signature", "bytes", 64)],
    "Slots": [F(1, "slots", "AnnouncedSlot", most=8)],
    "ProposedPlan": [
        hash_(1, "round"),
        F(2, "inputs", "RoundInputs"),
        hash_(3, "coinbases", most=256),
        F(4, "nonces", "aggregate_nonce", most=1024),
    ],
    "Proposal": [F(1, "plan", "ProposedPlan"), F(2, "signature", "bytes", 64)],
    "TxComplete": [hash_(1, "round")],
    "TxSignatures": [
        hash_(1, "round"),
        F(2, "partials", "partial", most=1024),
        F(3, "signature", "bytes", 64),
        hash_(4, "proposal"),
    ],
    "TxAbort": [
        hash_(1, "round"),
        F(2, "reason", "enum", ABORT_REASONS),
        F(3, "signature", "bytes", 64),
    ],
    "BadPartial": [F(1, "slot", "AnnouncedSlot"), F(2, "signatures", "TxSignatures")],
    "Blame": [
        F(1, "identity", "identity"),
        one(2, "bad_partial", "BadPartial"),
        one(3, "refused", "TxAbort"),
    ],
    "TxAborted": [
        hash_(1, "round"),
        F(2, "reason", "enum", ABORT_REASONS),
        F(3, "blamed", "Blame", most=10_000),
        F(4, "signature", "bytes", 64),
    ],
    "Commit": [hash_(1, "round"), F(2, "signatures", "bytes", 64, most=1024)],
    "AssignmentsSet": [F(1, "slices", "Slice", most=65_536)],
    "Job": [F(1, "id", "uint64"), hash_(2, "round"), F(3, "header", "HeaderTerms")],
    "Holds": [hash_(1, "rounds", most=8)],
    "Share": [
        F(1, "seq", "uint64"),
        F(2, "job", "uint64"),
        F(3, "lane", "uint32", LANE),
        F(4, "version", "fixed32"),
        F(5, "time", "fixed32"),
        F(6, "nonce", "fixed32"),
    ],
    "ShareAck": [F(1, "window", "uint64"), F(2, "seqs", "uint64", most=65_536)],
    "ShareReject": [
        F(1, "seq", "uint64"),
        F(2, "code", "enum", REJECT_CODES),
        F(3, "got", "uint64"),
        F(4, "want", "uint64"),
    ],
    "Reject": [F(1, "code", "enum", REJECT_CODES), F(2, "detail", "detail", 512)],
    "BlockFound": [
        F(1, "height", "uint32"),
        hash_(2, "hash"),
        hash_(3, "round"),
        F(4, "lane", "uint32", LANE),
        F(5, "finder", "identity"),
    ],
    "FollowRequest": [F(1, "window", "uint64"), F(2, "shares", "uint64")],
    "Followed": [
        one(1, "checkpoint", "Checkpoint"),
        one(2, "part", "WindowPart"),
        one(3, "end", "WindowEnd"),
    ],
    "PoolParams": [
        F(1, "network", "network"),
        F(2, "coordinator", "identity"),
        F(3, "tag", "text", 32),
        F(4, "operator_fee_ppm", "uint32", (0, 1_000_000)),
        F(5, "lanes", "uint32", (1, 256)),
        F(6, "nonces_per_slot", "uint32", (1, 1024)),
        F(7, "pplns_depth", "uint32", (1, 1000)),
        F(8, "ntime_roll", "uint32", (0, 7200)),
        F(9, "block_zero_bits", "uint32", (1, 64), optional=True),
        F(10, "direct_payees", "uint32", (0, 39)),
        F(11, "scoring", "uint32", (0, 1)),
        F(12, "bump_credit", "uint32", (0, 1_000_000)),
        F(13, "bump_credit_after", "uint32", (1, 1000)),
    ],
    "TxAddOutput": [
        F(1, "identity", "identity"),
        F(2, "serial_id", "uint64"),
        F(3, "script", "script"),
        F(4, "signature", "bytes", 64),
    ],
    "TxRemoveOutput": [
        F(1, "identity", "identity"),
        F(2, "serial_id", "uint64"),
        F(3, "signature", "bytes", 64),
    ],
    "OutputExpired": [F(1, "serial_id", "uint64")],
    "Signer": [F(1, "identity", "identity"), F(2, "key", "point")],
    "RoundInputs": [
        F(1, "seq", "uint64"),
        F(2, "attempt", "uint32"),
        F(3, "height", "uint32"),
        F(4, "bits", "fixed32"),
        F(5, "reward", "uint64"),
        hash_(6, "witness_commitment", optional=True),
        F(7, "feerate", "uint64", (1_000, 1_000_000)),
        hash_(8, "roster"),
        F(9, "ledger", "LedgerHead"),
        hash_(10, "assignments"),
        F(11, "signers", "Signer", most=10_000),
    ],
    "Slice": [
        F(1, "lane", "uint32", LANE),
        F(2, "prefix", "uint32", U16),
        F(3, "prefix_len", "uint32", (0, 16)),
        F(4, "owner", "identity"),
        F(5, "z", "uint32", (0, 96)),
    ],
    "HeaderTerms": [
        F(1, "version", "fixed32"),  # sfixed32, read as section 20 shows it: without sign
        F(2, "bits", "fixed32"),
        hash_(3, "previous_block"),
        F(4, "time_min", "fixed32"),
        F(5, "time_max", "fixed32"),
        hash_(6, "merkle_path", most=32),
    ],
    "TallyEntry": [F(1, "identity", "identity"), F(2, "work", "uint128")],
    "CarryEntry": [F(1, "identity", "identity"), F(2, "sat", "sint64")],
    "Booking": [
        hash_(1, "block"),
        hash_(2, "round"),
        F(3, "lane", "uint32", LANE),
        F(4, "carry", "CarryEntry", most=1_000_000),
        F(5, "undone", "bool"),
        F(6, "header", "bytes", 80),
        hash_(7, "payouts"),
    ],
    "Credit": [
        hash_(1, "block"),
        F(2, "shard", "uint32", U16),
        F(3, "identity", "identity"),
        F(4, "sat", "uint32"),
        F(5, "proof", "CreditProof"),
    ],
    "CreditProof": [
        F(1, "height", "uint32"),
        F(2, "bits", "uint32"),
        F(3, "bump_credit", "uint32"),
        F(4, "bump_credit_after", "uint32", U16),
        hash_(5, "coinbase_txid"),
        hash_(6, "shards", most=1024),
        F(7, "payees", "identity", most=1024),
        F(8, "payout", "transaction"),
        F(9, "child", "transaction"),
        F(10, "coinbase", "transaction"),
        F(11, "merkle_block", "merkle_block"),
    ],
    "WindowRecord": [
        F(1, "seq", "uint64"),
        hash_(2, "previous"),
        hash_(3, "shares_root"),
        F(4, "shares", "uint64"),
        F(5, "tally", "TallyEntry", most=1_000_000),
        F(6, "bookings", "Booking", most=1024),
        F(7, "height", "uint32"),
        F(8, "credits", "Credit", most=16),
    ],
    "WindowClosed": [
        F(1, "record", "WindowRecord"),
        F(2, "head", "SignedHead"),
        F(3, "skipped", "uint32", most=100_000),
        F(4, "work", "uint64", most=100_000),
    ],
    "LedgerHead": [F(1, "seq", "uint64"), hash_(2, "hash")],
    "SignedHead": [F(1, "head", "LedgerHead"), F(2, "signature", "bytes", 64)],
    "Span": [
        F(1, "level", "uint32", (0, 255)),
        F(2, "last", "uint64"),
        F(4, "height", "uint32"),
        F(5, "who", "uint32", most=8_388_608),
        F(6, "work", "uint64", most=8_388_608),
        F(7, "work_high", "uint64", most=8_388_608),
    ],
    "BookedBlock": [
        hash_(1, "block"),
        hash_(2, "round"),
        F(3, "lane", "uint32", LANE),
        F(4, "booked", "bool"),
        F(5, "changed", "uint64"),
        hash_(6, "carry"),
        hash_(7, "payouts"),
        F(8, "credited", "uint32", U16, most=1024),
    ],
    "LedgerSnapshot": [
        F(1, "seq", "uint64"),
        hash_(2, "previous"),
        hash_(3, "record"),
        F(4, "spans", "Span", most=1408),
        F(5, "carry", "CarryEntry", most=1_000_000),
        F(6, "blocks", "BookedBlock", most=65_536),
        F(7, "workers", "blob", 32_000_000),
    ],
    "RoundTerms": [
        F(1, "inputs", "RoundInputs"),
        F(2, "slices", "Slice", most=65_536),
        F(3, "outputs", "CoinbaseOutput", most=1024),
        F(4, "header", "HeaderTerms"),
        F(5, "params", "PoolParams"),
    ],
    "PoolName": [F(1, "network", "network"), F(2, "coordinator", "identity")],
    "CoinbaseOutput": [F(1, "script", "coinbase_script", 34), F(2, "sat", "uint64")],
    "OutputChange": [
        F(1, "added", "TxAddOutput", optional=True),
        F(2, "removed", "TxRemoveOutput", optional=True),
        F(3, "expired", "OutputExpired", optional=True),
    ],
    "WindowPart": [
        F(1, "window", "uint64"),
        F(2, "terms", "RoundTerms", most=65_536),
        F(3, "outputs", "OutputChange", most=100_000),
        F(4, "first_share", "uint64"),
        F(5, "shares", "blob", 65_536 * 20),
    ],
    "WindowEnd": [F(1, "record", "WindowRecord"), hash_(2, "state"), F(3, "head", "SignedHead")],
    "Segment": [
        F(1, "format", "uint32", (2, 2)),
        F(2, "pool", "PoolName"),
        F(3, "parts", "WindowPart", most=65_536),
        F(4, "end", "WindowEnd"),
    ],
    "Checkpoint": [
        F(1, "format", "uint32", (2, 2)),
        F(2, "pool", "PoolName"),
        F(3, "ledger", "LedgerSnapshot"),
        F(4, "head", "SignedHead"),
        F(5, "outputs", "TxAddOutput", most=100_000),
        F(6, "signed", "SignedRound", optional=True),
    ],
    "SignedRound": [F(1, "terms", "RoundTerms"), F(2, "payout", "signed_transaction", 40_000)],
    "SampleReply": [F(1, "terms", "RoundTerms", most=64), F(2, "openings", "Opening", most=64)],
    "Opening": [
        F(1, "terms", "uint32", (0, 64)),
        F(2, "identity", "identity"),
        F(3, "lane", "uint32", LANE),
        F(4, "version", "fixed32"),
        F(5, "time", "fixed32"),
        F(6, "nonce", "fixed32"),
        F(7, "path", "Step", most=64),
        F(8, "shares", "uint64"),
        F(9, "account_path", "Step", most=64),
    ],
    "Step": [F(1, "left", "bool"), hash_(2, "hash"), F(3, "work", "uint128")],
}


def ascends(keys):
    """Strictly, as every list that is said to ascend."""
    require(all(a < b for a, b in pairwise(keys)), "malformed")


def _check_span(span):
    require(len(span.who) == len(span.work), "malformed")
    require(not span.work_high or len(span.work_high) == len(span.work), "malformed")
    require(not span.work_high or any(span.work_high), "malformed")


def _check_snapshot(snapshot):
    require(len(snapshot.workers) % 32 == 0, "malformed")
    require(sum(len(span.who) for span in snapshot.spans) <= 8_388_608, "oversized")
    ascends([entry.identity for entry in snapshot.carry])
    require(all(entry.sat for entry in snapshot.carry), "malformed")
    ascends([block.block for block in snapshot.blocks])
    named = [snapshot.workers[at : at + 32] for at in range(0, len(snapshot.workers), 32)]
    ascends(named)
    require(all(map(is_identity, named)), "malformed")
    used = set()
    for span in snapshot.spans:
        place, span.tally = -1, {}
        for gap, low, high in zip(span.who, span.work, span.work_high or [0] * len(span.who)):
            place += 1 + gap  # 0: the place right after the one before
            require(place < len(named), "malformed")
            span.tally[named[place]] = low | high << 64
        used |= span.tally.keys()
    require(len(used) == len(named), "malformed")


ONEOF = {
    name: [field.name for field in SCHEMA[name] if field.optional]
    for name in ("ToCoordinator", "ToParticipant", "Blame", "Followed", "OutputChange")
}


def _check_one(name):
    def check(message):
        present = sum(getattr(message, kind) is not None for kind in ONEOF[name])
        require(present == 1, "malformed")

    return check


CHECKS = {
    "PoolParams": check_params,
    "RoundInputs": lambda inputs: ascends([signer.key for signer in inputs.signers]),
    "RoundTerms": lambda terms: check_assignments(terms.slices),
    "Booking": lambda booking: ascends([entry.identity for entry in booking.carry]),
    "WindowRecord": lambda record: ascends([entry.identity for entry in record.tally]),
    "WindowClosed": lambda m: require(len(m.skipped) == len(m.work), "malformed"),
    "WindowPart": lambda part: require(len(part.shares) % 20 == 0, "malformed"),
    "BookedBlock": lambda block: ascends(block.credited),
    "Span": _check_span,
    "LedgerSnapshot": _check_snapshot,
    "AssignmentsSet": lambda assignments: check_assignments(assignments.slices),
}
CHECKS |= {name: _check_one(name) for name in ONEOF if name != "Blame"}  # silence leaves no evidence
