"""Section 3: what the pool fixes for everybody."""

from .digest import blob, require, tagged, u8, u16, u32

VERSION = 1
REGTEST = bytes.fromhex("fabfb5da")
NETWORKS = {bytes.fromhex(m) for m in ("f9beb4d9", "0b110907", "1c163f28", "0a03cf40")} | {REGTEST}


def check_params(params):
    """The ranges that depend on another field; the schema has the others."""
    require(params.nonces_per_slot >= params.lanes, "malformed")
    require(params.block_zero_bits is None or params.network == REGTEST, "malformed")


def shards_max(params):
    return params.nonces_per_slot // params.lanes


def params_digest(params):
    return tagged(
        "tutti/params",
        u32(VERSION),
        params.network,
        params.coordinator,
        blob(params.tag.encode()),
        u32(params.operator_fee_ppm),
        u16(params.lanes),
        u16(params.nonces_per_slot),
        u16(params.direct_payees),
        u32(params.pplns_depth),
        u32(params.ntime_roll),
        u8(params.block_zero_bits or 0),
        u8(params.scoring),
        u32(params.bump_credit),
        u16(params.bump_credit_after),
    )
