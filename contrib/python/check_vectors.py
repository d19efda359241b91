#!/usr/bin/env python3
"""Checks every vector file of SPEC section 24 by the rules in tutti/, which were written from SPEC alone."""

import argparse
import json
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True  # this checkout may be read-only, and stays clean

from checks import computed, states, told
from checks.run import Difference, Run
from tutti.digest import Refused

VECTORS = Path(__file__).resolve().parents[2] / "proto" / "vectors"
CHECKERS = {
    "blame.json": states.check_blame,
    "checkpoints.json": told.check_checkpoints,
    "coinbase.json": computed.check_coinbase,
    "equivocation.json": told.check_equivocation,
    "judged.json": told.check_judged,
    "key_aggregation.json": computed.check_key_aggregation,
    "ledger.json": states.check_ledger,
    "messages.json": computed.check_messages,
    "openings.json": told.check_openings,
    "payee_set.json": states.check_payee_set,
    "payout.json": computed.check_payout,
    "plan.json": states.check_plan,
    "plan_check.json": states.check_plan_check,
    "records.json": states.check_records,
    "round.json": states.check_round,
    "samples.json": told.check_samples,
    "segments.json": told.check_segments,
    "sessions.json": computed.check_sessions,
    "shares.json": computed.check_shares,
    "split.json": computed.check_split,
    "split_direct.json": computed.check_split_direct,
    "transcript.json": computed.check_transcript,
    "window_closed.json": told.check_window_closed,
}


def narrowed(field, expected, got):
    """The first place at which two values differ."""
    if type(expected) is type(got) is dict and expected.keys() == got.keys():
        key = next(key for key in expected if expected[key] != got[key])
        return narrowed(f"{field}.{key}", expected[key], got[key])
    if type(expected) is type(got) is list and len(expected) == len(got):
        place = next(i for i, value in enumerate(expected) if value != got[i])
        return narrowed(f"{field}[{place}]", expected[place], got[place])
    return field, expected, got


def check_file(name, data):
    """The number of its cases; raises at the first difference."""
    run = Run()
    try:
        CHECKERS[name](run, json.loads(data))
    except Refused as refused:
        raise Difference(run.case, "refused", None, refused.reason) from refused
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise Difference(run.case, "its form", "as SPEC says", repr(error)) from error
    return run.count


def check_directory(directory):
    """Rows of (file, cases, seconds, difference or None), up to the first difference."""
    found = {path.name for path in directory.iterdir()}
    for name in sorted(found | CHECKERS.keys()):
        started, count, difference = time.monotonic(), 0, None
        try:
            if name not in CHECKERS:
                raise Difference("the file", "its checker", "one in CHECKERS", "none: write one")
            if name not in found:
                raise Difference("the file", "its vectors", name, f"no such file in {directory}")
            count = check_file(name, (directory / name).read_bytes())
        except Difference as d:
            difference = d
        yield name, count, round(time.monotonic() - started, 2), difference
        if difference:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=VECTORS, help="of the files")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    rows, failed = [], False
    for name, count, seconds, difference in check_directory(arguments.directory):
        row = {"file": name, "cases": count, "seconds": seconds, "result": "ok"}
        if difference:
            failed = True
            fields = narrowed(difference.field, difference.expected, difference.got)
            shown = dict(zip(("field", "expected", "got"), fields), case=difference.case)
            row |= {"result": "differs", "difference": shown}
        rows.append(row)
        if not arguments.json:
            print(f"{name:22} {count or '':>5} {seconds:6.2f} s  {row['result']}", flush=True)
    if arguments.json:
        print(json.dumps({"ok": not failed, "files": rows}, indent=2, default=repr))
    elif failed:
        for key in ("case", "field", "expected", "got"):
            print(f"  {key + ':':10}{shown[key]}")
    else:
        total = sum(row["cases"] for row in rows)
        print(f"{len(rows)} files, {total} cases: as SPEC says")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
