"""Sections 11 to 15: transcripts, plans, the check of a proposal, and the terms of section 8."""

from dataclasses import dataclass, field
from functools import cached_property

from . import split as splits
from .credit import payees_hash, payouts_hash
from .digest import Refused, listed, option, require, tagged, u32, u64
from .lanes import assignments_digest
from .params import REGTEST, VERSION, params_digest, shards_max
from .secp256k1 import AggregateKey, Session
from .transaction import (
    Output,
    coinbase,
    names_round,
    payout,
    payout_sighash,
    standard_script,
)
from .work import depth, fold


def round_name(params, inputs):
    """Section 11."""
    return tagged(
        "tutti/round",
        u32(VERSION),
        params_digest(params),
        u64(inputs.seq),
        u32(inputs.attempt),
        u32(inputs.height),
        u32(inputs.bits),
        u64(inputs.reward),
        option(inputs.witness_commitment),
        u64(inputs.feerate),
        inputs.roster,
        u64(inputs.ledger.seq),
        inputs.ledger.hash,
        inputs.assignments,
        listed(signer.key + signer.identity for signer in inputs.signers),
    )


def lane_coinbase(params, inputs, lane, outputs):
    named = inputs.height, params.tag.encode(), inputs.seq, lane
    return coinbase(*named, outputs, inputs.witness_commitment)


def subsidy(height, network):
    return 5_000_000_000 >> height // (150 if network == REGTEST else 210_000)


def account_weights(params, inputs, ledger, payees):
    """Section 10: the weight of each identity that has an active output."""
    if params.scoring == 1:
        weights = ledger.epoch_weights()
    else:
        deep = depth(inputs.bits, params.block_zero_bits, params.pplns_depth)
        weights = ledger.pplns_weights(deep)
    active = payees.active()
    if any(identity in weights for identity in active):
        return weights
    signers = [s.identity for s in inputs.signers if s.identity in active]
    for who in (signers, active):
        if others := [identity for identity in who if identity != params.coordinator]:
            return dict.fromkeys(others, 1)
    return {params.coordinator: 1}


@dataclass
class Plan:
    """What checks 13 to 17 of section 15 compute from a state."""

    params: object
    inputs: object
    round: bytes
    weights: dict
    split: splits.Split
    changes: dict  # of carry, by identity, none of them 0
    shards: list  # the payees' outputs (of the set) of each shard
    outputs: list  # of every coinbase, before the witness commitment
    key: AggregateKey = None
    sessions: list = field(default_factory=list)

    @cached_property
    def coinbases(self):
        lanes = range(self.params.lanes)
        return [lane_coinbase(self.params, self.inputs, lane, self.outputs) for lane in lanes]

    @cached_property
    def payouts(self):
        """Of each lane, its unsigned payouts; a direct round has none."""
        amounts = self.split.amounts
        paid = [[Output(amounts[p.serial_id], p.script) for p in shard] for shard in self.shards]
        txids = [transaction.txid() for transaction in self.coinbases]
        return [[payout(txid, i, outputs) for i, outputs in enumerate(paid)] for txid in txids]

    @cached_property
    def messages(self):
        """The sessions' messages, in their order (section 14)."""
        of_lanes = (zip(payouts, self.outputs) for payouts in self.payouts)
        return [payout_sighash(p, spent) for lane in of_lanes for p, spent in lane]

    def with_nonces(self, aggregate_nonces):
        pairs = zip(aggregate_nonces, self.messages)
        self.sessions = [Session(self.key, nonce, message) for nonce, message in pairs]
        return self

    def payouts_hash(self, lane):
        """Section 9, Payouts."""
        shards = [payees_hash([output.identity for output in shard]) for shard in self.shards]
        bump = self.params.bump_credit, self.params.bump_credit_after
        named = self.inputs.height, self.inputs.bits, *bump
        return payouts_hash(*named, self.coinbases[lane].txid(), shards)


def compute_plan(params, inputs, ledger, payees):
    """Checks 13 to 17; raises with the number of the one that fails."""
    direct = not inputs.signers
    require(inputs.height > 0, 13)
    require(inputs.reward >= subsidy(inputs.height, params.network), 14)
    identities = [signer.identity for signer in inputs.signers]
    if direct:
        require(params.direct_payees > 0, 16)
    else:
        require(len(set(identities)) == len(identities), 15)
        require(params.coordinator in identities, 15)
    weights = account_weights(params, inputs, ledger, payees)
    active = payees.by_serial_id()
    accounts = [
        splits.Account(
            output.serial_id,
            *standard_script(output.script),
            weights.get(output.identity, 0),
            ledger.carry.get(output.identity, 0),
        )
        for output in active
    ]
    by_serial = {output.serial_id: output for output in active}
    round_ = round_name(params, inputs)
    key, shards = None, []
    try:
        fee = params.operator_fee_ppm
        if direct:
            split = splits.split_direct(inputs.reward, fee, params.direct_payees, accounts)
            paid = sorted(split.amounts.items())
            outputs = [Output(sat, by_serial[serial_id].script) for serial_id, sat in paid]
            outputs.append(names_round(round_))
        else:
            key = AggregateKey([signer.key for signer in inputs.signers], round_)
            most = shards_max(params)
            split = splits.split(inputs.reward, inputs.feerate, fee, most, accounts)
            shards = [[by_serial[a.serial_id] for a in shard.accounts] for shard in split.shards]
            outputs = [Output(shard.value, key.script) for shard in split.shards]
    except (Refused, ValueError):
        raise Refused(17) from None
    changes = {}
    for account in accounts:
        change = split.carry_after.get(account.serial_id, 0) - account.carry
        if change:
            changes[by_serial[account.serial_id].identity] = change
    return Plan(params, inputs, round_, weights, split, changes, shards, outputs, key)


def _left_owed(plan, output):
    """Check 22: what is owed to an output's account that a direct round could pay and does not."""
    if output.serial_id in plan.split.amounts:
        return 0
    owed = plan.split.carry_after.get(output.serial_id, 0)
    dust_limit = standard_script(output.script)[0]
    return owed if owed >= dust_limit else 0


def check_proposal(proposal, me, ledger, payees, slices):
    """Section 15: the plan, or the number of the check that refuses.

    `proposal`: params, inputs, round, coinbases, nonces; `me`: identity, unused slots, last accepted
    (round number, attempt), policy.
    """
    params, inputs = proposal.params, proposal.inputs
    signers, direct = inputs.signers, not inputs.signers
    require(me.identity in payees.active(), 1)
    require(params.operator_fee_ppm <= me.operator_fee_ppm_max, 2)
    require(params.bump_credit <= me.bump_credit_max, 2)
    if direct:
        require(not me.refuse_direct and not me.must_be_signer, 3)
        require(not proposal.nonces, 4)
    else:
        require(me.last is None or (inputs.seq, inputs.attempt) > tuple(me.last), 5)
        require(inputs.feerate <= me.feerate_max_sat_per_kvb, 6)
        require(len(signers) >= me.signers_min, 7)
        require(all((s.identity == me.identity) == (s.key in me.slots) for s in signers), 8)
        require(not me.must_be_signer or any(s.identity == me.identity for s in signers), 9)
    require(inputs.roster == payees.digest(), 10)
    require((inputs.ledger.seq, inputs.ledger.hash) == (ledger.seq, ledger.head), 11)
    require(inputs.assignments == assignments_digest(slices), 12)
    plan = compute_plan(params, inputs, ledger, payees)
    if not direct:
        require(len(proposal.nonces) == len(plan.messages) <= 1024, 18)
    require(inputs.seq == ledger.seq, 19)
    require(proposal.round == plan.round, 20)
    require(proposal.coinbases == [transaction.txid() for transaction in plan.coinbases], 21)
    if direct:
        owed = _left_owed(plan, payees.active()[me.identity])
        require(owed <= me.direct_owed_max, 22)
    return plan


class Terms:
    """Section 8: the terms of a round, if they belong together."""

    def __init__(self, terms, network, coordinator):
        self.terms, params, inputs = terms, terms.params, terms.inputs
        header = terms.header
        require(header.bits == inputs.bits, "terms")
        require(len(terms.outputs) <= max(shards_max(params), params.direct_payees + 1), "terms")
        require((params.network, params.coordinator) == (network, coordinator), "terms")
        require(inputs.assignments == assignments_digest(terms.slices), "terms")
        require(all(s.lane < params.lanes for s in terms.slices), "terms")
        self.round = round_name(params, inputs)
        self.outputs = [Output(output.sat, output.script) for output in terms.outputs]
        require(self.outputs, "terms")
        if inputs.signers:
            try:
                self.key = AggregateKey([signer.key for signer in inputs.signers], self.round)
            except ValueError:
                raise Refused("terms") from None
            require(all(output.script == self.key.script for output in self.outputs), "terms")
        else:
            require(self.outputs[-1] == names_round(self.round), "terms")
        require(sum(output.sat for output in self.outputs) == inputs.reward, "terms")
        require(0 <= header.time_max - header.time_min <= 7200, "terms")
        self.owners = sorted({s.owner for s in terms.slices})

    @cached_property
    def coinbases(self):
        terms, lanes = self.terms, range(self.terms.params.lanes)
        return [lane_coinbase(terms.params, terms.inputs, lane, self.outputs) for lane in lanes]

    def merkle_root(self, lane):
        return fold(self.terms.header.merkle_path, self.coinbases[lane].txid())
