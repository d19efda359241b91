"""Section 10: who gets what of a reward."""

from dataclasses import dataclass, field

from .digest import I64_MAX, I64_MIN, U64_MAX, U128_MAX, require
from .transaction import ANCHOR_SAT, payout_vsize

MONEY_SAT = 2_100_000_000_000_000
PAYOUT_VB = 10_000


@dataclass
class Account:
    serial_id: int
    dust_limit: int
    output_size: int
    weight: int
    carry: int


@dataclass
class Shard:
    accounts: list
    fee: int
    value: int = 0


@dataclass
class Split:
    amounts: dict = field(default_factory=dict)  # by serial_id; what is paid
    carry_after: dict = field(default_factory=dict)  # by serial_id; 0 where it has no entry
    shards: list = field(default_factory=list)  # none of a direct split


def _signed(n):
    require(I64_MIN <= n <= I64_MAX, "overflow")
    return n


def _unsigned(n):
    require(0 <= n <= U64_MAX, "overflow")
    return n


def divide(amount, weights):
    """Largest remainder, ties to the earlier place."""
    total = sum(weights)
    require(total <= U128_MAX, "overflow")
    parts = [amount * w // total for w in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(amount * weights[i] % total))
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def fill_shards(candidates, feerate):
    """Step 2: the shards that the candidates fill in their order."""
    groups, used = [], 0
    for account in candidates:
        used += account.output_size
        if not groups or payout_vsize(len(groups[-1]) + 1, used) > PAYOUT_VB:
            groups.append([])
            used = account.output_size
        groups[-1].append(account)
    sizes = [payout_vsize(len(g), sum(a.output_size for a in g)) for g in groups]
    return [Shard(g, -(-feerate * vsize // 1000)) for g, vsize in zip(groups, sizes)]


def _costs(shards):
    return sum(shard.fee + ANCHOR_SAT for shard in shards)


def _shares_of(available, candidates, fee):
    """Steps 3 to 5: (owed, amount) of each candidate."""
    claims = [_signed(a.carry + (fee if a.serial_id == 0 else 0)) for a in candidates]
    rest = available - sum(claims)
    if rest >= 0:
        weights = [a.weight for a in candidates]
        parts = divide(_unsigned(rest), weights if any(weights) else [1] * len(weights))
        owed = [_signed(claim + part) for claim, part in zip(claims, parts)]
        return owed, list(owed)
    positive = [max(claim, 0) for claim in claims]
    parts = divide(rest + sum(positive), positive)
    return claims, [part if p > 0 else claim for claim, p, part in zip(claims, positive, parts)]


class _Passes:
    """What both splits share: candidates, and passes until one drops nobody."""

    def __init__(self, reward, operator_fee_ppm, accounts):
        require(reward <= MONEY_SAT, "reward-above-money")
        serial_ids = [a.serial_id for a in accounts]
        require(serial_ids == sorted(set(serial_ids)), "unordered")
        self.fee = reward * operator_fee_ppm // 1_000_000
        self.candidates = [
            a for a in accounts if a.weight or a.carry or (a.serial_id == 0 and self.fee)
        ]
        self.result = Split()

    def divide(self, available):
        """Steps 3 to 6 on `available`; False if somebody stopped being a candidate."""
        owed, amounts = _shares_of(available, self.candidates, self.fee)
        self.owed = {a.serial_id: o for a, o in zip(self.candidates, owed)}
        self.amounts = {a.serial_id: n for a, n in zip(self.candidates, amounts)}
        dropped = [a for a in self.candidates if self.amounts[a.serial_id] < a.dust_limit]
        for account in dropped:
            self.drop(account)
        return not dropped

    def drop(self, account):
        self.candidates.remove(account)
        self.result.carry_after[account.serial_id] = self.owed[account.serial_id]

    def by_amount(self):
        """The largest first, of those alike the one with the lower serial_id."""
        return sorted(self.candidates, key=lambda a: (-self.amounts[a.serial_id], a.serial_id))

    def pay(self, advance):
        amounts = [self.amounts[a.serial_id] for a in self.candidates]
        parts = divide(advance, amounts) if advance else [0] * len(amounts)
        for account, amount, part in zip(self.candidates, amounts, parts):
            paid = _unsigned(amount + part)
            self.result.amounts[account.serial_id] = paid
            after = _signed(self.owed[account.serial_id] - paid)
            self.result.carry_after[account.serial_id] = after


def split(reward, feerate, operator_fee_ppm, shards_max, accounts):
    passes = _Passes(reward, operator_fee_ppm, accounts)
    room = max(shards_max, 1)
    while True:
        require(passes.candidates, "nothing-payable")
        shards = fill_shards(passes.candidates, feerate)
        available = reward - _costs(shards[:room])
        require(available >= 0, "nothing-payable")
        if not passes.divide(available):
            continue
        advance = 0
        if len(shards) > room:
            # Step 7: the smallest wait until the others fill few enough shards.
            for account in reversed(passes.by_amount()):
                passes.drop(account)
                shards = fill_shards(passes.candidates, feerate)
                if len(shards) <= room:
                    break
            paid = sum(passes.amounts[a.serial_id] for a in passes.candidates)
            advance = reward - _costs(shards) - paid
            if advance < 0:
                continue
        passes.pay(advance)
        result = passes.result
        for shard in shards:
            paid = sum(result.amounts[a.serial_id] for a in shard.accounts)
            shard.value = _unsigned(paid + shard.fee + ANCHOR_SAT)
        result.shards = shards
        return result


def split_direct(reward, operator_fee_ppm, direct_payees, accounts):
    passes = _Passes(reward, operator_fee_ppm, accounts)
    while True:
        require(passes.candidates, "nothing-payable")
        if passes.divide(reward):
            break
    require(direct_payees > 0, "nothing-payable")
    waiting = passes.by_amount()[direct_payees:]
    advance = sum(passes.amounts[a.serial_id] for a in waiting)
    for account in waiting:
        passes.drop(account)
    passes.pay(advance)
    return passes.result
