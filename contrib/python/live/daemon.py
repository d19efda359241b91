"""The daemon: connects, listens to coordinator, ledger and hasher, and comes back when a session ends."""

import random
import selectors
import time
from types import SimpleNamespace

from tutti.digest import Refused
from tutti.wire import decode, encode

from .http2 import Connection, Lost
from .session import Left, Session

BACKOFF_S, BACKOFF_MOST_S = 0.25, 30
LOST_IN_A_ROW = 10  # then nothing is hashed any more
FOLLOW_AGAIN_S = 1.0
TICK_S = 0.1


class Daemon:
    def __init__(self, miner, host, port, say):
        self.miner, self.host, self.port, self.say = miner, host, port, say
        self.stopping, self.lost, self.backoff = False, 0, BACKOFF_S
        self.session = None

    def run(self):
        """Until it is stopped; raises Left for good, and Proof."""
        while not self.stopping:
            self.session = None
            try:
                self._connected()
            except Lost as lost:
                self.say("left", why=str(lost))
                self.lost += 1
                if self.session and self.session.state == "joined":
                    self.miner.ledger = self.session.ledger
                if self.lost == LOST_IN_A_ROW:
                    self.miner.hasher.stop()
            except Left as left:
                self.say("left", why=str(left))
                self.miner.ledger = None
                self.miner.hasher.stop()
                if left.for_good:
                    raise
            self.session = None
            self._wait()

    def _wait(self):
        until = time.monotonic() + self.backoff * random.uniform(0.5, 1)
        self.backoff = min(2 * self.backoff, BACKOFF_MOST_S)
        while not self.stopping and (left := until - time.monotonic()) > 0:
            self.miner.hasher.pipe.poll(min(left, TICK_S))
            list(self.miner.found())

    def _connected(self):
        connection = Connection(self.host, self.port)
        try:
            with selectors.DefaultSelector() as selector:
                self._listen(connection, selector)
        finally:
            connection.close()
            if self.session:
                self.session.close()
            if self.miner.follower:
                self.miner.follower.interrupted()

    def _listen(self, connection, selector):
        miner = self.miner
        miner.sessions += 1
        stream = connection.call("/tutti.v1.Pool/Session")
        self.session = session = Session(miner, stream.send, self.say)
        self.following, self.follow_after = None, 0.0
        connection.pump()
        selector.register(connection, selectors.EVENT_READ)
        selector.register(miner.hasher, selectors.EVENT_READ)
        while not self.stopping:
            writes = selectors.EVENT_WRITE if connection.to_send else 0
            selector.modify(connection, selectors.EVENT_READ | writes)
            waits = self.following and self.following.inbox
            for key, _ in selector.select(0 if waits else TICK_S):
                if key.fileobj is connection:
                    connection.flush()
                    connection.receive()
            while stream.inbox:
                session.take(stream.next())
                if session.state == "joined":
                    self.lost, self.backoff = 0, BACKOFF_S
            if stream.ended:
                raise Lost("the session ended: " + _shown(stream.ended))
            for share in miner.found():
                session.found(share)
            if session.state == "joined":
                self._follow(connection)
                session.go_on()
            connection.watch()

    # Section 25: the shares of all.

    def _follow(self, connection):
        """One message of the stream at a time: the session's go first."""
        miner, stream = self.miner, self.following
        if stream is None:
            if time.monotonic() >= self.follow_after:
                self.following = connection.call("/tutti.v1.Ledger/Follow")
                self.asked = miner.follower.window + 1 if miner.follower_begun else 0
                request = SimpleNamespace(window=self.asked, shares=0)
                self.following.send(encode("FollowRequest", request))
                self.following.finish()
        elif stream.inbox:
            try:
                message = decode("Followed", stream.next())
            except Refused as refused:
                raise Left(f"the ledger does not decode: {refused.reason}") from None
            try:
                self._followed(connection, message)
            except Refused as refused:
                raise Left(f"the ledger is false: {refused.reason}", for_good=True) from None
        elif stream.ended:
            self.say("unchecked", why="the ledger's stream ended: " + _shown(stream.ended))
            self._follow_again(connection)

    def _follow_again(self, connection):
        connection.cancel(self.following)
        self.miner.follower.interrupted()
        self.following, self.follow_after = None, time.monotonic() + FOLLOW_AGAIN_S

    def _followed(self, connection, m):
        miner, follower = self.miner, self.miner.follower
        if not miner.follower_begun:
            if not follower.begin(m.checkpoint):
                self.say("unchecked", why="too few signed the checkpoint")
                self._follow_again(connection)
                return
            miner.follower_begun = True
            self.say("following", after=follower.window)
            if m.checkpoint:
                miner.signed.head(m.checkpoint.head, self.session.ledger.seq + 1)
                return
        if m.checkpoint:
            raise Refused("a checkpoint that was not asked for")
        if m.part:
            follower.part(m.part)
        else:
            follower.end(m.end)
            miner.signed.head(m.end.head, self.session.ledger.seq + 1)
            self.say("checked", window=follower.window, shares=follower.shares)


def _shown(ended):
    status, detail, token = ended
    return f"status {status} {detail or token or ''}".strip()  # the detail begins with the token
