"""Section 9: records, the ledger's state, and weights. Credits are in credit.py."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from .credit import check_credit, credit_proof
from .digest import I64_MAX, I64_MIN, U128_MAX, i64, listed, require, tagged, u8, u16, u32, u64, u128

MERGE_AT, MERGED = 128, 64
FORGOTTEN_AFTER = 16_384
ZERO = bytes(32)


def tally_fields(tally):
    return listed(identity + u128(work) for identity, work in sorted(tally.items()))


def carry_fields(carry):
    return listed(identity + i64(sat) for identity, sat in sorted(carry.items()))


def carry_hash(carry):
    return tagged("tutti/carry", carry_fields(carry))


def tally_of(record):
    return {entry.identity: entry.work for entry in record.tally}


def changes_of(booking):
    return {entry.identity: entry.sat for entry in booking.carry}


def record_hash(record):
    def booking(b):
        named = b.block + b.round + u16(b.lane) + u8(b.undone)
        return named + carry_fields(changes_of(b)) + b.payouts

    def credit(c):
        return c.block + u16(c.shard) + c.identity + u32(c.sat) + credit_proof(c.proof)

    return tagged(
        "tutti/window",
        u64(record.seq),
        record.previous,
        record.shares_root,
        u64(record.shares),
        u32(record.height),
        tally_fields(tally_of(record)),
        listed(map(booking, record.bookings)),
        listed(map(credit, record.credits)),
    )


def head_hash(seq, previous, record, state):
    return tagged("tutti/ledger-head", u64(seq), previous, record, state)


@dataclass
class Span:
    level: int
    last: int
    height: int
    tally: dict

    @cached_property
    def digest(self):
        fields = u8(self.level), u64(self.last), u32(self.height), tally_fields(self.tally)
        return tagged("tutti/span", *fields)

    @cached_property
    def sum(self):
        return sum(self.tally.values())


@dataclass(frozen=True)
class Block:
    round: bytes
    lane: int
    booked: bool
    changed: int
    carry: bytes
    payouts: bytes
    credited: tuple = ()

    def encode(self, block):
        named = block + self.round + u16(self.lane) + u8(self.booked) + u64(self.changed)
        return named + self.carry + self.payouts + listed(map(u16, self.credited))


class Ledger:
    """A state. `append` makes the next one and leaves this one as it is."""

    def __init__(self, seq=0, previous=ZERO, record=ZERO, spans=(), carry=None, blocks=None):
        self.seq, self.previous, self.record = seq, previous, record
        self.spans, self.carry, self.blocks = list(spans), dict(carry or {}), dict(blocks or {})

    @classmethod
    def of_snapshot(cls, snapshot):
        spans = [Span(s.level, s.last, s.height, s.tally) for s in snapshot.spans]
        carry = {entry.identity: entry.sat for entry in snapshot.carry}
        blocks = {}
        for b in snapshot.blocks:
            fields = b.round, b.lane, b.booked, b.changed, b.carry, b.payouts, tuple(b.credited)
            blocks[b.block] = Block(*fields)
        return cls(snapshot.seq, snapshot.previous, snapshot.record, spans, carry, blocks)

    @cached_property
    def state(self):
        return tagged(
            "tutti/ledger-state",
            listed(span.digest for span in self.spans),
            carry_fields(self.carry),
            listed(block.encode(name) for name, block in sorted(self.blocks.items())),
        )

    @cached_property
    def head(self):
        return head_hash(self.seq, self.previous, self.record, self.state)

    def has_forgotten(self, identity):
        """Section 5: no carry, and named by no span."""
        worked = any(identity in span.tally for span in self.spans)
        return not worked and not self.carry.get(identity)

    def append(self, record):
        require(record.seq == self.seq + 1, "gap")
        require(record.previous == self.head, "forked")
        tally = tally_of(record)
        require(sum(tally.values()) <= U128_MAX, "overflow")
        after = Ledger(record.seq, self.head, record_hash(record), self.spans, self.carry, self.blocks)
        seen = set()
        for booking in record.bookings:
            require(booking.block not in seen, "booked-twice")
            seen.add(booking.block)
            after._book(booking)
        for credit in record.credits:
            check_credit(credit, after.blocks)
            after._change_carry(credit.identity, credit.sat)
            block = after.blocks[credit.block]
            credited = tuple(sorted(block.credited + (credit.shard,)))
            after.blocks[credit.block] = replace(block, credited=credited)
        after.carry = {identity: sat for identity, sat in after.carry.items() if sat}
        kept = after.blocks.items()
        after.blocks = {n: b for n, b in kept if b.changed + FORGOTTEN_AFTER > record.seq}
        after.spans.append(Span(0, record.seq, record.height, tally))
        after._merge()
        return after

    def _change_carry(self, identity, sat):
        self.carry[identity] = self.carry.get(identity, 0) + sat
        require(I64_MIN <= self.carry[identity] <= I64_MAX, "overflow")

    def _book(self, booking):
        """A booking's four checks, and step 1 of what follows."""
        changes, known = changes_of(booking), self.blocks.get(booking.block)
        as_booked = changes
        if booking.undone:
            require(all(-sat <= I64_MAX for sat in changes.values()), "overflow")
            require(known is not None and known.booked, "not-booked")
            as_booked = {identity: -sat for identity, sat in changes.items()}
        else:
            require(known is None or not known.booked, "booked-twice")
        said = booking.round, booking.lane, booking.payouts, carry_hash(as_booked)
        if known is not None:
            kept = known.round, known.lane, known.payouts, known.carry
            require(said == kept, "other-booking")
        if not booking.undone:
            booked = (b.round for b in self.blocks.values() if b.booked)
            require(booking.round not in booked, "booked-twice")
        for identity, sat in changes.items():
            self._change_carry(identity, sat)
        self.blocks[booking.block] = Block(
            booking.round,
            booking.lane,
            not booking.undone,
            self.seq,
            said[3],
            booking.payouts,
            known.credited if known else (),
        )

    def _merge(self):
        level = 0
        while True:
            places = [i for i, span in enumerate(self.spans) if span.level == level]
            if len(places) < MERGE_AT:
                return
            first = places[0]
            oldest = self.spans[first : first + MERGED]
            total = Counter()
            for span in oldest:
                total.update(span.tally)
            require(all(work <= U128_MAX for work in total.values()), "overflow")
            merged = Span(level + 1, oldest[-1].last, oldest[-1].height, dict(total))
            self.spans[first : first + MERGED] = [merged]
            level += 1

    def epoch_weights(self):
        height = next((span.height for span in reversed(self.spans) if span.sum), None)
        total = Counter()
        for span in self.spans:
            if span.height == height:
                total.update(span.tally)
        return {identity: work for identity, work in total.items() if work}

    def pplns_weights(self, depth):
        missing, total = depth, Counter()
        for span in reversed(self.spans):
            if span.sum > missing:
                total.update({i: w * missing // span.sum for i, w in span.tally.items()})
                break
            total.update(span.tally)
            missing -= span.sum
        return {identity: work for identity, work in total.items() if work}


def span_schedule(windows):
    """(level, last) of the spans after so many windows: step 3 for their numbers alone."""
    ledger = Ledger()
    for window in range(1, windows + 1):
        ledger.spans.append(Span(0, window, 0, {}))
        ledger._merge()
    return [(span.level, span.last) for span in ledger.spans]
