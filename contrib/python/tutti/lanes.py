"""Section 7: slices of lanes, and when assignments are well formed."""

from itertools import pairwise

from .digest import listed, require, tagged, u8, u16

ROLLABLE = 0x1FFFE000  # BIP320


def free_mask(prefix_len):
    """The version bits that a miner of a slice may roll."""
    return (1 << 16 - prefix_len) - 1 << 13


def first_version(slice_, base):
    """The lowest version of the slice, the base's bits outside the mask."""
    return base & ~ROLLABLE | slice_.prefix << 13


def contains(slice_, base, version):
    fixed = 0xFFFFFFFF & ~free_mask(slice_.prefix_len)
    return version & fixed == first_version(slice_, base) & fixed


def place(slice_):
    return slice_.lane, slice_.prefix, slice_.prefix_len


def check_assignments(slices, lanes=256):
    """Well formed, and ascending as the schema wants a list that is sent."""
    z = {}
    for s in slices:
        require(s.lane < lanes and s.prefix_len <= 16, "malformed")
        require(s.prefix <= 0xFFFF and s.z <= 96, "malformed")
        require(s.prefix & (1 << 16 - s.prefix_len) - 1 == 0, "malformed")
        require(z.setdefault(s.owner, s.z) == s.z, "malformed")
    for a, b in pairwise(slices):
        require(place(a) < place(b), "malformed")
        disjoint = a.lane != b.lane or a.prefix + (1 << 16 - a.prefix_len) <= b.prefix
        require(disjoint, "malformed")


def assignments_digest(slices):
    fields = (
        u16(s.lane) + u16(s.prefix) + u8(s.prefix_len) + s.owner + u8(s.z)
        for s in sorted(slices, key=place)
    )
    return tagged("tutti/assignments", listed(fields))
