"""Section 4: signing slots. In memory only, each for the sessions of one attempt."""

import secrets

from tutti.digest import tagged
from tutti.secp256k1 import N, compress, times_base


def _nonces(secret, key, count):
    """BIP327 NonceGen with the secret key and fresh randomness, and nothing else."""
    made = []
    while len(made) < count:
        fresh = secrets.token_bytes(32)
        masked = bytes(a ^ b for a, b in zip(secret, tagged("MuSig/aux", fresh)))
        fields = masked, bytes([len(key)]), key, b"\0", b"\0", bytes(4)
        pair = [int.from_bytes(tagged("MuSig/nonce", *fields, bytes([i])), "big") % N for i in (0, 1)]
        if all(pair):
            made.append(pair)
    return made


class Slot:
    def __init__(self, nonces):
        self._secret = secrets.randbelow(N - 1) + 1
        self.key = compress(times_base([self._secret])[0])
        self._nonces = _nonces(self._secret.to_bytes(32, "big"), self.key, nonces)
        points = times_base([number for pair in self._nonces for number in pair])
        halves = [compress(point) for point in points]
        self.nonces = [a + b for a, b in zip(halves[::2], halves[1::2])]

    def sign(self, sessions):
        """Partial signatures of an attempt's sessions; after that the slot is empty."""
        secret, nonces = self._secret, self._nonces
        self.erase()
        if secret is None or len(sessions) > len(nonces):
            raise ValueError("the slot does not fit this attempt")
        return [s.partial(secret, pair, self.key) for s, pair in zip(sessions, nonces)]

    def erase(self):
        self._secret = self._nonces = None
