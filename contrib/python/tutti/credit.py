"""Section 9, Credit: the proof that a payout's fee was raised, and its nine checks."""

from .digest import blob, hash256, listed, require, tagged, u16, u32
from .transaction import (
    ANCHOR_SAT,
    ANCHOR_SCRIPT,
    NULL_TXID,
    NULL_VOUT,
    height_push,
    parse,
)
from .wire import BLOB_LIMIT, parse_merkle_block
from .work import meets, parse_header, target

TRANSACTIONS_MAX = 16_666


def payouts_fields(height, bits, bump_credit, bump_credit_after, coinbase_txid, shards):
    numbers = u32(height) + u32(bits) + u32(bump_credit) + u16(bump_credit_after)
    return numbers + coinbase_txid + listed(shards)


def payouts_hash(*fields):
    return tagged("tutti/payouts", payouts_fields(*fields))


def payees_hash(identities):
    return tagged("tutti/payees", listed(identities))


def _fields(p):
    return p.height, p.bits, p.bump_credit, p.bump_credit_after, p.coinbase_txid, p.shards


def credit_proof(p):
    parts = (blob(part) for part in (p.payout, p.child, p.coinbase, p.merkle_block))
    return tagged("tutti/credit-proof", payouts_fields(*_fields(p)), listed(p.payees), *parts)


def _matches(total, hashes, flags):
    """BIP37: (root, [(place, txid)]), or None where Bitcoin Core finds the tree bad."""
    bits = [byte >> i & 1 for byte in flags for i in range(8)]
    if not 0 < total <= TRANSACTIONS_MAX or len(hashes) > total or len(bits) < len(hashes):
        return None
    bits_left, hashes_left, matched = iter(bits), iter(hashes), []

    def width(height):
        return total + (1 << height) - 1 >> height

    def walk(height, place):
        parent = next(bits_left)
        if height == 0 or not parent:
            node = next(hashes_left)
            if height == 0 and parent:
                matched.append((place, node))
            return node
        left = right = walk(height - 1, 2 * place)
        if 2 * place + 1 < width(height - 1):
            right = walk(height - 1, 2 * place + 1)
            if right == left:
                raise ValueError("two equal siblings")
        return hash256(left + right)

    height = (total - 1).bit_length()
    try:
        root = walk(height, 0)
    except (StopIteration, ValueError):
        return None
    if next(hashes_left, None) is not None or len(list(bits_left)) >= 8:
        return None
    return root, matched


def check_credit(credit, blocks):
    """`blocks` as the bookings and the credits before it leave them."""
    p, block = credit.proof, blocks.get(credit.block)
    require(block is not None and block.booked, "credit-1")
    require(credit.shard not in block.credited, "credit-2")
    require(payouts_hash(*_fields(p)) == block.payouts, "credit-3")

    parts = p.payout, p.child, p.coinbase, p.merkle_block
    require(all(len(part) <= BLOB_LIMIT for part in parts), "credit-4")
    require(credit.shard < len(p.shards), "credit-4")
    require(payees_hash(p.payees) == p.shards[credit.shard], "credit-4")

    payout, child, coinbase = (parse(part, witness=False) for part in parts[:3])
    spends = [(i.txid, i.vout) for i in payout.inputs]
    require(spends == [(p.coinbase_txid, credit.shard)], "credit-5")
    anchor = len(p.payees)
    require(len(payout.outputs) == anchor + 1, "credit-5")
    last = payout.outputs[anchor]
    require((last.sat, last.script) == (ANCHOR_SAT, ANCHOR_SCRIPT), "credit-5")

    txid, vouts = payout.txid(), sorted({i.vout for i in child.inputs})
    require(child.version == 3 and len(p.child) != 64, "credit-6")
    require(all(i.txid == txid for i in child.inputs) and vouts[-1] == anchor, "credit-6")
    require(vouts[0] < anchor, "credit-6")

    require(credit.identity == p.payees[vouts[0]], "credit-7")
    spent = sum(payout.outputs[vout].sat for vout in vouts if vout < anchor)
    cost = spent - sum(output.sat for output in child.outputs)
    require(1 <= credit.sat == min(p.bump_credit, cost), "credit-7")

    header, total, hashes, flags = parse_merkle_block(p.merkle_block)
    found = _matches(total, hashes, flags)
    require(found is not None, "credit-8")
    root, matched = found
    fields = parse_header(header)
    require(root == fields.merkle_root, "credit-8")
    require([t for _, t in matched] == [coinbase.txid(), txid, child.txid()], "credit-8")
    require(matched[0][0] == 0 and meets(hash256(header), fields.bits), "credit-8")
    require(target(fields.bits) <= 4 * target(p.bits), "credit-8")

    spends = [(i.txid, i.vout) for i in coinbase.inputs]
    require(spends == [(NULL_TXID, NULL_VOUT)], "credit-9")
    height = _named_height(coinbase.inputs[0].script)
    require(height is not None, "credit-9")
    require(height >= p.height + 100 + p.bump_credit_after, "credit-9")


def _named_height(script):
    """BIP34: the height that a coinbase's script starts with, as one minimal push."""
    if script[:1] and 0x51 <= script[0] <= 0x60:
        return script[0] - 0x50
    height = int.from_bytes(script[1 : 1 + script[0]], "little") if script else 0
    minimal = height > 16 and script.startswith(height_push(height))
    return height if minimal else None
