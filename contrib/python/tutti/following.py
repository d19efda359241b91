"""Section 25: a follower, who checks every share of a pool as it is accepted."""

from .digest import Refused, require
from .ledger import Ledger, head_hash, record_hash
from .messages import check_head
from .payees import PayeeSet
from .segments import STATES_KEPT, Audit, OpenWindow, check_checkpoint

CHANGES_KNOWN = 64  # section 18: nothing is proposed on a set with more since its window's first
COUNTED_KEPT = 1_024  # windows: so late a booking may name a share's header


class Follower(Audit):
    """Begins with a checkpoint or with window 1; a rule that raises shows that the ledger is false."""

    def __init__(self, network, coordinator, signers_min):
        super().__init__()
        self.pool, self.signers_min = (network, coordinator), signers_min
        self.opened, self.counted_in = OpenWindow(), {}
        self.shares = 0  # all that were checked

    def checked(self, window):
        """The head after a window, if all up to it was checked, and its state is known still."""
        ledger, _ = self.heads.get(window, (None, None))
        return ledger and ledger.head

    def begin(self, checkpoint=None):
        """False: a checkpoint that too few signed, to be asked for again."""
        if checkpoint is None:
            self.ledger, self.payees, self.window = Ledger(), PayeeSet(self.pool[1]), 0
        else:
            pool = checkpoint.pool.network, checkpoint.pool.coordinator
            require(pool == self.pool, "other-pool")
            require(checkpoint.signed is not None, "unsigned-payout")
            ledger, payees = check_checkpoint(checkpoint)
            if len(checkpoint.signed.terms.inputs.signers) < self.signers_min:
                return False
            self.ledger, self.payees, self.window = ledger, payees, ledger.seq
        self.head, self.first = self.ledger.head, self.window + 1
        self.start = self.window if checkpoint else None
        self.heads[self.window] = self.ledger, {self.payees.digest(): self.payees}
        return True

    def _changed(self, changes, before):
        """A checkpoint's payee set has the first changes of the window after it, which are told again."""
        if self.window != self.start:
            return super()._changed(changes, before)
        for known in range(min(len(changes), CHANGES_KNOWN) + 1):
            try:
                return super()._changed(changes[known:], before)
            except Refused:
                continue
        raise Refused("change")

    def _plan(self, window, round_):
        """Of a round on the checkpoint's ledger, but on a set before the checkpoint's, nothing is known."""
        inputs = round_.terms.inputs
        if inputs.ledger.seq == self.start and inputs.roster not in self._sets():
            return None
        return super()._plan(window, round_)

    def _sets(self):
        return self.heads.get(self.start, (None, ()))[1]

    def interrupted(self):
        """The stream ended: the next one tells the open window from its beginning."""
        self.opened = OpenWindow()

    def part(self, part):
        self._check_part(self.opened, part)
        self.shares += len(part.shares) // 20

    def end(self, end):
        require(end.record.seq == self.window + 1, "window")
        check_head(self.pool[1], end.head)
        claimed = head_hash(end.record.seq, end.record.previous, record_hash(end.record), end.state)
        require((end.head.head.seq, end.head.head.hash) == (end.record.seq, claimed), "other-head")
        self._close(self.opened, end)
        self.counted_in[self.window] = list(self.opened.counted)
        self.opened = OpenWindow()
        for name in self.counted_in.pop(self.window - COUNTED_KEPT, ()):
            del self.counted[name]
        gone = self.window - 2 * STATES_KEPT
        self.plans = {r: p for r, p in self.plans.items() if p[1] is None or p[1].inputs.seq > gone}
