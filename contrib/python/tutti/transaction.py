"""Transactions: parsing, sections 12 (coinbase) and 13 (payout), and the scripts of section 4."""

from dataclasses import dataclass
from hashlib import sha256

from .digest import hash256, require, tagged, u8, u16, u32, u64

ANCHOR_SAT, ANCHOR_SCRIPT = 240, bytes.fromhex("51024e73")
COMMITMENT = bytes.fromhex("6a24aa21a9ed")
NULL_TXID, NULL_VOUT = bytes(32), 0xFFFFFFFF


def standard_script(script):
    """Section 4: (dust limit, output size), or None for a script that is refused."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return 546, 34
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return 540, 32
    if len(script) == 22 and script[:2] == b"\x00\x14":
        return 294, 31
    if len(script) == 34 and script[:2] in (b"\x00\x20", b"\x51\x20"):
        return 330, 43
    return None


@dataclass
class Input:
    txid: bytes
    vout: int
    script: bytes
    sequence: int
    witness: tuple = ()


@dataclass
class Output:
    sat: int
    script: bytes


@dataclass
class Transaction:
    version: int
    inputs: list
    outputs: list
    lock_time: int

    def encode(self, witness=True):
        with_witness = witness and any(i.witness for i in self.inputs)
        parts = [u32(self.version), b"\x00\x01" if with_witness else b"", size(len(self.inputs))]
        for i in self.inputs:
            parts += [i.txid, u32(i.vout), size(len(i.script)), i.script, u32(i.sequence)]
        parts.append(size(len(self.outputs)))
        parts += [encode_output(o) for o in self.outputs]
        for i in self.inputs if with_witness else ():
            parts.append(size(len(i.witness)))
            parts += [size(len(item)) + item for item in i.witness]
        return b"".join(parts) + u32(self.lock_time)

    def txid(self):
        return hash256(self.encode(witness=False))

    def vsize(self):
        base = len(self.encode(witness=False))
        return -(-(3 * base + len(self.encode())) // 4)


def encode_output(output):
    return u64(output.sat) + size(len(output.script)) + output.script


def size(n):
    """Bitcoin's compact size."""
    if n < 253:
        return u8(n)
    return b"\xfd" + u16(n) if n < 1 << 16 else b"\xfe" + u32(n)


class Reader:
    """Consensus bytes from outside: what is not the one shortest encoding is malformed (section 16)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        require(len(self.data) - self.at >= n, "malformed")
        self.at += n
        return self.data[self.at - n : self.at]

    def integer(self, n):
        return int.from_bytes(self.take(n), "little")

    def size(self):
        first = self.integer(1)
        if first < 253:
            return first
        width = {253: 2, 254: 4, 255: 8}[first]
        n = self.integer(width)
        require(n >= (253 if width == 2 else 1 << 4 * width), "malformed")
        return n

    def end(self):
        require(self.at == len(self.data), "malformed")


def parse(data, witness=True):
    """A transaction with an input; with `witness` False it must have none."""
    r = Reader(data)
    version, count = r.integer(4), r.size()
    with_witness = witness and count == 0
    if with_witness:
        require(r.integer(1) == 1, "malformed")
        count = r.size()
    require(count > 0, "malformed")
    inputs = []
    for _ in range(count):
        inputs.append(Input(r.take(32), r.integer(4), r.take(r.size()), r.integer(4)))
    outputs = [Output(r.integer(8), r.take(r.size())) for _ in range(r.size())]
    for i in inputs if with_witness else ():
        i.witness = tuple(r.take(r.size()) for _ in range(r.size()))
    require(not with_witness or any(i.witness for i in inputs), "malformed")
    transaction = Transaction(version, inputs, outputs, r.integer(4))
    r.end()
    return transaction


def push(data):
    return u8(len(data)) + data


def height_push(height):
    """Section 12: the height as a minimal script number push."""
    if 1 <= height <= 16:
        return u8(0x50 + height)
    return push(height.to_bytes(height.bit_length() // 8 + 1, "little"))


def coinbase(height, tag, round_number, lane, outputs, commitment):
    """Section 12: `outputs` are those before the witness commitment."""
    script = height_push(height) + push(tag) + push(u64(round_number) + u16(lane))
    witness = ()
    if commitment is not None:
        outputs = outputs + [Output(0, COMMITMENT + commitment)]
        witness = (bytes(32),)
    inputs = [Input(NULL_TXID, NULL_VOUT, script, 0xFFFFFFFE, witness)]
    return Transaction(2, inputs, list(outputs), max(height - 1, 0))


def names_round(round_):
    """Section 12: the output by which a direct round's coinbase commits to its transcript."""
    return Output(0, b"\x6a\x20" + round_)


def payout(coinbase_txid, vout, payees):
    """Section 13, unsigned."""
    anchor = Output(ANCHOR_SAT, ANCHOR_SCRIPT)
    return Transaction(3, [Input(coinbase_txid, vout, b"", 0xFFFFFFFD)], payees + [anchor], 0)


def payout_vsize(payees, output_bytes):
    """Section 13: the vsize of a signed payout."""
    count = 1 if payees < 252 else 3
    return -(-(4 * (50 + count + output_bytes + 13) + 68) // 4)


def payout_sighash(transaction, spent):
    """BIP341 key path, SIGHASH_DEFAULT, no annex, for the one input that spends `spent`."""
    (i,) = transaction.inputs
    outputs = b"".join(encode_output(o) for o in transaction.outputs)
    return tagged(
        "TapSighash",
        b"\x00\x00",
        u32(transaction.version),
        u32(transaction.lock_time),
        sha256(i.txid + u32(i.vout)).digest(),
        sha256(u64(spent.sat)).digest(),
        sha256(size(len(spent.script)) + spent.script).digest(),
        sha256(u32(i.sequence)).digest(),
        sha256(outputs).digest(),
        b"\x00" + u32(0),
    )
