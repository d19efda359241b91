#!/usr/bin/env python3
"""Checks the participant's session (SPEC section 17) against a coordinator that lies in one thing at a time."""

import sys
import time
from types import SimpleNamespace

sys.dont_write_bytecode = True

from checks.pool import SCRIPT, Pool
from live.session import Left
from live.store import Proof
from tutti import messages


def leaves(step, why, kind=Left):
    try:
        step()
    except kind as left:
        assert why in str(left), f"it left, but because of: {left}"
    else:
        raise AssertionError(f"it stayed: {why}")


def proposed():
    pool = Pool().joined()
    pool.close_window()
    pool.propose()
    return pool


def committed():
    pool = proposed()
    pool.commit()
    return pool


def an_honest_round_is_signed_held_and_hashed():
    pool = committed()
    held = pool.said("held")
    assert held["signer"] and len(held["payouts"]) == 2 and not pool.hasher.jobs
    pool.job()
    ((header, z, lanes),) = pool.hasher.jobs
    assert (z, len(lanes), lanes[0][1].prefix) == (8, 1, 0x8000)


def what_the_challenge_must_say():
    leaves(lambda: Pool().challenge(version=2), "version")
    leaves(lambda: Pool(operator_fee_ppm=20_001).challenge(), "fee")
    leaves(lambda: Pool(bump_credit=20_001).challenge(), "credit")
    leaves(lambda: Pool(network=bytes.fromhex("f9beb4d9")).challenge(), "network")
    leaves(lambda: Pool(coordinator=SCRIPT[2:]).challenge(), "another coordinator")


def what_comes_out_of_order():
    leaves(lambda: Pool().welcome(), "welcome while opening")
    leaves(lambda: Pool().joined().challenge(), "challenge while joined")
    leaves(lambda: Pool().session.take(b"\xff"), "malformed")


def a_welcome_of_another_ledger():
    pool = Pool()
    pool.challenge()
    leaves(lambda: pool.welcome(head=pool.head(hash_=bytes(32))), "ledger is another")
    pool = Pool()
    pool.challenge()
    leaves(lambda: pool.welcome(ledger=None), "without the ledger")


def two_heads_of_one_window_are_proof():
    pool = Pool().joined()
    pool.close_window()
    pool.ledger = pool.session_ledger
    leaves(lambda: pool.close_window(height=6), "two histories", Proof)
    assert pool.miner.signed.proven()


def two_proposals_of_one_attempt_are_proof():
    pool = proposed()
    leaves(lambda: pool.propose(nonces=[bytes(66)] * 2), "two histories", Proof)


def a_window_that_shows_too_little():
    pool = committed()
    pool.job()
    share = pool.miner.unanswered.found(2, 0, 0x20000000, 0, 0, 8, 1)
    pool.tell("share_ack", window=2, seqs=[share.seq, share.seq, 99])
    assert pool.miner.acknowledged.work == {2: 256}
    leaves(pool.close_window, "less work of ours")
    pool = committed()
    leaves(lambda: pool.tell("share_ack", window=1, seqs=[]), "another window")


def proposals_that_are_refused():
    pool = Pool().joined()
    pool.close_window()
    pool.propose(height=4, reward=6_000_000_000, feerate=600_000)
    assert pool.heard("tx_abort").reason == 6 and pool.heard("tx_signatures") is None
    pool.propose(attempt=1, seq=7)
    assert pool.heard("tx_abort").reason == 5
    leaves(lambda: pool.propose(attempt=2, roster=bytes(32)), "check 10")
    pool = Pool().joined()
    pool.close_window()
    leaves(lambda: pool.propose(signature=bytes(64)), "unsigned proposal")


def nothing_is_signed_unchecked():
    pool = Pool().joined()
    pool.close_window()
    pool.is_checked = False
    pool.propose()
    pool.session.go_on()
    assert pool.heard("tx_complete") is None
    pool.session.pending.deadline = time.monotonic()
    pool.session.go_on()
    assert pool.heard("tx_abort").reason == 9 and pool.heard("tx_signatures") is None


def signatures_that_do_not_complete_the_plan():
    pool = proposed()
    good = pool.signatures()
    pool.commit([good[0], good[0]])
    assert pool.said("held") is None
    pool.job()
    assert not pool.hasher.jobs
    pool = proposed()
    pool.commit(pool.signatures()[:1])
    assert pool.said("held") is None


def jobs_that_are_not_hashed():
    pool = proposed()
    pool.job()
    pool.commit()
    pool.job(id=3)
    pool.job(bits=0x1D00FFFF)
    pool.job(time_max=1_600_000_000)
    pool.job(time_max=1_700_007_201)
    assert not pool.hasher.jobs


def slots_are_used_once():
    pool = proposed()
    slot = pool.session.pending.slot
    try:
        slot.sign([])
    except ValueError:
        pass
    else:
        raise AssertionError("a slot signed twice")
    keys = [one.slot.key for kind, m in pool.sent if kind == "slots" for one in m.slots]
    assert pool.theirs.key not in pool.session.slots and len(set(keys)) == len(keys)


def blames_that_are_false():
    pool = proposed()
    leaves(lambda: pool.abort(signature=bytes(64)), "unsigned abort")
    leaves(lambda: pool.abort(identity=SCRIPT[2:]), "no-signer")
    pool = proposed()
    announced = next(m for kind, m in pool.sent if kind == "slots").slots[0]
    bad = SimpleNamespace(slot=announced, signatures=pool.heard("tx_signatures"))
    leaves(lambda: pool.abort(2, pool.miner.identity, bad_partial=bad), "all-valid")
    pool = proposed()
    refused = SimpleNamespace(round=pool.plan.round, reason=6, signature=bytes(64))
    leaves(lambda: pool.abort(7, pool.miner.identity, refused=refused), "bad-signature")


def a_blame_that_is_true():
    pool = proposed()
    pool.abort(identity=pool.identity)
    assert pool.session.pending is None
    pool.propose(attempt=1)
    pool.commit()
    assert pool.said("held")["signer"]


def direct_rounds():
    pool = Pool().joined()
    pool.close_window()
    pool.propose(direct=True)
    pool.job()
    assert pool.said("held")["payouts"] == [] and len(pool.hasher.jobs) == 1
    for _ in range(15):
        pool.propose(direct=True)
    leaves(lambda: pool.propose(direct=True), "too many direct")


def outputs_that_come_again():
    pool = Pool().joined()
    leaves(lambda: pool.tell("tx_add_output", **vars(pool.output)), "came again")
    pool = Pool().joined()
    removal = SimpleNamespace(identity=pool.identity, serial_id=0)
    signature = pool.signed(messages.remove_output_digest(pool.identity, removal))
    leaves(lambda: pool.tell("tx_remove_output", **vars(removal), signature=signature), "is gone")
    pool = Pool().joined()
    leaves(lambda: pool.tell("output_expired", serial_id=0), "change")


def shares_that_come_too_fast():
    pool = committed()
    share = pool.miner.unanswered.found(2, 0, 0x20000000, 0, 0, 8, 1)
    pool.tell("share_reject", seq=share.seq, code=7, got=1, want=20)
    pool.session.go_on()
    assert pool.heard("share") is None
    time.sleep(0.02)
    pool.session.go_on()
    assert pool.heard("share").seq == share.seq
    pool.tell("share_reject", seq=share.seq, code=66, got=0, want=2)
    assert not pool.miner.unanswered.shares


CHECKS = [
    an_honest_round_is_signed_held_and_hashed,
    what_the_challenge_must_say,
    what_comes_out_of_order,
    a_welcome_of_another_ledger,
    two_heads_of_one_window_are_proof,
    two_proposals_of_one_attempt_are_proof,
    a_window_that_shows_too_little,
    proposals_that_are_refused,
    nothing_is_signed_unchecked,
    signatures_that_do_not_complete_the_plan,
    jobs_that_are_not_hashed,
    slots_are_used_once,
    blames_that_are_false,
    a_blame_that_is_true,
    direct_rounds,
    outputs_that_come_again,
    shares_that_come_too_fast,
]


def main():
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok       {name}")
        except (AssertionError, Left, Proof) as error:
            failed += 1
            print(f"failed   {name}: {error!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
