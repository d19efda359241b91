"""Section 25: segments, their audit, and checkpoints."""

from base64 import b32encode
from hashlib import sha256
from types import SimpleNamespace

from .digest import Refused, hash256, require
from .ledger import Ledger, changes_of, head_hash, record_hash, span_schedule, tally_of
from .messages import check_head
from .payees import PayeeSet
from .rounds import Terms, compute_plan, round_name
from .secp256k1 import verify
from .shares import check_age, check_counted, is_block, judge
from .transaction import parse, payout_sighash
from .wire import decode
from .work import parse_header

PART_SHARES, SHARE_BYTES = 65_536, 20
STATES_KEPT = 1_024  # windows
BOOKED_WITHIN = 1_024  # windows of its round's proposal
CHANGES_MAX = 65_536  # of the payee set in a window


def cid(data):
    """Version 1, codec raw (0x55), SHA2-256 (0x12, 32 bytes), base32 in lower case without padding."""
    name = b32encode(b"\x01\x55\x12\x20" + sha256(data).digest()).decode()
    return "b" + name.lower().rstrip("=")


def _places(part):
    """(place of the terms, lane, place of the owner, version, time, nonce) of each share of a part."""
    for at in range(0, len(part.shares), SHARE_BYTES):
        widths, fields = (2, 2, 4, 4, 4, 4), []
        for width in widths:
            fields.append(int.from_bytes(part.shares[at : at + width], "little"))
            at += width
        yield tuple(fields)


def _booked_terms(terms, rounds, booking):
    """The place of the terms that a booking names: of its round, under its header's previous block."""
    previous = parse_header(booking.header).previous_block
    for place, (t, round_) in enumerate(zip(terms, rounds)):
        if (round_.round, t.header.previous_block) == (booking.round, previous):
            return place
    return None


class OpenWindow:
    """What came of the window that is next."""

    def __init__(self):
        self.shares, self.rounds, self.changes = [], [], []
        self.outputs = {}  # of each round that it tells
        self.counted = {}  # header hash -> round


class Audit:
    """Segments of consecutive windows. The state is known if they begin with window 1."""

    def __init__(self):
        self.pool = self.ledger = self.payees = None
        self.window = 0  # the last one that was checked
        self.first = None
        self.head = None
        self.tallies = {}  # of the windows checked: (tally, height)
        self.heads = {}  # of the windows whose state is known: (ledger, payee sets by digest)
        self.plans = {}  # by round: its outputs and, where its state is known, its plan
        self.counted = {}  # header hash -> round

    def check(self, data):
        segment = decode("Segment", data)
        record, head = segment.end.record, segment.end.head
        pool = segment.pool.network, segment.pool.coordinator
        require(self.pool in (None, pool), "other-pool")
        check_head(pool[1], head)
        claimed = head_hash(record.seq, record.previous, record_hash(record), segment.end.state)
        require((head.head.seq, head.head.hash) == (record.seq, claimed), "other-head")
        self._begin(pool, segment.parts, record.seq)
        terms = [t for part in segment.parts for t in part.terms]
        self._check_named(segment, terms)

        opened = OpenWindow()
        for part in segment.parts:
            self._check_part(opened, part)
        told = {round_.round for round_ in opened.rounds}
        require(all(booking.round in told for booking in record.bookings), "no-terms")
        self._check_canonical(segment, opened.rounds)
        self._close(opened, segment.end)
        self.tallies[record.seq] = tally_of(record), record.height

    def _close(self, opened, end):
        """Steps 4 and 5 of a follower."""
        before = self.ledger
        self._check_end(opened, end)
        self.counted |= opened.counted
        self._check_amounts(end.record, opened.rounds, before)
        self.window, self.head = end.record.seq, end.head.head.hash

    def _begin(self, pool, parts, window):
        if self.pool is None:
            self.pool, self.first = pool, window
            self.window = window - 1
            if window == 1:
                self.ledger, self.payees = Ledger(), PayeeSet(pool[1])
                self.head = self.ledger.head
                self.heads[0] = self.ledger, {}

    def _check_named(self, segment, terms):
        """Each of the terms is named by a share or a booking, before anything is computed."""
        named = {fields[0] for part in segment.parts for fields in _places(part)}
        names = [SimpleNamespace(round=round_name(t.params, t.inputs)) for t in terms]
        for booking in segment.end.record.bookings:
            named.add(_booked_terms(terms, names, booking))
        require(all(place in named for place in range(len(terms))), "not-canonical")

    def _check_part(self, opened, part):
        """Steps 1 to 3 of a follower."""
        require(part.window == self.window + 1, "window")
        require(part.first_share == len(opened.shares), "share-gap")
        told = [Terms(t, *self.pool) for t in part.terms]
        opened.rounds += told
        require(len(opened.rounds) <= PART_SHARES, "terms")
        for place, lane, owner, *rolled in _places(part):
            require(place < len(opened.rounds), "dangling")
            round_ = opened.rounds[place]
            require(owner < len(round_.owners), "dangling")
            share = judge(round_, round_.owners[owner], lane, *rolled)
            check_age(part.window, round_.terms.inputs.ledger.seq)
            name = hash256(share.header)
            require(name not in self.counted and name not in opened.counted, "duplicate")
            opened.counted[name] = share.round
            opened.shares.append(share)
        for round_ in told:
            same = opened.outputs.setdefault(round_.round, round_.outputs)
            require(same == round_.outputs, "outputs")
        opened.changes += part.outputs
        require(len(opened.changes) <= CHANGES_MAX, "change")

    def _check_canonical(self, segment, rounds):
        """The file is the one that its contents make."""
        parts = segment.parts
        require(all(not (p.terms or p.outputs) for p in parts[1:]), "not-canonical")
        full = PART_SHARES * SHARE_BYTES
        require(parts and all(len(p.shares) == full for p in parts[:-1]), "not-canonical")
        require(len(parts) == 1 or parts[-1].shares, "not-canonical")
        order = [fields[0] for part in parts for fields in _places(part)]
        terms = parts[0].terms
        order += [_booked_terms(terms, rounds, b) for b in segment.end.record.bookings]
        first_named = [place for place in dict.fromkeys(order) if place is not None]
        require(first_named == list(range(len(rounds))), "not-canonical")

    def _check_end(self, opened, end):
        """Step 4 of a follower."""
        record, head = end.record, end.head.head
        require(record.seq == self.window + 1, "window")
        check_counted(opened.shares, record.shares, tally_of(record), record.shares_root)
        if self.ledger is None:
            require(self.head in (None, record.previous), "forked")
            return
        before, self.ledger = self.ledger, self.ledger.append(record)
        require((self.ledger.state, self.ledger.head) == (end.state, head.hash), "other-head")
        sets = self.heads[self.window][1]
        sets[self.payees.digest()] = self.payees
        for self.payees in self._changed(opened.changes, before):
            sets[self.payees.digest()] = self.payees
        self.heads[record.seq] = self.ledger, {}
        self.heads.pop(record.seq - STATES_KEPT, None)

    def _changed(self, changes, before):
        """The payee set after each change."""
        made = [self.payees]
        for change in changes:
            made.append(made[-1].copy())
            try:
                made[-1].change(change, before)
            except Refused:
                raise Refused("change") from None
        return made

    def _check_amounts(self, record, rounds, before):
        """Step 5 of a follower."""
        for round_ in rounds:
            if round_.round in self.plans:
                require(self.plans[round_.round][0] == round_.outputs, "outputs")
            else:
                self.plans[round_.round] = round_.outputs, self._plan(record.seq, round_)
        for booking in record.bookings:
            block = before is not None and booking.block in before.blocks
            counted = self.counted.get(hash256(booking.header), booking.round)
            require(counted == booking.round, "booked-elsewhere")
            if booking.round not in {round_.round for round_ in rounds}:
                require(block, "no-terms")  # the ledger has it: nothing more is asked
                continue
            self._check_header(booking, rounds)
            inputs = next(r.terms.inputs for r in rounds if r.round == booking.round)
            age = record.seq - inputs.ledger.seq
            late = age > BOOKED_WITHIN and before is not None
            require(booking.undone or block or not late, "old-round")
            if plan := self.plans[booking.round][1]:
                sign = -1 if booking.undone else 1
                expected = {identity: sign * sat for identity, sat in plan.changes.items()}
                require(changes_of(booking) == expected, "carry")
                require(booking.payouts == plan.payouts_hash(booking.lane), "payouts")

    def _plan(self, window, round_):
        """The plan of a round that is told for the first time, if its state is known."""
        inputs = round_.terms.inputs
        require(inputs.ledger.seq < window, "old-round")
        require(inputs.seq == inputs.ledger.seq, "round-ledger")
        if inputs.ledger.seq not in self.heads:
            return None
        ledger, sets = self.heads[inputs.ledger.seq]
        require(inputs.ledger.hash == ledger.head, "round-ledger")
        require(inputs.roster in sets, "round-payees")
        return planned(round_, ledger, sets[inputs.roster])

    def _check_header(self, booking, rounds):
        """Section 9: the header proves the block."""
        place = _booked_terms([r.terms for r in rounds], rounds, booking)
        require(place is not None, "header")
        round_, header = rounds[place], parse_header(booking.header)
        require(booking.lane < round_.terms.params.lanes, "header")
        require(hash256(booking.header) == booking.block, "header")
        require(header.merkle_root == round_.merkle_root(booking.lane), "header")
        require(header.bits == round_.terms.header.bits, "header")
        require(is_block(round_.terms, booking.header), "header")

    def meet(self, checkpoint, ledger):
        """A chain of windows without a state reaches a checkpoint: its spans are theirs."""
        require(checkpoint.head.head.hash == self.head, "other-head")
        spans = [(span.level, span.last) for span in ledger.spans]
        require(spans == span_schedule(ledger.seq), "spans")
        for span in ledger.spans:
            windows = range(span.last - 64**span.level + 1, span.last + 1)
            if windows[0] < self.first:
                continue
            total = {}
            for window in windows:
                for identity, work in self.tallies[window][0].items():
                    total[identity] = total.get(identity, 0) + work
            require((span.tally, span.height) == (total, self.tallies[span.last][1]), "spans")


def planned(round_, ledger, payees):
    """Checks 13 to 17 of section 15, and that the coinbases' outputs are what follows."""
    try:
        plan = compute_plan(round_.terms.params, round_.terms.inputs, ledger, payees)
    except Refused:
        raise Refused("plan") from None
    require(plan.outputs == round_.outputs, "outputs")
    return plan


def check_checkpoint(checkpoint):
    """What a follower asks before it starts from it, in that order, as far as there is a round."""
    coordinator = checkpoint.pool.coordinator
    check_head(coordinator, checkpoint.head)
    signed, head = checkpoint.signed, checkpoint.head.head
    if signed:
        inputs = signed.terms.inputs
        require((inputs.ledger.seq, inputs.ledger.hash) == (head.seq, head.hash), "other-ledger")
        round_ = Terms(signed.terms, checkpoint.pool.network, coordinator)
        payout = parse(signed.payout)
        require(_is_signed(payout, round_), "unsigned-payout")
    payees = PayeeSet(coordinator)
    for output in checkpoint.outputs:
        try:
            payees.add(output)
        except Refused:
            raise Refused("payee-set") from None
    ledger = Ledger.of_snapshot(checkpoint.ledger)
    require((ledger.seq, ledger.head) == (head.seq, head.hash), "other-head")
    if signed:
        require(inputs.roster == payees.digest(), "round-payees")
        plan = planned(round_, ledger, payees)
        require(plan.payouts[0][0].txid() == payout.txid(), "payout")
    return ledger, payees


def _is_signed(payout, round_):
    """One input, which spends lane 0's first output; its witness is a signature of Q, and no more."""
    if not round_.terms.inputs.signers or len(payout.inputs) != 1:
        return False
    (spends,) = payout.inputs
    if (spends.txid, spends.vout) != (round_.coinbases[0].txid(), 0):
        return False
    if [len(item) for item in spends.witness] != [64]:
        return False
    message = payout_sighash(payout, round_.outputs[0])
    return verify(round_.key.output, message, spends.witness[0])
