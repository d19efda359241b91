"""Section 16: what identity signatures cover, what a window's end says, and what a blame is worth."""

from .digest import Refused, blob, listed, require, tagged, u8, u32, u64
from .params import VERSION, params_digest
from .secp256k1 import verify


def join_digest(nonce, params, identity, hashrate, user_agent):
    fields = identity, u64(hashrate), blob(user_agent.encode())
    return tagged("tutti/join", u32(VERSION), nonce, params_digest(params), *fields)


def add_output_digest(coordinator, m):
    fields = m.identity, u64(m.serial_id), blob(m.script)
    return tagged("tutti/tx_add_output", coordinator, *fields)


def remove_output_digest(coordinator, m):
    return tagged("tutti/tx_remove_output", coordinator, m.identity, u64(m.serial_id))


def slot_digest(coordinator, identity, key, nonces):
    return tagged("tutti/slot", coordinator, identity, key, listed(nonces))


def proposal_content(round_, nonces):
    return tagged("tutti/proposal-content", round_, listed(nonces))


def proposal_digest(seq, attempt, direct, content):
    return tagged("tutti/proposal", u64(seq), u32(attempt), u8(direct), content)


def tx_signatures_digest(round_, proposal, partials):
    return tagged("tutti/tx_signatures", round_, proposal, listed(partials))


def tx_abort_digest(round_, reason):
    return tagged("tutti/tx_abort", round_, u32(reason))


def tx_aborted_digest(round_, reason, blamed):
    """`blamed`: pairs of an identity and its evidence, encoded."""
    return tagged("tutti/tx_aborted", round_, u32(reason), listed(i + e for i, e in blamed))


def evidence(*signatures):
    """None: nothing; of a TxAbort: that it refused; of a slot and a TxSignatures: a bad partial."""
    kind = {0: 0, 2: 1, 1: 2}[len(signatures)]
    return u8(kind) + b"".join(signatures)


def head_digest(seq, head):
    return tagged("tutti/head", u64(seq), head)


def check_head(coordinator, signed):
    digest = head_digest(signed.head.seq, signed.head.hash)
    require(verify(coordinator, digest, signed.signature), "unsigned-head")


def window_closed(message, coordinator, payees, entry):
    """Section 17: the record of a WindowClosed, with the work of payees in its tally."""
    check_head(coordinator, message.head)
    identities = sorted(payees.active())
    tally, place = {e.identity: e.work for e in message.record.tally}, -1
    for skipped, work in zip(message.skipped, message.work):
        place += 1 + skipped
        require(place < len(identities), "no-such-payee")
        require(identities[place] not in tally, "twice")
        tally[identities[place]] = work
    message.record.tally = [entry(identity=i, work=tally[i]) for i in sorted(tally)]
    return message.record


def check_blame(plan, proposal, identity, refused=None, bad_partial=None):
    """Raises if the blame is false. `plan` has the round, its signers and the sessions."""
    signers = {signer.identity: signer.key for signer in plan.inputs.signers}
    require(identity in signers, "no-signer")
    if refused is not None:
        digest = tx_abort_digest(refused.round, refused.reason)
        require(verify(identity, digest, refused.signature), "bad-signature")
        require(refused.round == plan.round, "other-round")
    if bad_partial is None:
        return
    slot, answer = bad_partial.slot, bad_partial.tx_signatures
    digest = slot_digest(plan.params.coordinator, identity, slot.key, slot.nonces)
    require(verify(identity, digest, slot.signature), "bad-signature")
    digest = tx_signatures_digest(answer.round, answer.proposal, answer.partials)
    require(verify(identity, digest, answer.signature), "bad-signature")
    require(answer.round == plan.round and answer.proposal == proposal, "other-round")
    require(slot.key == signers[identity], "other-key")
    if len(answer.partials) == len(plan.sessions):
        sent = zip(plan.sessions, answer.partials, slot.nonces)
        if all(s.partial_is_valid(partial, slot.key, nonce) for s, partial, nonce in sent):
            raise Refused("all-valid")
