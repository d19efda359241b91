"""Vectors of the ledger, the payee set, and the rounds that follow from them."""

from functools import cache
from types import SimpleNamespace

from tutti import lanes, messages, rounds, shares
from tutti import secp256k1 as curve
from tutti.ledger import Ledger, record_hash, tally_of
from tutti.payees import PayeeSet
from tutti.transaction import parse

from .run import by_serial, entries, ledger_of, payee_set, refusal, sats, unhex


def weights_of(run, kind, values, ledger):
    for case in run.list(kind, values, "depth weights"):
        got = entries(ledger.pplns_weights(int(case["depth"])))
        run.expect("weights", case["weights"], got)


def check_ledger(run, file):
    run.fields(file, "empty_head records weights epochs long")
    ledger = Ledger()
    run.expect("empty_head", file["empty_head"], ledger.head.hex())
    run.expect("epochs", len(file["records"]), len(file["epochs"]))
    for i, c in enumerate(run.list("records", file["records"], "record record_hash head carry")):
        record = run.message("WindowRecord", c["record"])
        run.expect("record_hash", c["record_hash"], record_hash(record).hex())
        ledger = ledger.append(record)
        run.expect("head", c["head"], ledger.head.hex())
        run.expect("carry", c["carry"], sats(ledger.carry))
        run.expect("epochs", file["epochs"][i], entries(ledger.epoch_weights()))
    weights_of(run, "weights", file["weights"], ledger)
    check_long_ledger(run, file["long"])


def check_long_ledger(run, long):
    run.begin("long")
    run.fields(long, "a b checkpoints weights epoch booking later")
    a, b = unhex(long["a"]), unhex(long["b"])
    booking = run.message("Booking", long["booking"])
    ledger, seen = Ledger(), {}
    wanted = {c["windows"] for c in long["checkpoints"] + long["later"]}
    for i in range(1, max(wanted) + 1):
        worked = {a: i % 5, b: 3} if i % 5 else {b: 3}
        tally = [SimpleNamespace(identity=who, work=worked[who]) for who in sorted(worked)]
        bookings = [booking] if i == 301 else []
        fixed = dict(seq=i, previous=ledger.head, shares_root=bytes(32), shares=0, height=i // 50)
        ledger = ledger.append(SimpleNamespace(tally=tally, bookings=bookings, credits=[], **fixed))
        if i in wanted or i == 300:
            seen[i] = ledger
    for c in run.list("long.checkpoints", long["checkpoints"], "windows head spans"):
        at = seen[c["windows"]]
        run.expect("head", c["head"], at.head.hex())
        run.expect("spans", c["spans"], [[span.level, span.last] for span in at.spans])
    weights_of(run, "long.weights", long["weights"], seen[300])
    run.begin("long.epoch")
    run.expect("epoch", long["epoch"], entries(seen[300].epoch_weights()))
    for c in run.list("long.later", long["later"], "windows head spans blocks"):
        at = seen[c["windows"]]
        levels = [span.level for span in at.spans]
        run.expect("head", c["head"], at.head.hex())
        run.expect("spans", c["spans"], [levels.count(i) for i in range(max(levels) + 1)])
        run.expect("blocks", c["blocks"], len(at.blocks))


def check_records(run, file):
    run.fields(file, "records refused shares counted miscounted")
    ledgers = [Ledger()]
    for c in run.list("records", file["records"], "record record_hash state head"):
        record = run.message("WindowRecord", c["record"])
        run.expect("record_hash", c["record_hash"], record_hash(record).hex())
        ledgers.append(ledgers[-1].append(record))
        run.expect("state", c["state"], ledgers[-1].state.hex())
        run.expect("head", c["head"], ledgers[-1].head.hex())
    for c in run.list("refused", file["refused"], "what after record record_hash refused"):
        record = run.message("WindowRecord", c["record"])
        run.expect("record_hash", c["record_hash"], record_hash(record).hex())
        run.expect("refused", c["refused"], refusal(ledgers[c["after"]].append, record))
    made = [shares.parse_share(data) for data in unhex(file["shares"])]

    def counted(c):
        record = run.message("WindowRecord", c["record"])
        run.expect("record_hash", c["record_hash"], record_hash(record).hex())
        said = record.shares, tally_of(record), record.shares_root
        return refusal(shares.check_counted, made, *said)

    run.begin("counted")
    run.expect("refused", None, counted(run.fields(file["counted"], "record record_hash")))
    for c in run.list("miscounted", file["miscounted"], "what record record_hash refused"):
        run.expect("refused", c["refused"], counted(c))


def check_payee_set(run, file):
    run.fields(file, "coordinator records changes")
    ledgers = [Ledger()]
    for record in run.messages("WindowRecord", file["records"]):
        ledgers.append(ledgers[-1].append(record))
    payees = PayeeSet(unhex(file["coordinator"]))
    for c in run.list("changes", file["changes"], "what after change digest", "refused"):
        change = run.message("OutputChange", c["change"])
        run.expect("refused", c.get("refused"), refusal(payees.change, change, ledgers[c["after"]]))
        run.expect("digest", c["digest"], payees.digest().hex())


STATE = "params outputs ledger assignments inputs "


@cache
def further_payees(coordinator, many):
    made = []
    for i in range(1, many + 1):
        secret = i.to_bytes(32, "big")
        identity = curve.public_key(secret)
        output = SimpleNamespace(identity=identity, serial_id=2 * i + 1, script=b"\x51\x20" + identity)
        digest = messages.add_output_digest(coordinator, output)
        output.signature = curve.sign(secret, digest, bytes(32))
        made.append(output)
    return made


def plan_of(run, case, many=0):
    """The plan of a state and round inputs, all of whose digests must be the state's."""
    made = run.message("PoolParams", case["params"])
    payees = payee_set(run, made.coordinator, case["outputs"])
    for output in further_payees(made.coordinator, many):
        payees.add(output)
    ledger = ledger_of(run, case["ledger"])
    inputs = run.message("RoundInputs", case["inputs"])
    digest = lanes.assignments_digest(run.messages("Slice", case["assignments"]))
    run.expect("inputs: roster", inputs.roster.hex(), payees.digest().hex())
    run.expect("inputs: ledger_hash", inputs.ledger.hash.hex(), ledger.head.hex())
    run.expect("inputs: assignments", inputs.assignments.hex(), digest.hex())
    return rounds.compute_plan(made, inputs, ledger, payees), ledger, payees


def check_round(run, file):
    results = "slots round aggregate_nonces weights amounts carry_changes output_key partials"
    run.begin("the signed round")
    plan, ledger, payees = plan_of(run, run.fields(file, STATE + results + " lanes direct"))
    run.expect("round", file["round"], plan.round.hex())
    run.expect("weights", file["weights"], entries(plan.weights))
    run.expect("amounts", file["amounts"], by_serial(plan.split.amounts))
    run.expect("carry_changes", file["carry_changes"], sats(plan.changes))
    run.expect("output_key", file["output_key"], plan.key.output.hex())
    slots = [run.fields(slot, "key nonces") for slot in file["slots"]]
    keys = [signer.key for signer in plan.inputs.signers]
    run.expect("slots", keys, [unhex(slot["key"]) for slot in slots])
    nonces = [unhex(slot["nonces"]) for slot in slots]
    columns = list(zip(*nonces))[: len(plan.messages)]
    made = [curve.aggregate_nonces(column) for column in columns]
    run.expect("aggregate_nonces", file["aggregate_nonces"], [nonce.hex() for nonce in made])
    partials, signatures = unhex(file["partials"]), []
    for i, session in enumerate(plan.with_nonces(made).sessions):
        for key, own, sent in zip(keys, nonces, partials):
            run.expect("partials", True, session.partial_is_valid(sent[i], key, own[i]))
        signature = session.signature([sent[i] for sent in partials])
        run.expect("signature", True, curve.verify(plan.key.output, plan.messages[i], signature))
        signatures.append(signature)
    run.expect("partials", {len(plan.messages)}, {len(sent) for sent in partials})
    place = 0
    run.expect("lanes", len(plan.coinbases), len(file["lanes"]))
    for lane, unsigned, made in zip(file["lanes"], plan.payouts, plan.coinbases):
        run.fields(lane, "coinbase coinbase_txid payouts")
        run.expect("coinbase", lane["coinbase"], made.encode().hex())
        run.expect("coinbase_txid", lane["coinbase_txid"], made.txid().hex())
        run.expect("payouts", len(unsigned), len(lane["payouts"]))
        for transaction, paid in zip(unsigned, lane["payouts"]):
            run.fields(paid, "sighash signature txid signed")
            transaction.inputs[0].witness = (signatures[place],)
            run.expect("sighash", paid["sighash"], plan.messages[place].hex())
            run.expect("signature", paid["signature"], signatures[place].hex())
            run.expect("txid", paid["txid"], transaction.txid().hex())
            run.expect("signed", paid["signed"], transaction.encode().hex())
            run.expect("signed", transaction, parse(transaction.encode()))
            place += 1
    run.begin("the direct round")
    direct = run.fields(file["direct"], "params inputs round amounts carry_changes coinbases")
    made = run.message("PoolParams", direct["params"]), run.message("RoundInputs", direct["inputs"])
    plan = rounds.compute_plan(*made, ledger, payees)
    run.expect("round", direct["round"], plan.round.hex())
    run.expect("amounts", direct["amounts"], by_serial(plan.split.amounts))
    run.expect("carry_changes", direct["carry_changes"], sats(plan.changes))
    got = [{"transaction": t.encode().hex(), "txid": t.txid().hex()} for t in plan.coinbases]
    run.expect("coinbases", direct["coinbases"], got)


def check_blame(run, file):
    run.fields(file, STATE + "round aggregate_nonces proposal cases")
    plan, _, _ = plan_of(run, file)
    run.expect("round", file["round"], plan.round.hex())
    nonces = unhex(file["aggregate_nonces"])
    content = messages.proposal_content(plan.round, nonces)
    proposal = messages.proposal_digest(plan.inputs.seq, plan.inputs.attempt, False, content)
    run.expect("proposal", file["proposal"], proposal.hex())
    plan.with_nonces(nonces)
    for c in run.list("case", file["cases"], "what identity false_blame", "evidence"):
        evidence = run.fields(c.get("evidence", {}), "", "refused bad_partial")
        shown = {}
        if refused := evidence.get("refused"):
            run.fields(refused, "round reason signature")
            shown["refused"] = SimpleNamespace(
                round=unhex(refused["round"]),
                reason=refused["reason"],
                signature=unhex(refused["signature"]),
            )
        if bad := evidence.get("bad_partial"):
            run.fields(bad, "slot tx_signatures")
            run.fields(bad["slot"], "key nonces signature")
            run.fields(bad["tx_signatures"], "round proposal partials signature")
            parts = {k: {n: unhex(v) for n, v in part.items()} for k, part in bad.items()}
            parts = {k: SimpleNamespace(**part) for k, part in parts.items()}
            shown["bad_partial"] = SimpleNamespace(**parts)
        identity = unhex(c["identity"])
        got = refusal(lambda: messages.check_blame(plan, proposal, identity, **shown))
        run.expect("false_blame", c["false_blame"], got is not None)


def check_plan(run, file):
    for c in run.only_cases(file, "what many round shards carry_changes " + STATE):
        plan, _, _ = plan_of(run, c, c["many"])
        run.expect("round", c["round"], plan.round.hex())
        run.expect("carry_changes", c["carry_changes"], sats(plan.changes))
        amounts, got = plan.split.amounts, []
        for shard, output in zip(plan.shards, plan.outputs):
            ids = [o.serial_id for o in shard]
            named = rounds.payees_hash([o.identity for o in shard]).hex()
            fixed = {"serial_ids": ids, "sats": [amounts[i] for i in ids]}
            got.append({**fixed, "payees": named, "value": output.sat})
        if not plan.inputs.signers:
            ids = sorted(amounts)
            paid = [amounts[i] for i in ids]
            got = [{"serial_ids": ids, "sats": paid, "value": sum(paid)}]
        run.expect("shards", c["shards"], got)


def check_plan_check(run, file):
    run.fields(file, "outputs ledger assignments proposals cases")
    ledger = ledger_of(run, file["ledger"])
    slices = run.messages("Slice", file["assignments"])
    policy = "operator_fee_ppm_max bump_credit_max feerate_max_sat_per_kvb signers_min"
    policy += " must_be_signer refuse_direct direct_owed_max"

    def refused(value):
        run.fields(value, "params round inputs coinbases nonces me")
        me = run.fields(value["me"], "identity slots last " + policy)
        keys = {"identity": unhex(me["identity"]), "slots": unhex(me["slots"])}
        me = SimpleNamespace(**{**me, **keys})
        proposal = SimpleNamespace(
            params=run.message("PoolParams", value["params"]),
            inputs=run.message("RoundInputs", value["inputs"]),
            **{name: unhex(value[name]) for name in ("round", "coinbases", "nonces")},
        )
        payees = payee_set(run, proposal.params.coordinator, file["outputs"])
        return refusal(rounds.check_proposal, proposal, me, ledger, payees, slices)

    for place, proposal in enumerate(file["proposals"]):
        run.begin("proposals", place)
        run.expect("refused", None, refused(proposal))
    for c in run.list("case", file["cases"], "what proposal changed refused"):
        run.fields(c["changed"], "", "params round inputs coinbases nonces me")
        got = refused({**file["proposals"][c["proposal"]], **c["changed"]})
        run.expect("refused", c["refused"], got)
