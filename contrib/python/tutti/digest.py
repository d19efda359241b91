"""Section 1: tagged hashes, the encodings of their fields, and what a check says when it refuses."""

from functools import cache
from hashlib import sha256

I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1
U64_MAX, U128_MAX = (1 << 64) - 1, (1 << 128) - 1


class Refused(Exception):
    """A rule is broken; `reason` is its name in section 24, or its number in section 15."""

    def __init__(self, reason, got=None, want=None):
        super().__init__(reason)
        self.reason, self.got, self.want = reason, got, want


def require(condition, reason):
    if not condition:
        raise Refused(reason)


@cache
def _tag_hash(tag):
    return sha256(tag.encode()).digest() * 2


def tagged(tag, *fields):
    """H(tag; fields), the fields encoded already."""
    return sha256(_tag_hash(tag) + b"".join(fields)).digest()


def hash256(data):
    return sha256(sha256(data).digest()).digest()


def u8(n):
    return n.to_bytes(1, "little")


def u16(n):
    return n.to_bytes(2, "little")


def u32(n):
    return n.to_bytes(4, "little")


def u64(n):
    return n.to_bytes(8, "little")


def u128(n):
    return n.to_bytes(16, "little")


def i64(n):
    return n.to_bytes(8, "little", signed=True)


def blob(data):
    """The encoding `bytes`."""
    return u32(len(data)) + data


def option(data):
    return b"\0" if data is None else b"\1" + data


def listed(elements):
    """The encoding `list`, the elements encoded already."""
    elements = list(elements)
    return u32(len(elements)) + b"".join(elements)
