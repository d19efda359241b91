"""secp256k1, BIP340 signatures and the parts of BIP327 (MuSig2) that section 14 uses."""

from functools import cache, lru_cache

from .digest import tagged

REMEMBERED = 4_096  # what is asked often: points of keys, and signatures that come again

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
# A point is (x, y), or None at infinity. Sums are made in Jacobian coordinates, z = 0 at infinity.
INFINITY = (1, 1, 0)


def _double(p):
    x, y, z = p
    if z == 0:
        return p
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * x * x % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def _add_affine(p, q):
    x1, y1, z1 = p
    if z1 == 0:
        return q[0], q[1], 1
    zz = z1 * z1 % P
    h = (q[0] * zz - x1) % P
    r = (q[1] * zz * z1 - y1) % P
    if h == 0:
        return _double(p) if r == 0 else INFINITY
    hh = h * h % P
    hhh, v = h * hh % P, x1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def _affine(p):
    if p[2] == 0:
        return None
    inverse = pow(p[2], -1, P)
    square = inverse * inverse % P
    return p[0] * square % P, p[1] * square * inverse % P


def add(*points):
    total = INFINITY
    for point in points:
        if point is not None:
            total = _add_affine(total, point)
    return _affine(total)


def negate(point):
    return None if point is None else (point[0], P - point[1])


def _affine_all(points):
    """Several at once, none at infinity: one inversion for all (Montgomery's trick)."""
    products, product = [], 1
    for point in points:
        products.append(product)
        product = product * point[2] % P
    inverse, made = pow(product, -1, P), []
    for (x, y, z), before in zip(reversed(points), reversed(products)):
        own = inverse * before % P
        inverse = inverse * z % P
        square = own * own % P
        made.append((x * square % P, y * square * own % P))
    return made[::-1]


@lru_cache(REMEMBERED)
def _multiples(point):
    """0 to 15 times the point."""
    table = [(*point, 1)]
    while len(table) < 15:
        table.append(_add_affine(table[-1], point))
    return [None, *_affine_all(table)]


@cache
def _base_table():
    """For each of a scalar's 32 bytes, the lowest first, 0 to 255 times 256^i times G."""
    rows, base = [], G
    for _ in range(32):
        row = [(*base, 1)]
        while len(row) < 256:
            row.append(_add_affine(row[-1], base))
        *row, base = _affine_all(row)
        rows.append([None, *row])
    return rows


def _times_base(scalar):
    total = INFINITY
    for row, digit in zip(_base_table(), scalar.to_bytes(32, "little")):
        if digit:
            total = _add_affine(total, row[digit])
    return total


def times_base(scalars):
    """Each of them, from 1 to N - 1, times G."""
    return _affine_all([_times_base(scalar) for scalar in scalars])


def linear(*terms):
    """The sum of scalar times point, over pairs (scalar, point)."""
    terms = [(scalar % N, point) for scalar, point in terms if point is not None]
    tables = [(scalar, _multiples(point)) for scalar, point in terms if point != G]
    total = INFINITY
    highest = max((scalar.bit_length() for scalar, _ in tables), default=0)
    for shift in range(highest // 4 * 4, -4, -4):
        for _ in range(4):
            total = _double(total)
        for scalar, table in tables:
            if digit := scalar >> shift & 15:
                total = _add_affine(total, table[digit])
    base = _affine(_times_base(sum(scalar for scalar, point in terms if point == G) % N))
    return _affine(total if base is None else _add_affine(total, base))


@lru_cache(REMEMBERED)
def lift_x(x):
    """The point of even y with this x coordinate of 32 bytes, or None."""
    x = int.from_bytes(x, "big")
    if x >= P:
        return None
    square = (x**3 + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return x, y if y % 2 == 0 else P - y


def is_identity(key):
    return len(key) == 32 and lift_x(key) is not None


def x_bytes(point):
    return point[0].to_bytes(32, "big")


def decompress(data):
    """The point of 33 compressed bytes, or None if they are none."""
    if len(data) != 33 or data[0] not in (2, 3):
        return None
    point = lift_x(data[1:])
    return negate(point) if point and data[0] == 3 else point


def compress(point):
    """33 bytes; infinity is 33 zeros, as BIP327 has it in aggregate nonces (cbytes_ext)."""
    return bytes(33) if point is None else bytes([2 + point[1] % 2]) + x_bytes(point)


def decompress_ext(data):
    return None if data == bytes(33) else decompress(data)


def _scalar(*parts):
    return int.from_bytes(tagged(*parts), "big") % N


@lru_cache(REMEMBERED)
def verify(key, message, signature):
    """BIP340 Verify."""
    point = lift_x(key)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or len(signature) != 64 or r >= P or s >= N:
        return False
    e = _scalar("BIP0340/challenge", signature[:32], key, message)
    nonce = linear((s, G), (N - e, point))
    return nonce is not None and nonce[1] % 2 == 0 and nonce[0] == r


def public_key(secret):
    return x_bytes(linear((int.from_bytes(secret, "big"), G)))


def sign(secret, message, aux):
    """BIP340 Sign."""
    d = int.from_bytes(secret, "big")
    point = linear((d, G))
    d = d if point[1] % 2 == 0 else N - d
    mask = int.from_bytes(tagged("BIP0340/aux", aux), "big")
    k = _scalar("BIP0340/nonce", (d ^ mask).to_bytes(32, "big"), x_bytes(point), message)
    nonce = linear((k, G))
    k = k if nonce[1] % 2 == 0 else N - k
    e = _scalar("BIP0340/challenge", x_bytes(nonce), x_bytes(point), message)
    return x_bytes(nonce) + ((k + e * d) % N).to_bytes(32, "big")


# Section 14. The tweak is fixed by the round, so an aggregate key here is always the tweaked one.


class AggregateKey:
    """KeyAgg of ascending slot keys, and the one x-only tweak by the round's leaf."""

    def __init__(self, keys, round_):
        points = [decompress(key) for key in keys]
        if list(keys) != sorted(set(keys)) or not keys or None in points:
            raise ValueError("slot keys are points, ascending and all different")
        digest = tagged("KeyAgg list", *keys)
        second = next((key for key in keys if key != keys[0]), None)
        self.coefficients = {
            key: 1 if key == second else _scalar("KeyAgg coefficient", digest, key) for key in keys
        }
        internal = linear(*((self.coefficients[key], point) for key, point in zip(keys, points)))
        if internal is None:
            raise ValueError("the slot keys cancel out")
        self.internal = x_bytes(internal)
        script = b"\x6a\x20" + round_
        self.leaf = tagged("TapLeaf", b"\xc0\x22", script)
        self.tweak = tagged("TapTweak", self.internal, self.leaf)
        if int.from_bytes(self.tweak, "big") >= N:
            raise ValueError("the tweak is no scalar")
        even = internal if internal[1] % 2 == 0 else negate(internal)
        output = add(even, linear((int.from_bytes(self.tweak, "big"), G)))
        if output is None:
            raise ValueError("the tweak cancels the key")
        # BIP327: g of GetSessionValues times gacc, the sign of a signer's key in the sum.
        self.sign = (-1 if output[1] % 2 else 1) * (-1 if internal[1] % 2 else 1)
        self.tweak_sign = -1 if output[1] % 2 else 1
        self.output = x_bytes(output)
        self.script = b"\x51\x20" + self.output


def aggregate_nonces(nonces):
    """NonceAgg of 66-byte public nonces."""
    halves = ((0, 33), (33, 66))
    return b"".join(compress(add(*(decompress(nonce[a:b]) for nonce in nonces))) for a, b in halves)


class Session:
    """One payout's signing session (GetSessionValues)."""

    def __init__(self, key, aggregate_nonce, message):
        self.key = key
        first, second = decompress_ext(aggregate_nonce[:33]), decompress_ext(aggregate_nonce[33:])
        self.b = _scalar("MuSig/noncecoef", aggregate_nonce, key.output, message)
        self.nonce = linear((1, first), (self.b, second)) or G
        self.e = _scalar("BIP0340/challenge", x_bytes(self.nonce), key.output, message)

    def partial_is_valid(self, partial, slot_key, nonce):
        """PartialSigVerify."""
        s = int.from_bytes(partial, "big")
        first, second = decompress(nonce[:33]), decompress(nonce[33:])
        if s >= N or first is None or second is None or slot_key not in self.key.coefficients:
            return False
        sign = -1 if self.nonce[1] % 2 else 1
        weight = self.e * self.key.coefficients[slot_key] * self.key.sign
        return linear((s, G), (-weight, decompress(slot_key))) == linear(
            (sign, first), (sign * self.b, second)
        )

    def partial(self, secret, secret_nonce, slot_key):
        """Sign, with a slot's secret key and the two secret numbers of one nonce."""
        sign = -1 if self.nonce[1] % 2 else 1
        first, second = secret_nonce
        weight = self.e * self.key.coefficients[slot_key] * self.key.sign
        return ((sign * (first + self.b * second) + weight * secret) % N).to_bytes(32, "big")

    def signature(self, partials):
        """PartialSigAgg, or None if a partial signature is no scalar."""
        scalars = [int.from_bytes(partial, "big") for partial in partials]
        if any(s >= N for s in scalars):
            return None
        tweak = int.from_bytes(self.key.tweak, "big") * self.key.tweak_sign
        return x_bytes(self.nonce) + ((sum(scalars) + self.e * tweak) % N).to_bytes(32, "big")
