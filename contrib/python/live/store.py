"""What outlives the process: the identity, payouts, and what the coordinator said and signed."""

import json
import os
import secrets
from pathlib import Path

from tutti.secp256k1 import N

HEADS_NEWEST, HEADS_EVERY, HEADS_MOST = 128, 64, 512  # SPEC 16, Equivocation


class Store:
    def __init__(self, directory):
        self.directory = Path(directory)
        for name in ("payouts", "rounds"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)

    def identity_secret(self):
        """Made on the first start."""
        path = self.directory / "identity"
        if not path.exists():
            secret = (secrets.randbelow(N - 1) + 1).to_bytes(32, "big")
            self._write(path, secret.hex().encode() + b"\n")
        secret = bytes.fromhex(path.read_text().strip())
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < N:
            raise ValueError(f"{path} is no secret key")
        return secret

    def round(self, name, coinbases, payouts):
        """Durable when this returns: coinbases in one file, each payout in its own. The payouts' names."""
        encoded = [coinbase.encode().hex() for coinbase in coinbases]
        self._write(self.directory / "rounds" / f"{name.hex()}.coinbases", "\n".join(encoded).encode() + b"\n")
        names = [payout.txid()[::-1].hex() for payout in payouts]
        for payout_name, payout in zip(names, payouts):
            path = self.directory / "payouts" / f"{payout_name}.hex"
            if not path.exists():
                self._put(path, payout.encode().hex().encode() + b"\n")
        self._keep(self.directory / "payouts")
        return names

    def read(self, name):
        path = self.directory / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def write(self, name, value):
        self._write(self.directory / f"{name}.json", json.dumps(value, indent=1).encode() + b"\n")

    def _write(self, path, data):
        """Durable, whole or not at all."""
        self._put(path, data)
        self._keep(path.parent)

    @staticmethod
    def _put(path, data):
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)

    @staticmethod
    def _keep(directory):
        """Makes the names in a directory durable."""
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Proof(Exception):
    """The coordinator signed two things that contradict each other."""


class Signed:
    """Section 16, Equivocation: what the coordinator signed, and the proof if it contradicts itself."""

    def __init__(self, store, coordinator):
        self.store, self.coordinator = store, coordinator
        kept = store.read("heads")
        same = kept.get("coordinator") == coordinator.hex()
        heads = kept["heads"] if same else {}
        self.heads = {int(seq): tuple(map(bytes.fromhex, pair)) for seq, pair in heads.items()}
        self.proposals = {}  # (round number, attempt) -> (content, signature)

    def proven(self):
        return self.store.read("equivocation").get("coordinator") == self.coordinator.hex()

    def head(self, signed, next_window):
        """A head whose signature is valid; `next_window`: the highest number that is kept."""
        seq, pair = signed.head.seq, (signed.head.hash, signed.signature)
        if seq in self.heads:
            self._compare({"head": {"window": seq}}, self.heads[seq], pair)
        elif seq <= next_window:
            self.heads[seq] = pair
            newest = sorted(self.heads)[-HEADS_NEWEST:]
            kept = [s for s in sorted(self.heads) if s in newest or s % HEADS_EVERY == 0][-HEADS_MOST:]
            self.heads = {s: self.heads[s] for s in kept}
            heads = {s: [part.hex() for part in pair] for s, pair in self.heads.items()}
            self.store.write("heads", {"coordinator": self.coordinator.hex(), "heads": heads})

    def proposal(self, inputs, content, signature):
        """A signed round's, whose number is the ledger's, and whose signature is valid."""
        name, pair = (inputs.seq, inputs.attempt), (content, signature)
        if name in self.proposals:
            subject = {"proposal": {"round": inputs.seq, "attempt": inputs.attempt}}
            self._compare(subject, self.proposals[name], pair)
        else:
            self.proposals[name] = pair
            for gone in list(self.proposals)[:-64]:
                del self.proposals[gone]

    def _compare(self, subject, one, other):
        if one[0] == other[0]:
            return
        statements = [{"hash": h.hex(), "signature": s.hex()} for h, s in (one, other)]
        fields = {"version": 1, "coordinator": self.coordinator.hex(), "subject": subject}
        self.store.write("equivocation", {**fields, "statements": statements})
        raise Proof("the coordinator signed two histories: the proof is in equivocation.json")
