"""Shares that were found: until they are answered, and what of them was acknowledged (section 17)."""

import time
from dataclasses import dataclass

from tutti.digest import Refused

UNANSWERED_MOST = 65_536
REMEMBERED = 262_144  # acknowledged shares of a window
WINDOWS_REMEMBERED = 4_096
SENT_AGAIN = 64  # at once, and one more with each answer


@dataclass
class Found:
    seq: int
    job: int
    lane: int
    version: int
    time: int
    nonce: int
    z: int
    session: int  # in which it was found

    def name(self):
        return self.job, self.lane, self.version, self.time, self.nonce


class Acknowledged:
    """What windows must at least show of ours: the most that one process was acknowledged, durably."""

    def __init__(self, store, coordinator):
        self.store, self.coordinator = store, coordinator
        kept = store.read("acknowledged")
        same = kept.get("coordinator") == coordinator.hex()
        self.work = {int(w): int(n) for w, n in kept["work"].items()} if same else {}
        self.window, self.counted, self.sum = 0, set(), 0
        self.shares = 0

    def add(self, window, shares):
        if window != self.window:
            self.window, self.counted, self.sum = window, set(), 0
        for share in shares:
            if share.name() in self.counted or len(self.counted) == REMEMBERED:
                continue
            self.counted.add(share.name())
            self.sum += 1 << share.z
            self.shares += 1
        if self.sum > self.work.get(window, 0):
            self.work[window] = self.sum
            self.work = dict(sorted(self.work.items())[-WINDOWS_REMEMBERED:])
            self._write()

    def check_record(self, record, shown):
        if shown < self.work.get(record.seq, 0):
            raise Refused("a window shows less work of ours than was acknowledged in it")

    def check_spans(self, spans, identity):
        for span in spans:
            windows = range(span.last - 64**span.level + 1, span.last + 1)
            told = sum(work for window, work in self.work.items() if window in windows)
            if span.tally.get(identity, 0) < told:
                self.work = {w: n for w, n in self.work.items() if w not in windows}
                self._write()
                raise Refused("a span shows less work of ours than was acknowledged in it")

    def _write(self):
        work = {window: str(work) for window, work in self.work.items()}
        self.store.write("acknowledged", {"coordinator": self.coordinator.hex(), "work": work})


class Unanswered:
    """Shares that were found and not answered. `send` puts one on its way."""

    def __init__(self):
        self.shares, self.next_seq = {}, 1
        self.again, self.not_before = [], 0.0  # of those that are sent again

    def found(self, *fields):
        share = Found(self.next_seq, *fields)
        self.next_seq += 1
        self.shares[share.seq] = share
        if len(self.shares) > UNANSWERED_MOST:
            del self.shares[next(iter(self.shares))]
        return share

    def joined(self, send):
        """A new session: all of them again."""
        self.again, self.not_before = sorted(self.shares, reverse=True), 0.0
        self.go_on(send, SENT_AGAIN)

    def go_on(self, send, most=1):
        while self.again and most and time.monotonic() >= self.not_before:
            if share := self.shares.get(self.again.pop()):
                send(share)
                most -= 1

    def answered(self, seq):
        return self.shares.pop(seq, None)

    def too_fast(self, seq, wait_ms):
        """It waits for its rate; the newest is sent again first."""
        self.not_before = time.monotonic() + min(max(wait_ms, 10), 60_000) / 1000
        if seq in self.shares:
            self.again.append(seq)

    def drop_waiting(self, job):
        """The job is stale: what waits of it needs no answer."""
        for seq in [s for s in self.again if s in self.shares and self.shares[s].job == job]:
            del self.shares[seq]
