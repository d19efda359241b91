#!/usr/bin/env python3
"""A participant of a Tutti pool, written from SPEC alone: it checks, signs, stores the payouts, then hashes."""

import argparse
import json
import signal
import sys

sys.dont_write_bytecode = True  # this checkout may be read-only, and stays clean

from live.daemon import Daemon
from live.hasher import Hasher
from live.miner import Miner
from live.session import Left, Policy
from live.store import Proof, Store
from tutti.secp256k1 import is_identity
from tutti.transaction import standard_script

NETWORKS = {
    "mainnet": "f9beb4d9",
    "testnet3": "0b110907",
    "testnet4": "1c163f28",
    "signet": "0a03cf40",
    "regtest": "fabfb5da",
}
HASHRATE = 200_000


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinator", required=True, metavar="HOST:PORT")
    parser.add_argument("--coordinator-identity", required=True, metavar="HEX", type=bytes.fromhex)
    parser.add_argument("--script", required=True, metavar="HEX", type=bytes.fromhex, help="to be paid")
    parser.add_argument("--dir", required=True, help="of the identity and the payouts")
    parser.add_argument("--hashrate", type=int, default=HASHRATE, metavar="H/S", help="at most")
    parser.add_argument("--network", choices=NETWORKS, default="regtest")
    given = parser.parse_args()
    given.host, _, port = given.coordinator.rpartition(":")
    if not (given.host and port.isdigit()):
        raise ValueError("--coordinator is HOST:PORT")
    given.port = int(port)
    if not is_identity(given.coordinator_identity):
        raise ValueError("--coordinator-identity is no public key")
    if standard_script(given.script) is None:
        raise ValueError("--script is none that a pool pays")
    if given.hashrate < 1:
        raise ValueError("--hashrate is at least 1")
    return given


def main():
    hasher = None
    try:
        given = arguments()
        hasher = Hasher(given.hashrate)  # before there are secrets and sockets that its process would have
        fixed = given.coordinator_identity, bytes.fromhex(NETWORKS[given.network])
        own = given.script, given.hashrate
        miner = Miner(Store(given.dir), hasher, Policy(), *fixed, *own, say)
        if miner.signed.proven():
            raise Proof("this coordinator signed two histories: the proof is in equivocation.json")
        daemon = Daemon(miner, given.host, given.port, say)

        def stop(*_):
            daemon.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        daemon.run()
    except (Left, Proof, OSError, ValueError) as error:
        print(f"participant: {error}", file=sys.stderr)
        return 1
    finally:
        if hasher:
            hasher.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
