"""Rounds as a participant has them: pending, held, and what it computed of those that may be booked."""

from dataclasses import dataclass

from tutti.digest import Refused, require
from tutti.ledger import changes_of
from tutti.rounds import compute_plan
from tutti.secp256k1 import verify
from tutti.work import fold

HELD_MOST = 64
BOOKED_WITHIN = 1_024  # windows of a round's proposal, and of the join for a round that is not known

MISMATCH, POLICY, DISPUTE, UNCHECKED = 5, 6, 8, 9
BY_POLICY = (2, 3, 6, 7, 9, 22)
REJOIN = (10, 11, 12)


def abort_reason(check):
    """Of a check of section 15."""
    if check == 11:
        return DISPUTE
    return POLICY if check in BY_POLICY else MISMATCH


@dataclass
class Attempt:
    """A proposal that passed the check."""

    plan: object
    digest: bytes  # that the coordinator signed
    nonces: list
    slices: list  # the assignments when it was proposed
    slot: object  # ours, if we are a signer
    deadline: float  # until when it waits for the check of its ledger
    signer: bool = False
    answered: bool = False
    job: object = None  # of a direct round that waits

    @property
    def direct(self):
        return not self.plan.inputs.signers


@dataclass
class Held:
    plan: object
    slices: list
    signer: bool

    def own(self, identity, lanes):
        return [s for s in self.slices if s.owner == identity and s.lane < lanes]

    def lanes(self, slices, header):
        """What is hashed: (lane, slice, merkle root)."""
        roots = {}
        for s in slices:
            if s.lane not in roots:
                roots[s.lane] = fold(header.merkle_path, self.plan.coinbases[s.lane].txid())
        return [(s.lane, s, roots[s.lane]) for s in slices]


def complete(plan, signatures):
    """Section 15, final signatures: the signed payouts, lane by lane, or None."""
    if len(signatures) != len(plan.messages):
        return None
    if not all(verify(plan.key.output, m, s) for m, s in zip(plan.messages, signatures)):
        return None
    payouts = [payout for lane in plan.payouts for payout in lane]
    for payout, signature in zip(payouts, signatures):
        payout.inputs[0].witness = (signature,)
    return payouts


def computed_anyway(params, inputs, round_, ledger, payees):
    """The plan of a round that was refused by policy, to compare a booking with; or None."""
    if (inputs.roster, inputs.ledger.hash) != (payees.digest(), ledger.head):
        return None
    try:
        plan = compute_plan(params, inputs, ledger, payees)
    except Refused:
        return None
    return plan if plan.round == round_ else None


class Computed:
    """Plans of the last 1,024 windows, by round."""

    def __init__(self):
        self.plans = {}

    def add(self, plan):
        self.plans[plan.round] = plan
        newest = plan.inputs.seq
        self.plans = {r: p for r, p in self.plans.items() if p.inputs.seq + BOOKED_WITHIN >= newest}

    def check(self, bookings, ledger, joined_at):
        """Section 9: a booking is compared with what was computed for its round."""
        for booking in bookings:
            plan = self.plans.get(booking.round)
            if plan is None:
                known = booking.block in ledger.blocks
                require(known or ledger.seq < joined_at + BOOKED_WITHIN, "a booking of an unknown round")
                continue
            sign = -1 if booking.undone else 1
            expected = {identity: sign * sat for identity, sat in plan.changes.items()}
            require(changes_of(booking) == expected, "a booking changes other carries")
            require(booking.lane < plan.params.lanes, "a booking names no lane")
            require(booking.payouts == plan.payouts_hash(booking.lane), "a booking names other payouts")
