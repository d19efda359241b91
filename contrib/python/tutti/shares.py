"""Section 8: shares, their trees, openings, and what a share is judged by."""

from collections import namedtuple

from . import lanes
from .digest import U128_MAX, Refused, hash256, require, tagged, u8, u16, u64, u128
from .work import Header, leading_zero_bits, meets

Share = namedtuple("Share", "identity round lane z header")  # the header's 80 bytes


def encode_share(share):
    return share.identity + share.round + u16(share.lane) + u8(share.z) + share.header


def parse_share(data):
    return Share(data[:32], data[32:64], int.from_bytes(data[64:66], "little"), data[66], data[67:])


def leaf(share):
    return tagged("tutti/share", encode_share(share)), 1 << share.z


def _node(left, right):
    fields = left[0], u128(left[1]), right[0], u128(right[1])
    return tagged("tutti/share-node", *fields), left[1] + right[1]


def _account(identity, shares, root):
    return tagged("tutti/share-account", identity, u64(shares), root[0]), root[1]


def _root(nodes):
    while len(nodes) > 1:
        pairs = [_node(*nodes[i : i + 2]) for i in range(0, len(nodes) - 1, 2)]
        nodes = pairs + nodes[len(pairs) * 2 :]
    return nodes[0]


def by_identity(shares):
    accounts = {}
    for share in shares:
        accounts.setdefault(share.identity, []).append(share)
    return dict(sorted(accounts.items()))


def shares_root(shares):
    if not shares:
        return bytes(32)
    accounts = by_identity(shares).items()
    root = _root([_account(i, len(of), _root([leaf(s) for s in of])) for i, of in accounts])
    return tagged("tutti/shares", root[0], u128(root[1]))


def tally(shares):
    return {i: sum(1 << s.z for s in of) for i, of in by_identity(shares).items()}


def check_counted(shares, count, worked, root):
    """Section 25, step 4: a record's numbers are those of the shares."""
    require(count == len(shares), "count")
    require(worked == tally(shares), "work")
    require(root == shares_root(shares), "root")


def _climb(node, path):
    before = 0
    for step in path:
        sibling = (step.hash, step.work)
        require(node[1] + step.work <= U128_MAX, "root")
        before += step.work if step.left else 0
        node = _node(sibling, node) if step.left else _node(node, sibling)
    return node, before


def check_opening(share, opening, position, root, worked):
    """The share's first position. `worked`: the record's tally by identity."""
    own, before_share = _climb(leaf(share), opening.path)
    account = _account(share.identity, opening.shares, own)
    top, before_account = _climb(account, opening.account_path)
    require(tagged("tutti/shares", top[0], u128(top[1])) == root, "root")
    require(own[1] == worked.get(share.identity), "work")
    require(before_account == sum(w for i, w in worked.items() if i < share.identity), "work")
    first = before_account + before_share
    require(first <= position < first + (1 << share.z), "position")
    return first


def header_of(terms, merkle_root, version, time, nonce):
    previous = terms.header.previous_block
    return Header(version, previous, merkle_root, time, terms.header.bits, nonce)


def judge(round_, identity, lane, version, time, nonce):
    """Checks 3 to 6 of section 20, z and times being those of the terms (`round_.terms`)."""
    terms, base = round_.terms, round_.terms.header.version
    if rolled := (version ^ base) & ~lanes.ROLLABLE & 0xFFFFFFFF:
        raise Refused("version-out-of-range", rolled, lanes.ROLLABLE)
    own = [s for s in terms.slices if (s.owner, s.lane) == (identity, lane)]
    if not any(lanes.contains(s, base, version) for s in own):
        lowest = min((lanes.first_version(s, base) for s in own), default=0)
        raise Refused("not-your-slice", version, lowest)
    if time < terms.header.time_min:
        raise Refused("time-out-of-range", time, terms.header.time_min)
    if time > terms.header.time_max:
        raise Refused("time-out-of-range", time, terms.header.time_max)
    header = header_of(terms, round_.merkle_root(lane), version, time, nonce).encode()
    bits = leading_zero_bits(hash256(header))
    if bits < own[0].z:
        raise Refused("low-difficulty", bits, own[0].z)
    return Share(identity, round_.round, lane, own[0].z, header)


def is_block(terms, header):
    return meets(hash256(header), terms.header.bits, terms.params.block_zero_bits)


def check_sample(reply, rounds, window, root, worked, positions):
    """Section 25: a light participant's check; `rounds` makes checked rounds of terms."""
    require(len(reply.openings) == len(positions), "count")
    stood = {}
    for opening, position in zip(reply.openings, positions):
        require(opening.terms < len(reply.terms), "dangling")
        round_ = rounds(reply.terms[opening.terms])
        rolled = opening.version, opening.time, opening.nonce
        share = judge(round_, opening.identity, opening.lane, *rolled)
        check_age(window, round_.terms.inputs.ledger.seq)
        first = check_opening(share, opening, position, root, worked)
        # One share may be opened for several positions, but stands in one place.
        require(stood.setdefault(share.header, first) == first, "duplicate")


def check_age(window, last_window):
    """The window is the 1st to 1,001st after the last one of the round's transcript."""
    require(1 <= window - last_window <= 1001, "old-round")
