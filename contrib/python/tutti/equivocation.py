"""Section 16, Equivocation: a proof as a file."""

from .digest import require
from .messages import head_digest, proposal_digest
from .secp256k1 import verify


def check_proof(proof):
    """`proof`: the JSON object. Returns if it is proof."""
    require(set(proof) == {"version", "coordinator", "subject", "statements"}, "malformed")
    require(proof["version"] == 1 and len(proof["statements"]) == 2, "malformed")
    ((kind, subject),) = proof["subject"].items()
    coordinator = bytes.fromhex(proof["coordinator"])
    hashes = [bytes.fromhex(s["hash"]) for s in proof["statements"]]
    require(hashes[0] != hashes[1], "same")
    for statement, hash_ in zip(proof["statements"], hashes):
        require(set(statement) == {"hash", "signature"}, "malformed")
        if kind == "head":
            require(set(subject) == {"window"}, "malformed")
            digest = head_digest(subject["window"], hash_)
        else:
            require(kind == "proposal" and set(subject) == {"round", "attempt"}, "malformed")
            digest = proposal_digest(subject["round"], subject["attempt"], False, hash_)
        signature = bytes.fromhex(statement["signature"])
        require(verify(coordinator, digest, signature), "unsigned")
