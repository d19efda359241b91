"""Section 17: a participant's session, message by message."""

import secrets
import time
from dataclasses import asdict, dataclass
from types import SimpleNamespace

from tutti import messages
from tutti.digest import Refused, hash256, require
from tutti.ledger import Ledger
from tutti.params import VERSION
from tutti.payees import PayeeSet
from tutti.rounds import check_proposal
from tutti.secp256k1 import sign, verify
from tutti.wire import decode, encode_one

from . import rounds
from .slots import Slot

SLOTS_AHEAD = 4
ATTEMPTS, DIRECT_IN_WINDOW = 64, 16
HOLDS_MOST = 8
CHECK_WAIT_S = 1.0
HEADER_TIMES_S = 7_200
RATE_LIMITED, STALE = 7, 61


@dataclass
class Policy:
    """Section 15."""

    operator_fee_ppm_max: int = 20_000
    bump_credit_max: int = 20_000
    feerate_max_sat_per_kvb: int = 500_000
    signers_min: int = 2
    must_be_signer: bool = False
    refuse_direct: bool = False
    direct_owed_max: int = 0


class Left(Exception):
    def __init__(self, why, for_good=False):
        super().__init__(why)
        self.for_good = for_good


class Session:
    """One connection's. `miner` has what outlives it."""

    def __init__(self, miner, send, say):
        self.miner, self._send_bytes, self.say = miner, send, say
        self.state = "opening"
        self.params = self.ledger = self.payees = None
        self.slices, self.slots = None, {}
        self.pending, self.direct = None, {}
        self.last, self.direct_count = None, 0
        self.registering = False

    def close(self):
        """Slots do not outlive their session."""
        for slot in self.slots.values():
            slot.erase()
        self._drop(self.pending)
        self.slots, self.pending, self.direct = {}, None, {}

    # What is sent.

    def send(self, kind, **fields):
        self._send_bytes(encode_one("ToCoordinator", kind, **fields))

    def _sign(self, digest):
        return sign(self.miner.secret, digest, secrets.token_bytes(32))

    # What comes.

    def take(self, data):
        """One message; raises Left, and Proof for good."""
        try:
            message = decode("ToParticipant", data)
            kind = next(k for k, m in vars(message).items() if m is not None)
            expected = {"opening": "challenge", "joining": "welcome"}.get(self.state)
            if kind != "reject":
                out_of_order = kind != expected if expected else kind in ("challenge", "welcome")
                require(not out_of_order, f"{kind} while {self.state}")
            getattr(self, "_" + kind)(getattr(message, kind))
        except Refused as refused:
            raise Left(str(refused.reason)) from None

    def _challenge(self, m):
        miner, params = self.miner, m.params
        require(m.version == VERSION, f"the coordinator speaks version {m.version}")
        require(params.coordinator == miner.coordinator, "another coordinator")
        require(params.network == miner.network, "another network")
        policy = miner.policy
        require(params.operator_fee_ppm <= policy.operator_fee_ppm_max, "the operator's fee")
        require(params.bump_credit <= policy.bump_credit_max, "the credit for bumps")
        self.params, self.state = params, "joining"
        fields = miner.identity, miner.hashrate, miner.user_agent
        signature = self._sign(messages.join_digest(m.nonce, params, *fields))
        names = dict(zip(("identity", "hashrate", "user_agent"), fields))
        head = miner.ledger.head if miner.ledger else None
        self.send("join", **names, signature=signature, head=head)

    def _welcome(self, m):
        miner, head = self.miner, m.head.head
        coordinator = self.params.coordinator
        messages.check_head(coordinator, m.head)
        kept = miner.signed.heads
        went_back = any(seq > head.seq for seq in kept) and head.seq + 1 not in kept
        miner.signed.head(m.head, head.seq)
        require(not went_back, "the ledger went back")
        payees = PayeeSet(coordinator)
        for output in m.outputs:
            payees.add(output)
        ledger = Ledger.of_snapshot(m.ledger) if m.ledger else miner.ledger
        require(ledger is not None, "a welcome without the ledger")
        require((ledger.seq, ledger.head) == (head.seq, head.hash), "the welcome's ledger is another")
        miner.acknowledged.check_spans(ledger.spans, miner.identity)
        self.ledger, self.payees, self.state = ledger, payees, "joined"
        self.joined_at, miner.ledger = ledger.seq, None
        miner.told_serial = max([miner.told_serial, *self._own_serials()])
        said = {"window": ledger.seq, "payees": len(payees.outputs), "snapshot": m.ledger is not None}
        self.say("joined", identity=miner.identity.hex(), **said)
        if miner.held:
            self.send("holds", rounds=list(miner.held)[: -HOLDS_MOST - 1 : -1])
        self._register()
        miner.follow(self.params.network)
        self._announce()
        miner.unanswered.joined(self._send_share)

    # The payee set.

    def _own_serials(self):
        return [o.serial_id for o in self.payees.outputs if o.identity == self.miner.identity]

    def _register(self):
        """Our active output pays our script, and none is left of before."""
        miner = self.miner
        own = [o for o in self.payees.outputs if o.identity == miner.identity]
        for output in own[:-1]:
            name = SimpleNamespace(identity=miner.identity, serial_id=output.serial_id)
            signature = self._sign(messages.remove_output_digest(miner.coordinator, name))
            self.send("tx_remove_output", **vars(name), signature=signature)
        if own and own[-1].script == miner.script or self.registering:
            return
        lowest = min((self.ledger.seq + 1) << 36, 1 << 63)
        lowest = max([lowest, miner.told_serial, miner.signed_serial]) | 1
        miner.signed_serial = lowest + 2 * (secrets.randbelow(1 << 31) + 1)
        names = {"identity": miner.identity, "serial_id": miner.signed_serial, "script": miner.script}
        signature = self._sign(messages.add_output_digest(miner.coordinator, SimpleNamespace(**names)))
        self.registering = True
        self.send("tx_add_output", **names, signature=signature)

    def _tx_add_output(self, output):
        miner = self.miner
        own = output.identity == miner.identity
        require(not own or output.serial_id > miner.told_serial, "an old output of ours came again")
        self.payees.add(output, is_new=True)
        if own:
            miner.told_serial, self.registering = output.serial_id, False
            self._register()

    def _tx_remove_output(self, removal):
        if removal.identity == self.params.coordinator:
            active = self.payees.active().get(removal.identity)
            require(active and active.serial_id != removal.serial_id, "the coordinator's output is gone")
        self.payees.remove(removal)

    def _output_expired(self, expired):
        own = expired.serial_id in self._own_serials()
        self.payees.expire(expired.serial_id, self.ledger)
        if own:
            told = any(window > self.ledger.seq for window in self.miner.acknowledged.work)
            require(not told, "our output expired although work of ours counts")
            self._register()

    # The ledger.

    def _window_closed(self, m):
        miner, ledger = self.miner, self.ledger
        messages.check_head(self.params.coordinator, m.head)
        miner.signed.head(m.head, ledger.seq + 1)
        record = messages.window_closed(m, self.params.coordinator, self.payees, SimpleNamespace)
        shown = sum(e.work for e in record.tally if e.identity == miner.identity)
        miner.acknowledged.check_record(record, shown)
        miner.computed.check(record.bookings, ledger, self.joined_at)
        for booking in record.bookings:
            require(hash256(booking.header) == booking.block, "a booking's header is of another block")
        after = ledger.append(record)
        require((after.seq, after.head) == (m.head.head.seq, m.head.head.hash), "the head is another")
        self.ledger, self.direct_count = after, 0
        self._compare_with_check()
        self._register()

    def _compare_with_check(self):
        """The session's ledger and the follower's are one."""
        checked = self.miner.checked(self.ledger.seq)
        if checked not in (None, self.ledger.head):
            raise Left("the ledger that was checked is another", for_good=True)

    def _assignments(self, m):
        self.slices = m.slices

    # Rounds.

    def _announce(self):
        """A slot, if fewer than enough are ahead; none while the check is more than one window behind.

        One at a time: what comes meanwhile, a proposal most of all, goes first.
        """
        enough = len(self.slots) >= SLOTS_AHEAD
        if enough or self.pending or self.miner.checked_to() + 1 < self.ledger.seq:
            return
        slot = Slot(self.params.nonces_per_slot)
        self.slots[slot.key] = slot
        fields = self.miner.coordinator, self.miner.identity, slot.key, slot.nonces
        signature = self._sign(messages.slot_digest(*fields))
        public = SimpleNamespace(key=slot.key, nonces=slot.nonces)
        self.send("slots", slots=[SimpleNamespace(slot=public, signature=signature)])

    def _drop(self, attempt):
        if attempt and attempt.slot:
            attempt.slot.erase()

    def _proposal(self, m):
        miner, proposed = self.miner, m.plan
        inputs = proposed.inputs
        direct = not inputs.signers
        content = messages.proposal_content(proposed.round, proposed.nonces)
        digest = messages.proposal_digest(inputs.seq, inputs.attempt, direct, content)
        require(verify(self.params.coordinator, digest, m.signature), "an unsigned proposal")
        require(inputs.attempt < ATTEMPTS, "an attempt that no honest coordinator makes")
        if direct:
            self.direct_count += 1
            require(self.direct_count <= DIRECT_IN_WINDOW, "too many direct rounds on one window")
        elif inputs.seq == self.ledger.seq:
            miner.signed.proposal(inputs, content, m.signature)
        me = {"identity": miner.identity, "slots": set(self.slots), "last": self.last}
        taken = [self.slots.pop(s.key) for s in inputs.signers if s.key in self.slots]
        named = any(s.identity == miner.identity for s in inputs.signers)
        proposal = SimpleNamespace(params=self.params, **vars(proposed))
        try:
            me = SimpleNamespace(**me, **asdict(miner.policy))
            plan = check_proposal(proposal, me, self.ledger, self.payees, self.slices or [])
        except Refused as refused:
            for slot in taken:
                slot.erase()
            self._refuse(proposed, refused.reason, named)
            return
        miner.computed.add(plan)
        deadline = time.monotonic() + CHECK_WAIT_S
        slot = taken[0] if taken else None
        fixed = digest, proposed.nonces, self.slices, slot, deadline
        attempt = rounds.Attempt(plan, *fixed, signer=bool(slot))
        if direct:
            self.direct[plan.round] = attempt
        else:
            self._drop(self.pending)
            self.pending, self.last = attempt, (inputs.seq, inputs.attempt)
        self.go_on()

    def _refuse(self, proposed, check, named):
        inputs, reason = proposed.inputs, rounds.abort_reason(check)
        self.say("refused", why=f"check {check} of a proposal", round=proposed.round.hex())
        if check in rounds.BY_POLICY or check == 1:
            state = self.params, inputs, proposed.round, self.ledger, self.payees
            if plan := rounds.computed_anyway(*state):
                self.miner.computed.add(plan)
        if named:
            self._abort(proposed.round, reason)
        if check in rounds.REJOIN:
            raise Left(f"check {check} of a proposal: the state is another")
        self._announce()

    def _abort(self, round_, reason):
        signature = self._sign(messages.tx_abort_digest(round_, reason))
        self.send("tx_abort", round=round_, reason=reason, signature=signature)

    def go_on(self):
        """Answers what waited for the check of its ledger, refuses what waited too long, announces slots."""
        if self.state != "joined":
            return
        self._compare_with_check()
        for attempt in [*self.direct.values(), *([self.pending] if self.pending else [])]:
            if attempt.answered:
                continue
            ledger = attempt.plan.inputs.ledger
            if self.miner.checked(ledger.seq) == ledger.hash:
                self._answer(attempt)
            elif time.monotonic() >= attempt.deadline:
                self._unchecked(attempt)
        self._announce()
        self.miner.unanswered.go_on(self._send_share)

    def _answer(self, attempt):
        attempt.answered, plan = True, attempt.plan
        self.send("tx_complete", round=plan.round)
        if attempt.slot:
            plan.with_nonces(attempt.nonces)
            partials = attempt.slot.sign(plan.sessions)
            said = plan.round, attempt.digest, partials
            signature = self._sign(messages.tx_signatures_digest(*said))
            names = dict(zip(("round", "proposal", "partials"), said))
            self.send("tx_signatures", **names, signature=signature)
            inputs = plan.inputs
            self.say("signed", round=plan.round.hex(), number=inputs.seq, attempt=inputs.attempt)
        if attempt.direct:
            del self.direct[plan.round]
            self._hold(attempt, [])
            if attempt.job:
                self._job(attempt.job)

    def _unchecked(self, attempt):
        self._drop(attempt)
        self.say("refused", why="the ledger is not checked", round=attempt.plan.round.hex())
        if attempt.direct:
            del self.direct[attempt.plan.round]
            return
        if attempt.slot:
            self._abort(attempt.plan.round, rounds.UNCHECKED)
        self.pending = None

    def _tx_aborted(self, m):
        blamed = []
        for blame in m.blamed:
            shown = []
            if bad := blame.bad_partial:
                shown = [bad.slot.signature, bad.signatures.signature]
            elif blame.refused:
                shown = [blame.refused.signature]
            blamed.append((blame.identity, messages.evidence(*shown)))
        digest = messages.tx_aborted_digest(m.round, m.reason, blamed)
        require(verify(self.params.coordinator, digest, m.signature), "an unsigned abort")
        if not self.pending or self.pending.plan.round != m.round:
            return
        attempt, self.pending = self.pending, None
        self._drop(attempt)
        for blame in m.blamed:
            self._check_blame(attempt, blame)
        why = {"reason": m.reason, "blamed": [b.identity.hex() for b in m.blamed]}
        self.say("aborted", round=m.round.hex(), **why)
        self._announce()

    def _check_blame(self, attempt, blame):
        bad = blame.bad_partial
        if bad:
            attempt.plan.with_nonces(attempt.nonces)
            slot = SimpleNamespace(**vars(bad.slot.slot), signature=bad.slot.signature)
            bad = SimpleNamespace(slot=slot, tx_signatures=bad.signatures)
        try:
            shown = blame.identity, blame.refused, bad
            messages.check_blame(attempt.plan, attempt.digest, *shown)
        except Refused as refused:
            raise Left(f"a false blame: {refused.reason}") from None

    def _commit(self, m):
        if not self.pending or self.pending.plan.round != m.round:
            return
        attempt, self.pending = self.pending, None
        self._drop(attempt)
        if attempt.answered:
            payouts = rounds.complete(attempt.plan, m.signatures)
            if payouts is None:
                self.say("refused", why="signatures that do not complete the plan", round=m.round.hex())
            else:
                self._hold(attempt, payouts)

    def _hold(self, attempt, payouts):
        """Coinbases and payouts are durable before anything is hashed."""
        miner, plan = self.miner, attempt.plan
        names = miner.store.round(plan.round, plan.coinbases, payouts)
        miner.hold(plan.round, rounds.Held(plan, attempt.slices, attempt.signer))
        fields = {"lanes": self.params.lanes, "payouts": names, "signer": attempt.signer}
        if attempt.direct:
            fields["direct"] = True
        self.say("held", round=plan.round.hex(), number=plan.inputs.seq, **fields)

    def _job(self, job):
        miner, header = self.miner, job.header
        for attempt in self.direct.values():  # a job of one that waits, waits with it
            attempt.job = job if attempt.plan.round == job.round else None
        if not (held := miner.held.get(job.round)):
            return
        inputs = held.plan.inputs
        own = held.own(miner.identity, self.params.lanes)
        times = 0 <= header.time_max - header.time_min <= HEADER_TIMES_S
        number = 2 * inputs.seq + (not inputs.signers)
        if not (own and times and header.bits == inputs.bits and job.id == number):
            return
        miner.hash(job.id, job.round, header, own[0].z, held.lanes(own, header))
        self.say("job", id=job.id, round=job.round.hex(), z=own[0].z, slices=len(own))

    # Shares.

    def _send_share(self, share):
        names = ("seq", "job", "lane", "version", "time", "nonce")
        self.send("share", **{name: getattr(share, name) for name in names})

    def found(self, share):
        if self.state == "joined":
            self._send_share(share)

    def _share_ack(self, m):
        miner = self.miner
        require(m.window == self.ledger.seq + 1, "shares are acknowledged in another window")
        shares = [share for seq in m.seqs if (share := miner.unanswered.answered(seq))]
        miner.acknowledged.add(m.window, shares)
        if shares:
            self.say("acked", shares=miner.acknowledged.shares, window=m.window)
        miner.unanswered.go_on(self._send_share, len(shares))

    def _share_reject(self, m):
        unanswered = self.miner.unanswered
        if m.code == RATE_LIMITED:
            unanswered.too_fast(m.seq, m.got)
        elif share := unanswered.answered(m.seq):
            if m.code == STALE:
                unanswered.drop_waiting(share.job)
            unanswered.go_on(self._send_share)
        self.say("share_rejected", seq=m.seq, code=m.code, got=m.got, want=m.want)

    def _block_found(self, m):
        found = {"height": m.height, "hash": m.hash[::-1].hex(), "round": m.round.hex()}
        self.say("block_found", **found, lane=m.lane, finder=m.finder.hex())

    def _reject(self, m):
        self.registering = False
        self.say("rejected", code=m.code, detail=m.detail)
