"""Protobuf for the messages of schema.py.

Decoding has two steps: protobuf's own rules (any order, unknown fields, lists packed or not, parts of
a message merged), then the schema's (section 16).
"""

import unicodedata
from types import SimpleNamespace

from .digest import Refused, require, u128
from .params import NETWORKS
from .schema import CHECKS, ONEOF, SCHEMA, U32, U64, VARINTS
from .secp256k1 import N, decompress, is_identity
from .transaction import Reader, parse, standard_script

BLOB_LIMIT = 65_536


def parse_merkle_block(data):
    """BIP37: (header, number of transactions, hashes, flag bytes)."""
    r = Reader(data)
    header, total = r.take(80), r.integer(4)
    hashes = [r.take(32) for _ in range(r.size())]
    flags = r.take(r.size())
    r.end()
    return header, total, hashes, flags


def _nonce_half(data):
    """Of an aggregate nonce; it may be infinity."""
    return data == bytes(33) or decompress(data) is not None


def _plain_text(data):
    """UTF-8 without control characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Refused("malformed") from None
    require(all(unicodedata.category(c) != "Cc" for c in text), "malformed")
    return text


def _scalar(field, value):
    """The schema's rule for one scalar."""
    kind, rule = field.kind, field.rule
    if kind in ("uint32", "uint64"):
        require(rule[0] <= value <= rule[1], "malformed")
    elif kind == "bytes":
        require(len(value) == rule, "malformed")
    elif kind == "identity":
        require(is_identity(value), "malformed")
    elif kind == "point":
        require(decompress(value) is not None, "malformed")
    elif kind == "enum":
        require(value in rule, "malformed")
    elif kind in ("nonce", "aggregate_nonce"):
        lift = decompress if kind == "nonce" else _nonce_half
        require(len(value) == 66 and lift(value[:33]) and lift(value[33:]), "malformed")
    elif kind == "partial":
        require(len(value) == 32 and int.from_bytes(value, "big") < N, "malformed")
    elif kind == "detail":
        require(len(value) <= rule, "oversized")
        return _plain_text(value)
    elif kind == "network":
        require(value in NETWORKS, "malformed")
    elif kind == "script":
        require(standard_script(value) is not None, "non-standard-script")
    elif kind == "coinbase_script":
        require(len(value) <= rule, "non-standard-script")
    elif kind == "text":
        require(len(value) <= rule, "oversized")
        require(value and all(0x20 <= c <= 0x7E for c in value), "malformed")
        return value.decode("ascii")
    elif kind == "blob":
        require(len(value) <= rule, "oversized")
    elif kind == "uint128":
        require(len(value) == 16, "malformed")
        return int.from_bytes(value, "little")
    elif kind in ("transaction", "signed_transaction"):
        require(len(value) <= (rule or BLOB_LIMIT), "oversized")
        parse(value, witness=kind == "signed_transaction")
    elif kind == "merkle_block":
        require(len(value) <= BLOB_LIMIT, "oversized")
        parse_merkle_block(value)
    return value


def _varint(data, at):
    value = 0
    for place in range(10):
        require(at + place < len(data), "malformed")
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            require(value <= U64, "malformed")
            return value, at + place + 1
    raise Refused("malformed")


def _raw(data):
    """Protobuf's fields: (number, wire type, value)."""
    at, fields = 0, []
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        require(0 < number <= U32 >> 3 and wire_type in (0, 1, 2, 5), "malformed")
        if wire_type == 0:
            value, at = _varint(data, at)
        else:
            length, at = _varint(data, at) if wire_type == 2 else ({1: 8, 5: 4}[wire_type], at)
            require(length <= len(data) - at, "malformed")
            value, at = data[at : at + length], at + length
        fields.append((number, wire_type, value))
    return fields


def _numbers(field, wire_type, value):
    """The numbers of one occurrence of a field: several if they are packed."""
    if field.most is not None and wire_type == 2:
        values, at = [], 0
        while at < len(value):
            number, at = _varint(value, at)
            values.append(number)
    else:
        require(wire_type == (5 if field.kind == "fixed32" else 0), "malformed")
        values = [int.from_bytes(value, "little") if wire_type == 5 else value]
    if field.kind == "uint32":
        return [v & U32 for v in values]
    if field.kind == "sint64":
        return [(v >> 1) ^ -(v & 1) for v in values]
    return [bool(v) for v in values] if field.kind == "bool" else values


def _is_number(field):
    return field.kind in VARINTS or field.kind == "fixed32"


def decode(name, data):
    fields = {field.number: field for field in SCHEMA[name]}
    found = {field.name: [] for field in SCHEMA[name]}
    for number, wire_type, value in _raw(data):
        if (field := fields.get(number)) is None:
            continue
        if field.name in ONEOF.get(name, ()):  # the last one counts
            for other in ONEOF[name]:
                if other != field.name:
                    found[other] = []
        if _is_number(field):
            found[field.name] += _numbers(field, wire_type, value)
        else:
            require(wire_type == 2, "malformed")
            found[field.name].append(value)
    for field in SCHEMA[name]:  # a list's length is asked before its elements
        require(field.most is None or len(found[field.name]) <= field.most, "oversized")
    message = SimpleNamespace()
    for field in SCHEMA[name]:
        setattr(message, field.name, _decoded(field, found[field.name]))
    CHECKS.get(name, lambda _: None)(message)
    return message


def _decoded(field, values):
    if field.kind in SCHEMA:
        if field.most is not None:
            return [decode(field.kind, value) for value in values]
        require(values or field.optional, "malformed")
        return decode(field.kind, b"".join(values)) if values else None
    if field.most is not None:
        return [_scalar(field, value) for value in values]
    if not values and field.optional:
        return None
    return _scalar(field, values[-1] if values else 0 if _is_number(field) else b"")


def _put_varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def _put(number, wire_type, value):
    tag = _put_varint(number << 3 | wire_type)
    return tag + (_put_varint(len(value)) if wire_type == 2 else b"") + value


def _put_scalar(field, value):
    if field.kind == "fixed32":
        return 5, value.to_bytes(4, "little")
    if field.kind == "sint64":
        return 0, _put_varint((value << 1) ^ (value >> 63))
    if field.kind in VARINTS:
        return 0, _put_varint(int(value))
    if field.kind == "uint128":
        return 2, u128(value)
    return 2, value.encode() if field.kind in ("text", "detail") else value


def encode(name, message):
    """Section 25, Segment: the one encoding that is written."""
    out = []
    for field in SCHEMA[name]:
        value = getattr(message, field.name)
        if field.kind in SCHEMA:
            messages = value if field.most is not None else [value] if value is not None else []
            out += [_put(field.number, 2, encode(field.kind, m)) for m in messages]
        elif field.most is not None and _is_number(field):
            packed = b"".join(_put_scalar(field, v)[1] for v in value)
            out.append(_put(field.number, 2, packed) if packed else b"")
        elif field.most is not None:
            out += [_put(field.number, *_put_scalar(field, v)) for v in value]
        elif field.optional and value is not None or not field.optional and value:
            out.append(_put(field.number, *_put_scalar(field, value)))
        elif field.kind == "uint128":  # 16 bytes, also where the number is 0
            out.append(_put(field.number, 2, u128(0)))
    return b"".join(out)


def encode_one(name, kind, **fields):
    """A message of a oneof, such as ToCoordinator; fields that are not given are left out."""
    inner = next(field.kind for field in SCHEMA[name] if field.name == kind)
    empty = {field.name: [] if field.most is not None else None for field in SCHEMA[inner]}
    message = SimpleNamespace(**{**empty, **fields})
    return encode(name, SimpleNamespace(**{**dict.fromkeys(ONEOF[name]), kind: message}))
