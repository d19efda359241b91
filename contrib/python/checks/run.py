"""What the checkers of vector files share."""

from types import SimpleNamespace

from tutti.digest import Refused
from tutti.ledger import Ledger
from tutti.payees import PayeeSet
from tutti.schema import ONEOF, SCHEMA, VARINTS


class Difference(Exception):
    def __init__(self, case, field, expected, got):
        super().__init__()
        self.case, self.field, self.expected, self.got = case, field, expected, got


class Run:
    """One file's cases. A difference names the case that was begun last."""

    def __init__(self):
        self.count, self.case = 0, "the file"

    def begin(self, *name):
        self.count += 1
        self.case = " ".join(str(part) for part in name)

    def expect(self, field, expected, got):
        if expected != got:
            raise Difference(self.case, field, expected, got)

    def fields(self, value, required, optional=""):
        """Nothing in a file is skipped: exactly these fields are there."""
        required, optional = set(required.split()), set(optional.split())
        got = sorted(value.keys() - optional)
        self.expect("its fields", sorted(required), got)
        return value

    def list(self, kind, values, required, optional=""):
        for place, value in enumerate(values):
            self.begin(kind, place, value.get("what", value.get("name", "")))
            yield self.fields(value, required, optional)

    def only_cases(self, file, required, optional=""):
        return self.list("case", self.fields(file, "cases")["cases"], required, optional)

    def message(self, name, value):
        """A message of the schema from JSON, where a few fields stand elsewhere or are left out."""
        value = dict(value)
        if name == "RoundInputs":
            value["feerate"] = value.pop("feerate_sat_per_kvb")
            value["ledger"] = {"seq": value.pop("ledger_seq"), "hash": value.pop("ledger_hash")}
        if name == "Credit":
            proof = [f.name for f in SCHEMA["CreditProof"]]
            value["proof"] = {field: value.pop(field) for field in proof}
        if name == "Booking":
            value["header"] = ""  # no digest names it
        names = " ".join(f.name for f in SCHEMA[name])
        self.fields(value, *(("", names) if name in ONEOF else (names,)))
        message = SimpleNamespace()
        for field in SCHEMA[name]:
            setattr(message, field.name, self._value(field, value.get(field.name)))
        return message

    def _value(self, field, value):
        if value is None:
            return None
        if isinstance(value, list):
            return [self._value(field, element) for element in value]
        if field.kind in SCHEMA:
            return self.message(field.kind, value)
        if field.kind == "uint128":
            return int(value)
        return value if field.kind in VARINTS + ("fixed32", "text") else bytes.fromhex(value)

    def messages(self, name, values):
        return [self.message(name, value) for value in values]


def refusal(check, *arguments):
    """None, or why it was refused."""
    try:
        check(*arguments)
    except Refused as refused:
        return refused.reason
    return None


def unhex(value):
    if isinstance(value, list):
        return [unhex(element) for element in value]
    return None if value is None else bytes.fromhex(value)


def entries(values, name="work", of=str):
    return [{"identity": i.hex(), name: of(n)} for i, n in sorted(values.items())]


def sats(values):
    return entries(values, "sat", int)


def by_serial(values):
    return [{"serial_id": i, "sat": n} for i, n in sorted(values.items()) if n]


def changed(run, data, changes):
    """A file with its changes: at byte `at`, the bytes `out` give way to the bytes `in`."""
    parts, done = [], 0
    for change in changes:
        run.fields(change, "at out in")
        out, at = unhex(change["out"]), change["at"]
        run.expect("changes: out", change["out"], data[at : at + len(out)].hex())
        parts += [data[done:at], unhex(change["in"])]
        done = at + len(out)
    return b"".join(parts) + data[done:]


def payee_set(run, coordinator, outputs):
    payees = PayeeSet(coordinator)
    for output in run.messages("TxAddOutput", outputs):
        payees.add(output)
    return payees


def ledger_of(run, records):
    ledger = Ledger()
    for record in run.messages("WindowRecord", records):
        ledger = ledger.append(record)
    return ledger


def tally(run, values):
    return {entry.identity: entry.work for entry in run.messages("TallyEntry", values)}
