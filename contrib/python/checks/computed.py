"""Vectors of what one function computes."""

from types import SimpleNamespace

from tutti import lanes, messages, params, rounds, shares, work
from tutti import secp256k1 as curve
from tutti import split as splits
from tutti.digest import Refused, hash256
from tutti.transaction import Output, coinbase, payout, payout_sighash, payout_vsize

from .run import by_serial, payee_set, refusal, unhex


def accounts_of(run, case):
    made = []
    for value in case["accounts"]:
        run.fields(value, "serial_id dust_limit output_size weight carry")
        made.append(splits.Account(**{**value, "weight": int(value["weight"])}))
    return made


def check_split(run, file):
    given = "name reward feerate_sat_per_kvb operator_fee_ppm shards_max accounts"
    for case in run.only_cases(file, given + " shards carry_after", "error"):
        fixed = [case[k] for k in given.split()[1:-1]]
        shards, carry, error = [], [], None
        try:
            result = splits.split(*fixed, accounts_of(run, case))
            carry = by_serial(result.carry_after)
            for s in result.shards:
                ids = [a.serial_id for a in s.accounts]
                paid = [{"serial_id": i, "sat": result.amounts[i]} for i in ids]
                shards.append({"outputs": paid, "fee": s.fee, "value": s.value})
        except Refused as refused:
            error = refused.reason
        run.expect("error", case.get("error"), error)
        run.expect("shards", case["shards"], shards)
        run.expect("carry_after", case["carry_after"], carry)


def check_split_direct(run, file):
    given = "name reward operator_fee_ppm direct_payees accounts"
    for case in run.only_cases(file, given + " outputs carry_after", "error"):
        fixed = [case[k] for k in given.split()[1:-1]]
        outputs, carry, error = [], [], None
        try:
            result = splits.split_direct(*fixed, accounts_of(run, case))
            outputs, carry = by_serial(result.amounts), by_serial(result.carry_after)
        except Refused as refused:
            error = refused.reason
        run.expect("error", case.get("error"), error)
        run.expect("outputs", case["outputs"], outputs)
        run.expect("carry_after", case["carry_after"], carry)


def check_coinbase(run, file):
    given = "height tag round lane output_key values witness_commitment"
    for c in run.only_cases(file, given + " script_sig transaction txid"):
        outputs = [Output(sat, b"\x51\x20" + unhex(c["output_key"])) for sat in c["values"]]
        named = c["height"], c["tag"].encode(), c["round"], c["lane"]
        made = coinbase(*named, outputs, unhex(c["witness_commitment"]))
        run.expect("script_sig", c["script_sig"], made.inputs[0].script.hex())
        run.expect("transaction", c["transaction"], made.encode().hex())
        run.expect("txid", c["txid"], made.txid().hex())


def check_key_aggregation(run, file):
    results = "leaf_hash internal_key tweak output_key output_script"
    for c in run.only_cases(file, "slot_keys round " + results):
        key = curve.AggregateKey(unhex(c["slot_keys"]), unhex(c["round"]))
        made = key.leaf, key.internal, key.tweak, key.output, key.script
        for name, value in zip(results.split(), made):
            run.expect(name, c[name], value.hex())


def check_sessions(run, file):
    results = "aggregate_nonce valid signature verifies"
    given = "what slot_keys round message nonces partials "
    for c in run.only_cases(file, given + results):
        keys, nonces, partials = (unhex(c[k]) for k in ("slot_keys", "nonces", "partials"))
        key, message = curve.AggregateKey(keys, unhex(c["round"])), unhex(c["message"])
        aggregate = curve.aggregate_nonces(nonces)
        run.expect("aggregate_nonce", c["aggregate_nonce"], aggregate.hex())
        session = curve.Session(key, aggregate, message)
        valid = [session.partial_is_valid(*one) for one in zip(partials, keys, nonces)]
        run.expect("valid", c["valid"], valid)
        signature = session.signature(partials)
        run.expect("signature", c["signature"], signature.hex())
        run.expect("verifies", c["verifies"], curve.verify(key.output, message, signature))


def check_payout(run, file):
    given = "coinbase_txid vout output_key value outputs "
    for c in run.only_cases(file, given + "transaction txid signed_vsize sighash"):
        paid = [run.fields(o, "script sat") for o in c["outputs"]]
        outputs = [Output(o["sat"], unhex(o["script"])) for o in paid]
        made = payout(unhex(c["coinbase_txid"]), c["vout"], outputs)
        run.expect("transaction", c["transaction"], made.encode().hex())
        run.expect("txid", c["txid"], made.txid().hex())
        spent = Output(c["value"], b"\x51\x20" + unhex(c["output_key"]))
        run.expect("sighash", c["sighash"], payout_sighash(made, spent).hex())
        size = sum(9 + len(o.script) for o in outputs)
        run.expect("signed_vsize", c["signed_vsize"], payout_vsize(len(outputs), size))
        made.inputs[0].witness = (bytes(64),)
        run.expect("signed_vsize", c["signed_vsize"], made.vsize())


def check_shares(run, file):
    run.fields(file, "merkle_paths shares roots slices targets depths")
    given = "coinbase_txid other_txids path root"
    for c in run.list("merkle_paths", file["merkle_paths"], given):
        path = work.merkle_path(unhex(c["other_txids"]))
        run.expect("path", c["path"], [node.hex() for node in path])
        run.expect("root", c["root"], work.fold(path, unhex(c["coinbase_txid"])).hex())
    made = []
    given = "identity round lane z version previous_block merkle_root time bits nonce "
    results = "header hash leading_zero_bits meets_target leaf"
    for c in run.list("shares", file["shares"], given + results):
        tip, root = unhex(c["previous_block"]), unhex(c["merkle_root"])
        header = work.Header(c["version"], tip, root, c["time"], c["bits"], c["nonce"]).encode()
        named = hash256(header)
        run.expect("header", c["header"], header.hex())
        run.expect("hash", c["hash"], named.hex())
        run.expect("leading_zero_bits", c["leading_zero_bits"], work.leading_zero_bits(named))
        run.expect("meets_target", c["meets_target"], work.meets(named, c["bits"]))
        share = shares.Share(unhex(c["identity"]), unhex(c["round"]), c["lane"], c["z"], header)
        run.expect("leaf", c["leaf"], shares.leaf(share)[0].hex())
        made.append(share)
    run.expect("roots", len(made) + 1, len(file["roots"]))
    for i, root in enumerate(file["roots"]):
        run.begin("roots", i)
        run.expect("root", root, shares.shares_root(made[:i]).hex())
    given = "prefix prefix_len base_version first_version free_mask contained not_contained"
    for c in run.list("slices", file["slices"], given):
        slice_, base = SimpleNamespace(**c), c["base_version"]
        run.expect("first_version", c["first_version"], lanes.first_version(slice_, base))
        run.expect("free_mask", c["free_mask"], lanes.free_mask(c["prefix_len"]))
        for name, expected in (("contained", True), ("not_contained", False)):
            for version in c[name]:
                run.expect(f"{name}: {version}", expected, lanes.contains(slice_, base, version))
    for c in run.list("targets", file["targets"], "bits work"):
        run.expect("work", c["work"], str(work.work(c["bits"])))
    given = "bits block_zero_bits pplns_depth block_work depth"
    for c in run.list("depths", file["depths"], given):
        bits, zeros = c["bits"], c["block_zero_bits"]
        run.expect("block_work", c["block_work"], str(work.block_work(bits, zeros)))
        run.expect("depth", c["depth"], str(work.depth(bits, zeros, c["pplns_depth"])))


def check_transcript(run, file):
    run.fields(file, "params rosters assignments no_assignments rounds")
    for c in run.list("params", file["params"], "params digest"):
        made = run.message("PoolParams", c["params"])
        run.expect("digest", c["digest"], params.params_digest(made).hex())
    for c in run.list("rosters", file["rosters"], "coordinator outputs digest"):
        made = payee_set(run, unhex(c["coordinator"]), c["outputs"])
        run.expect("digest", c["digest"], made.digest().hex())
    for c in run.list("assignments", file["assignments"], "lanes slices digest"):
        slices = sorted(run.messages("Slice", c["slices"]), key=lanes.place)
        run.expect("well formed", None, refusal(lanes.check_assignments, slices, c["lanes"]))
        run.expect("digest", c["digest"], lanes.assignments_digest(slices).hex())
    for c in run.list("no_assignments", file["no_assignments"], "what lanes slices"):
        slices = sorted(run.messages("Slice", c["slices"]), key=lanes.place)
        run.expect("refused", "malformed", refusal(lanes.check_assignments, slices, c["lanes"]))
    for c in run.list("rounds", file["rounds"], "params inputs round"):
        made = run.message("PoolParams", c["params"]), run.message("RoundInputs", c["inputs"])
        run.expect("round", c["round"], rounds.round_name(*made).hex())


def check_messages(run, file):
    kinds = "join tx_add_output tx_remove_output slot proposal tx_signatures tx_abort tx_aborted head direct_proposal"
    given = "params coordinator_secret participant_secret participant aux "
    run.fields(file, given + kinds)
    made = run.message("PoolParams", file["params"])
    coordinator, aux = made.coordinator, unhex(file["aux"])
    secrets = unhex(file["coordinator_secret"]), unhex(file["participant_secret"])
    identity = unhex(file["participant"])
    run.expect("coordinator", coordinator, curve.public_key(secrets[0]))
    run.expect("participant", identity, curve.public_key(secrets[1]))

    def signed(kind, fields, secret, digest):
        message = run.fields(file[kind], fields + " digest signature")
        run.begin(kind)
        run.expect("digest", message["digest"], digest.hex())
        run.expect("signature", message["signature"], curve.sign(secret, digest, aux).hex())

    m = file["join"]
    digest = messages.join_digest(unhex(m["nonce"]), made, identity, m["hashrate"], m["user_agent"])
    signed("join", "nonce hashrate user_agent", secrets[1], digest)
    m = file["tx_add_output"]
    output = SimpleNamespace(identity=identity, serial_id=m["serial_id"], script=unhex(m["script"]))
    digest = messages.add_output_digest(coordinator, output)
    signed("tx_add_output", "serial_id script", secrets[1], digest)
    output.serial_id = file["tx_remove_output"]["serial_id"]
    digest = messages.remove_output_digest(coordinator, output)
    signed("tx_remove_output", "serial_id", secrets[1], digest)
    m = file["slot"]
    digest = messages.slot_digest(coordinator, identity, unhex(m["key"]), unhex(m["nonces"]))
    signed("slot", "key nonces", secrets[1], digest)
    for kind in ("proposal", "direct_proposal"):
        m = file[kind]
        inputs = run.message("RoundInputs", m["inputs"])
        round_ = rounds.round_name(made, inputs)
        run.expect(f"{kind}: round", m["round"], round_.hex())
        content = messages.proposal_content(round_, unhex(m["nonces"]))
        direct = not inputs.signers
        digest = messages.proposal_digest(inputs.seq, inputs.attempt, direct, content)
        signed(kind, "inputs round nonces", secrets[0], digest)
    m = file["tx_signatures"]
    said = (unhex(m[k]) for k in ("round", "proposal", "partials"))
    digest = messages.tx_signatures_digest(*said)
    signed("tx_signatures", "round proposal partials", secrets[1], digest)
    m = file["tx_abort"]
    digest = messages.tx_abort_digest(unhex(m["round"]), m["reason"])
    signed("tx_abort", "round reason", secrets[1], digest)
    m = file["tx_aborted"]
    shown = {"nothing": (), "bad_partial": ("slot", "tx_signatures"), "refused": ("tx_abort",)}
    blamed = []
    for b in m["blamed"]:
        run.fields(b, "identity evidence")
        signatures = [unhex(file[kind]["signature"]) for kind in shown[b["evidence"]]]
        blamed.append((unhex(b["identity"]), messages.evidence(*signatures)))
    digest = messages.tx_aborted_digest(unhex(m["round"]), m["reason"], blamed)
    signed("tx_aborted", "round reason blamed", secrets[0], digest)
    m = file["head"]
    digest = messages.head_digest(m["window"], unhex(m["hash"]))
    signed("head", "window hash", secrets[0], digest)
