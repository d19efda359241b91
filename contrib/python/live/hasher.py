"""Hashing in a process of its own, so that it holds up no session."""

import multiprocessing
import random
import select
import signal
import time
from hashlib import sha256

from tutti.lanes import first_version, free_mask
from tutti.work import Header

BATCH = 4_096


def _versions(slice_, base):
    """All versions of a slice, from a random one on: whoever starts again finds other shares."""
    low, count = first_version(slice_, base), (free_mask(slice_.prefix_len) >> 13) + 1
    begin = random.randrange(count)
    for i in range(count):
        yield low + ((begin + i) % count << 13)


class _Lane:
    """One slice of a job and where its search is."""

    def __init__(self, job, lane, slice_, merkle_root):
        self.job, self.lane, self.root = job, lane, merkle_root
        self.versions = _versions(slice_, job["version"])
        self._next_version()

    def _next_version(self):
        self.version = next(self.versions, None)  # None: all of the slice was searched
        self.nonce, self.left = random.getrandbits(32), 1 << 32

    def search(self, count):
        """(version, time, nonce, hash) of the headers that meet z."""
        job = self.job
        now = min(max(int(time.time()), job["time_min"]), job["time_max"])
        header = Header(self.version, job["previous_block"], self.root, now, job["bits"], 0).encode()
        middle, tail, limit = sha256(header[:64]), header[64:76], 1 << 256 - job["z"]
        zeros = job["z"] // 8
        end = bytes(zeros)
        for nonce in range(self.nonce, self.nonce + count):
            state = middle.copy()
            state.update(tail + (nonce & 0xFFFFFFFF).to_bytes(4, "little"))
            found = sha256(state.digest()).digest()
            if found[32 - zeros :] == end and int.from_bytes(found, "little") < limit:
                yield self.version, now, nonce & 0xFFFFFFFF, found
        self.nonce, self.left = self.nonce + count, self.left - count
        if self.left <= 0:
            self._next_version()


def _run(pipe, parents, hashrate):
    parents.close()  # else the end of the other process would not show
    for number in (signal.SIGINT, signal.SIGTERM):  # for the other process; this one ends with its pipe
        signal.signal(number, signal.SIG_IGN)
    lanes, due = [], time.monotonic()
    while True:
        if not lanes or pipe.poll():
            try:
                job = pipe.recv()
            except EOFError:
                return
            lanes = [_Lane(job, *one) for one in job["lanes"]] if job else []
            due = time.monotonic()
            continue
        lane = lanes.pop(0)
        count = min(BATCH, max(int(hashrate / 20), 1)) if hashrate else BATCH
        try:
            for found in lane.search(count):
                # Where shares come faster than they are taken (z of 0) some are dropped: this process never waits
                # for the other, which may be waiting for it.
                if select.select([], [pipe], [], 0)[1]:
                    pipe.send((lane.job["number"], lane.lane, *found))
            if lane.version is not None:
                lanes.append(lane)
        except (BrokenPipeError, ConnectionResetError):
            return
        if hashrate:
            due = max(due + count / hashrate, time.monotonic() - 1)
            if (wait := due - time.monotonic()) > 0:
                pipe.poll(wait)


class Hasher:
    """`found` of what the process found: (number of the job, lane, version, time, nonce, hash)."""

    def __init__(self, hashrate):
        self.pipe, other = multiprocessing.Pipe()
        arguments = (other, self.pipe, hashrate)
        self.process = multiprocessing.Process(target=_run, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.number, self.job = 0, None

    def fileno(self):
        return self.pipe.fileno()

    def hash(self, header, z, lanes):
        """`lanes`: (lane, slice, merkle root). Replaces what was hashed before; returns its number."""
        self.number += 1
        fields = ("version", "bits", "previous_block", "time_min", "time_max")
        job = {name: getattr(header, name) for name in fields}
        self.pipe.send({**job, "number": self.number, "z": z, "lanes": lanes})
        return self.number

    def stop(self):
        self.number += 1
        self.pipe.send(None)

    def found(self):
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except EOFError:
            raise OSError("the process that hashes has ended") from None

    def close(self):
        self.pipe.close()
        self.process.join(1)
        self.process.kill()
