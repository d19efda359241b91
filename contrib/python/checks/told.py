"""Vectors of what others tell: messages, proofs and files."""

from types import SimpleNamespace

from tutti import equivocation, messages, rounds, segments, shares
from tutti.digest import Refused, hash256
from tutti.ledger import Ledger, record_hash
from tutti.wire import decode, encode

from .run import changed, entries, payee_set, refusal, tally, unhex


def check_judged(run, file):
    run.fields(file, "terms cases")
    made = []
    for data in unhex(file["terms"]):
        terms = decode("RoundTerms", data)
        made.append(rounds.Terms(terms, terms.params.network, terms.params.coordinator))
    given = "what terms identity lane version time nonce"
    for c in run.list("case", file["cases"], given, "record hash refused got want"):
        # The version as the schema's sfixed32 has it; section 20 reads its bits without sign.
        rolled = c["lane"], c["version"] & 0xFFFFFFFF, c["time"], c["nonce"]
        try:
            share = shares.judge(made[c["terms"]], unhex(c["identity"]), *rolled)
            record, named = shares.encode_share(share).hex(), hash256(share.header).hex()
            got = {"record": record, "hash": named}
        except Refused as refused:
            got = {"refused": refused.reason, "got": refused.got, "want": refused.want}
        run.expect("result", {k: c[k] for k in c if k not in given.split()}, got)


def check_openings(run, file):
    run.fields(file, "shares shares_root tally opened refused")
    made = [shares.parse_share(data) for data in unhex(file["shares"])]
    run.expect("shares_root", file["shares_root"], shares.shares_root(made).hex())
    run.expect("tally", file["tally"], entries(shares.tally(made)))
    fields = "position share path shares account_path"

    def refused(value, root, worked):
        run.fields(value, fields)
        paths = {k: run.messages("Step", value[k]) for k in ("path", "account_path")}
        opening = SimpleNamespace(shares=value["shares"], **paths)
        share, position = shares.parse_share(unhex(value["share"])), int(value["position"])
        return refusal(shares.check_opening, share, opening, position, unhex(root), worked)

    for c in run.list("opened", file["opened"], fields):
        run.expect("share", True, c["share"] in file["shares"])
        run.expect("refused", None, refused(c, file["shares_root"], tally(run, file["tally"])))
    for c in run.list("refused", file["refused"], "what shares_root tally opening refused"):
        got = refused(c["opening"], c["shares_root"], tally(run, c["tally"]))
        run.expect("refused", c["refused"], got)


def check_samples(run, file):
    run.fields(file, "network coordinator reply cases")
    reply, pool = unhex(file["reply"]), (unhex(file["network"]), unhex(file["coordinator"]))
    given = "what window shares_root tally positions changes"
    for c in run.list("case", file["cases"], given, "refused"):
        data, worked = changed(run, reply, c["changes"]), tally(run, c["tally"])
        positions = [int(position) for position in c["positions"]]

        def check():
            told, root = decode("SampleReply", data), unhex(c["shares_root"])
            of_terms = lambda terms: rounds.Terms(terms, *pool)
            shares.check_sample(told, of_terms, c["window"], root, worked, positions)

        run.expect("refused", c.get("refused"), refusal(check))


def check_equivocation(run, file):
    for c in run.only_cases(file, "what proof", "refused"):
        run.expect("refused", c.get("refused"), refusal(equivocation.check_proof, c["proof"]))


def check_window_closed(run, file):
    run.fields(file, "coordinator outputs identities told refused")
    coordinator = unhex(file["coordinator"])
    payees = payee_set(run, coordinator, file["outputs"])
    run.expect("identities", file["identities"], [i.hex() for i in sorted(payees.active())])

    def told(data):
        message = decode("WindowClosed", data)
        return messages.window_closed(message, coordinator, payees, SimpleNamespace), message

    for c in run.list("told", file["told"], "what message encoded record record_hash"):
        data = unhex(c["message"])
        written = encode("WindowClosed", decode("WindowClosed", data)) == data
        run.expect("encoded", c["encoded"], written)
        record, message = told(data)
        expected = run.message("WindowRecord", c["record"])
        for booking in record.bookings:
            booking.header = b""  # the vectors' records have none
        run.expect("record", expected, record)
        run.expect("record_hash", c["record_hash"], record_hash(record).hex())
        if not record.credits:
            run.expect("head", message.head.head.hash.hex(), Ledger().append(record).head.hex())
    for c in run.list("refused", file["refused"], "what message refused"):
        run.expect("refused", c["refused"], refusal(told, unhex(c["message"])))


def check_segments(run, file):
    run.fields(file, "files renamed taken refused")
    files = [unhex(c["bytes"]) for c in file["files"]]

    def audited(data, after):
        """Why the segment is refused after the first files, or alone."""
        audit = segments.Audit()
        for earlier in files[:after]:
            audit.check(earlier)
        return refusal(audit.check, data)

    for i, c in enumerate(run.list("files", file["files"], "what cid bytes")):
        run.expect("cid", c["cid"], segments.cid(files[i]))
        run.expect("bytes", c["bytes"], encode("Segment", decode("Segment", files[i])).hex())
        run.expect("refused", None, audited(files[i], i))
    for c in run.list("renamed", file["renamed"], "what file changes cid"):
        data = changed(run, files[c["file"]], c["changes"])
        run.expect("cid", c["cid"], segments.cid(data))
        same = encode("Segment", decode("Segment", data)) == files[c["file"]]
        run.expect("says the same", True, same)
        run.expect("refused", None, audited(data, c["file"]))
    for kind in ("taken", "refused"):
        given = "what after file changes cid" + (" refused" if kind == "refused" else "")
        for c in run.list(kind, file[kind], given):
            data = changed(run, files[c["file"]], c["changes"])
            run.expect("cid", c["cid"], segments.cid(data))
            run.expect("refused", c.get("refused"), audited(data, c["after"]))


def check_checkpoints(run, file):
    run.fields(file, "files refused window met")
    files = [unhex(c["bytes"]) for c in file["files"]]

    def refused(data):
        return refusal(lambda: segments.check_checkpoint(decode("Checkpoint", data)))

    given = "what cid bytes window head roster_digest signed"
    for i, c in enumerate(run.list("files", file["files"], given)):
        run.expect("cid", c["cid"], segments.cid(files[i]))
        checkpoint = decode("Checkpoint", files[i])
        run.expect("bytes", c["bytes"], encode("Checkpoint", checkpoint).hex())
        ledger, payees = segments.check_checkpoint(checkpoint)
        run.expect("window", c["window"], ledger.seq)
        run.expect("head", c["head"], ledger.head.hex())
        run.expect("roster_digest", c["roster_digest"], payees.digest().hex())
        run.expect("signed", c["signed"], checkpoint.signed is not None)
    for c in run.list("refused", file["refused"], "what file changes cid refused"):
        data = changed(run, files[c["file"]], c["changes"])
        run.expect("cid", c["cid"], segments.cid(data))
        run.expect("refused", c["refused"], refused(data))
    for c in run.list("met", file["met"], "what checkpoint window", "refused"):
        audit = segments.Audit()
        audit.check(changed(run, unhex(file["window"]), c["window"]))
        checkpoint = decode("Checkpoint", changed(run, files[1], c["checkpoint"]))
        ledger, _ = segments.check_checkpoint(checkpoint)
        run.expect("refused", c.get("refused"), refusal(audit.meet, checkpoint, ledger))
