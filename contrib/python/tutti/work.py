"""Section 6: work, targets and headers."""

from dataclasses import dataclass

from .digest import U128_MAX, hash256, u32


def target(bits):
    exponent, mantissa = bits >> 24, bits & 0xFFFFFF
    if mantissa > 0x7FFFFF:
        return 0
    return mantissa >> 8 * (3 - exponent) if exponent <= 3 else (mantissa << 8 * (exponent - 3)) % (1 << 256)


def work(bits):
    return min((1 << 256) // (target(bits) + 1), U128_MAX)


def block_work(bits, block_zero_bits):
    return max(work(bits), 1 << block_zero_bits if block_zero_bits else 0)


def depth(bits, block_zero_bits, pplns_depth):
    return min(pplns_depth * block_work(bits, block_zero_bits), U128_MAX)


@dataclass
class Header:
    version: int  # the 32 bits without sign
    previous_block: bytes
    merkle_root: bytes
    time: int
    bits: int
    nonce: int

    def encode(self):
        rolled = u32(self.time) + u32(self.bits) + u32(self.nonce)
        return u32(self.version) + self.previous_block + self.merkle_root + rolled


def parse_header(data):
    n = [int.from_bytes(data[at : at + 4], "little") for at in (0, 68, 72, 76)]
    return Header(n[0], data[4:36], data[36:68], *n[1:])


def leading_zero_bits(block_hash):
    return 256 - int.from_bytes(block_hash, "little").bit_length()


def meets(block_hash, bits, block_zero_bits=None):
    """A block: the hash meets the bits, and has the zero bits that the pool asks for."""
    if leading_zero_bits(block_hash) < (block_zero_bits or 0):
        return False
    return int.from_bytes(block_hash, "little") <= target(bits)


def merkle_path(others):
    """The path of the coinbase, of the other transactions' txids in their order."""
    path, level = [], [b""] + others
    while len(level) > 1:
        path.append(level[1])
        level += level[-1:] * (len(level) % 2)
        pairs = zip(level[2::2], level[3::2])
        level = [b""] + [hash256(left + right) for left, right in pairs]
    return path


def fold(path, node):
    """Section 8: the merkle root from the coinbase's txid, which is always on the left."""
    for sibling in path:
        node = hash256(node + sibling)
    return node
