"""What a participant has whatever becomes of its session: keys, held rounds, shares, and the check."""

from tutti.following import Follower
from tutti.secp256k1 import public_key
from tutti.work import leading_zero_bits, meets

from .found import Acknowledged, Unanswered
from .rounds import HELD_MOST, Computed
from .store import Signed

USER_AGENT = "tutti-python/1"
JOBS_REMEMBERED = 64


class Miner:
    def __init__(self, store, hasher, policy, coordinator, network, script, hashrate, say):
        self.store, self.hasher, self.policy, self.say = store, hasher, policy, say
        self.coordinator, self.network = coordinator, network
        self.script, self.hashrate, self.user_agent = script, hashrate, USER_AGENT
        self.secret = store.identity_secret()
        self.identity = public_key(self.secret)
        self.signed = Signed(store, coordinator)
        self.acknowledged, self.unanswered = Acknowledged(store, coordinator), Unanswered()
        self.computed, self.held = Computed(), {}
        self.ledger = None  # of a session that was lost: the next join names its head
        self.told_serial = self.signed_serial = 0
        self.follower, self.follower_begun = None, False
        self.sessions, self.jobs = 0, {}

    # The check of the ledger.

    def follow(self, network):
        if self.follower is None:
            self.follower = Follower(network, self.coordinator, self.policy.signers_min)

    def checked(self, window):
        return self.follower.checked(window) if self.follower_begun else None

    def checked_to(self):
        return self.follower.window if self.follower_begun else -1

    # Rounds that are held, and hashing.

    def hold(self, round_, held):
        self.held.pop(round_, None)  # the newest comes last
        self.held[round_] = held
        while len(self.held) > HELD_MOST:
            del self.held[next(iter(self.held))]

    def hash(self, job, round_, header, z, lanes):
        number = self.hasher.hash(header, z, lanes)
        self.jobs[number] = job, self.held[round_].plan, z
        self.jobs.pop(number - JOBS_REMEMBERED, None)

    def found(self):
        """New shares of what the hasher found."""
        for number, lane, version, time, nonce, name in self.hasher.found():
            if number not in self.jobs:
                continue
            job, plan, z = self.jobs[number]
            share = self.unanswered.found(job, lane, version, time, nonce, z, self.sessions)
            block = meets(name, plan.inputs.bits, plan.params.block_zero_bits)
            fields = {"seq": share.seq, "zero_bits": leading_zero_bits(name), "z": z, "job": job}
            if block:
                fields["block"] = name[::-1].hex()
            self.say("share", **fields)
            yield share
