"""Section 5: the payee set."""

from .digest import Refused, blob, listed, require, tagged, u8, u64
from .messages import add_output_digest, remove_output_digest
from .secp256k1 import verify
from .transaction import standard_script


class PayeeSet:
    def __init__(self, coordinator):
        self.coordinator = coordinator
        self.outputs = []  # in the order in which they were added

    def copy(self):
        other = PayeeSet(self.coordinator)
        other.outputs = list(self.outputs)
        return other

    def add(self, output, is_new=False):
        """One that is new, or one of a full copy."""
        require(standard_script(output.script), "non-standard-script")
        digest = add_output_digest(self.coordinator, output)
        require(verify(output.identity, digest, output.signature), "bad-signature")
        is_coordinator = output.identity == self.coordinator
        require((output.serial_id % 2 == 0) == is_coordinator, "serial-parity")
        require(all(o.serial_id != output.serial_id for o in self.outputs), "serial-taken")
        require(sum(o.identity == output.identity for o in self.outputs) < 2, "output-quota")
        others = [o.serial_id for o in self.outputs if o.identity == output.identity]
        require(not is_new or output.serial_id > max(others, default=-1), "serial-taken")
        require(len(self.outputs) < 100_000, "pool-full")
        self.outputs.append(output)

    def remove(self, removal):
        digest = remove_output_digest(self.coordinator, removal)
        require(verify(removal.identity, digest, removal.signature), "bad-signature")
        active = self.active().get(removal.identity)
        for output in self.outputs:
            if (output.identity, output.serial_id) == (removal.identity, removal.serial_id):
                # The coordinator's, with a restart, at which another takes its place.
                may_go = output is not active or output.identity == self.coordinator
                require(may_go, "not-your-output")
                self.outputs.remove(output)
                return
        raise Refused("not-your-output")

    def expire(self, serial_id, ledger):
        """`ledger` is the one that the window before left."""
        for output in self.outputs:
            if output.serial_id == serial_id:
                require(output.identity != self.coordinator, "change")
                require(ledger.has_forgotten(output.identity), "change")
                self.outputs.remove(output)
                return
        raise Refused("change")

    def change(self, change, ledger):
        if change.added:
            self.add(change.added, is_new=True)
        elif change.removed:
            self.remove(change.removed)
        else:
            self.expire(change.expired.serial_id, ledger)

    def active(self):
        """The paid output of each identity: the last one added."""
        return {output.identity: output for output in self.outputs}

    def by_serial_id(self):
        return sorted(self.active().values(), key=lambda output: output.serial_id)

    def digest(self):
        active = self.active()
        return tagged(
            "tutti/roster",
            listed(
                u64(o.serial_id) + o.identity + u8(active[o.identity] is o) + blob(o.script)
                for o in sorted(self.outputs, key=lambda o: o.serial_id)
            ),
        )
