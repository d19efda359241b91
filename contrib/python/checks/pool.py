"""A coordinator for one participant, without a network: what it sends can be made false."""

import tempfile
from types import SimpleNamespace

from live.miner import Miner
from live.session import Policy, Session
from live.slots import Slot
from live.store import Store
from tutti import messages
from tutti.lanes import assignments_digest
from tutti.ledger import Ledger
from tutti.params import REGTEST
from tutti.payees import PayeeSet
from tutti.rounds import compute_plan
from tutti.secp256k1 import aggregate_nonces, public_key, sign
from tutti.wire import decode, encode_one

S = SimpleNamespace
SCRIPT = b"\x51\x20" + public_key(b"\5" * 32)
SNAPSHOT = S(seq=0, previous=bytes(32), record=bytes(32), spans=[], carry=[], blocks=[], workers=b"")


class Hasher:
    """Hashes nothing, and remembers what it should."""

    def __init__(self):
        self.jobs = []

    def hash(self, header, z, lanes):
        self.jobs.append((header, z, lanes))
        return len(self.jobs)

    def stop(self):
        self.jobs.append(None)


class Pool:
    def __init__(self, **changed):
        self.secret = b"\7" * 32
        self.identity = public_key(self.secret)
        fields = {"network": REGTEST, "coordinator": self.identity, "tag": "check", "operator_fee_ppm": 0}
        fields |= {"lanes": 2, "nonces_per_slot": 4, "pplns_depth": 8, "ntime_roll": 600, "scoring": 0}
        fields |= {"block_zero_bits": None, "direct_payees": 20, "bump_credit": 0, "bump_credit_after": 1}
        self.params = S(**{**fields, **changed})
        self.payees, self.ledger, self.slices = PayeeSet(self.identity), Ledger(), []
        self.events, self.sent, self.directory = [], [], tempfile.TemporaryDirectory()
        self.hasher = Hasher()
        fixed = Policy(), self.identity, REGTEST, SCRIPT, 1000
        say = lambda event, **fields: self.events.append((event, fields))
        self.miner = Miner(Store(self.directory.name), self.hasher, *fixed, say)
        self.is_checked = True
        self.miner.checked = lambda window: self.ledger.head if self.is_checked else None
        self.miner.checked_to = lambda: self.ledger.seq
        self.connect()

    def connect(self):
        self.session = Session(self.miner, self._heard, self.miner.say)

    def _heard(self, data):
        message = decode("ToCoordinator", data)
        self.sent.append(next((k, m) for k, m in vars(message).items() if m is not None))

    def heard(self, kind):
        """The last message of a kind."""
        return next((m for k, m in reversed(self.sent) if k == kind), None)

    def said(self, event):
        return next((fields for e, fields in reversed(self.events) if e == event), None)

    def signed(self, digest):
        return sign(self.secret, digest, bytes(32))

    def tell(self, kind, **fields):
        self.session.take(encode_one("ToParticipant", kind, **fields))

    # An honest pool's steps.

    def challenge(self, version=1):
        self.tell("challenge", version=version, nonce=bytes(32), params=self.params)

    def head(self, seq=None, hash_=None):
        head = S(seq=self.ledger.seq if seq is None else seq, hash=hash_ or self.ledger.head)
        return S(head=head, signature=self.signed(messages.head_digest(head.seq, head.hash)))

    def welcome(self, **changed):
        own = S(identity=self.identity, serial_id=0, script=SCRIPT)
        own.signature = self.signed(messages.add_output_digest(self.identity, own))
        self.payees.add(own)
        fields = {"outputs": [own], "ledger": SNAPSHOT, "head": self.head()}
        self.tell("welcome", **{**fields, **changed})

    def joined(self):
        self.challenge()
        self.welcome()
        self.output = self.heard("tx_add_output")
        self.payees.add(self.output, is_new=True)
        self.tell("tx_add_output", **vars(self.output))
        for _ in range(4):
            self.session.go_on()  # a slot each time
        whose = zip((self.identity, self.miner.identity), (0, 0x8000))
        self.slices = [S(lane=0, prefix=p, prefix_len=1, owner=o, z=8) for o, p in whose]
        return self

    def close_window(self, worked=None, **changed):
        fields = {"seq": self.ledger.seq + 1, "previous": self.ledger.head, "shares_root": bytes(32)}
        fields |= {"shares": 0, "tally": worked or [], "bookings": [], "height": 5, "credits": []}
        record = S(**{**fields, **changed})
        after = self.ledger.append(record)
        head = self.head(after.seq, after.head)
        self.session_ledger, self.ledger = self.ledger, after
        self.tell("window_closed", record=record, head=head, skipped=[], work=[])

    def propose(self, attempt=0, direct=False, nonces=None, signature=None, **changed):
        self.tell("assignments", slices=self.slices)
        slots = [one for kind, m in self.sent if kind == "slots" for one in m.slots]
        self.slot, self.theirs = Slot(4), slots[attempt].slot
        signers = [S(identity=self.identity, key=self.slot.key)]
        signers.append(S(identity=self.miner.identity, key=self.theirs.key))
        fields = {"seq": self.ledger.seq, "attempt": attempt, "height": 5, "bits": 0x207FFFFF}
        fields |= {"reward": 5_000_000_000, "witness_commitment": None, "feerate": 1_000}
        fields |= {"roster": self.payees.digest(), "ledger": S(seq=self.ledger.seq, hash=self.ledger.head)}
        fields |= {"assignments": assignments_digest(self.slices)}
        fields |= {"signers": [] if direct else sorted(signers, key=lambda s: s.key)}
        inputs = S(**{**fields, **changed})
        self.plan = plan = compute_plan(self.params, inputs, self.ledger, self.payees)
        if nonces is None:
            pairs = zip(self.slot.nonces, self.theirs.nonces)
            nonces = [] if direct else [aggregate_nonces(pair) for pair in pairs][: len(plan.messages)]
        self.nonces, content = nonces, messages.proposal_content(plan.round, nonces)
        self.digest = messages.proposal_digest(inputs.seq, attempt, direct, content)
        txids = [coinbase.txid() for coinbase in plan.coinbases]
        proposed = S(round=plan.round, inputs=inputs, coinbases=txids, nonces=nonces)
        self.tell("proposal", plan=proposed, signature=signature or self.signed(self.digest))

    def signatures(self):
        sessions = self.plan.with_nonces(self.nonces).sessions
        own, theirs = self.slot.sign(sessions), self.heard("tx_signatures").partials
        return [s.signature(pair) for s, pair in zip(sessions, zip(own, theirs))]

    def commit(self, signatures=None):
        self.tell("commit", round=self.plan.round, signatures=signatures or self.signatures())

    def job(self, **changed):
        header = {"version": 0x20000000, "bits": 0x207FFFFF, "previous_block": bytes(32)}
        header |= {"time_min": 1_700_000_000, "time_max": 1_700_000_600, "merkle_path": []}
        number = 2 * self.plan.inputs.seq + (not self.plan.inputs.signers)
        id_ = changed.pop("id", number)
        self.tell("job", id=id_, round=self.plan.round, header=S(**{**header, **changed}))

    def abort(self, reason=1, identity=None, bad_partial=None, refused=None, signature=None):
        blamed, evidence = [], messages.evidence()
        if identity:
            blamed = [S(identity=identity, bad_partial=bad_partial, refused=refused)]
        if bad_partial:
            shown = bad_partial.slot.signature, bad_partial.signatures.signature
            evidence = messages.evidence(*shown)
        elif refused:
            evidence = messages.evidence(refused.signature)
        pairs = [(b.identity, evidence) for b in blamed]
        signature = signature or self.signed(messages.tx_aborted_digest(self.plan.round, reason, pairs))
        self.tell("tx_aborted", round=self.plan.round, reason=reason, blamed=blamed, signature=signature)
