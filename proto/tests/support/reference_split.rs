//! The split as SPEC.md tells it, slowly: 256-bit integers throughout, full sorts, and sizes taken
//! from serialised transactions. Shares no arithmetic with the crate.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use ethnum::I256;
use tutti_proto::split::{Account, SplitInput};

/// What the reference finds: amounts in order, shard sizes, fees, and carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub shards: Vec<(Vec<(u64, u64)>, u64)>,
    pub carry_after: BTreeMap<u64, i64>,
}

struct Row<'a> {
    account: &'a Account,
    owed: I256,
    amount: I256,
}

/// What the reference finds for a direct coinbase.
#[derive(Debug, PartialEq, Eq)]
pub struct ReferenceDirect {
    pub outputs: Vec<(u64, u64)>,
    pub carry_after: BTreeMap<u64, i64>,
}

/// The operator fee of an account: only output 0 has one.
fn fee_of(account: &Account, reward: u64, ppm: u32) -> I256 {
    if account.serial_id.0 == 0 {
        I256::from(reward) * I256::from(ppm) / I256::from(1_000_000)
    } else {
        I256::ZERO
    }
}

fn candidates<'a>(accounts: &'a [Account], fee_of: &dyn Fn(&Account) -> I256) -> Vec<&'a Account> {
    let may_be_paid = |a: &&Account| a.weight != 0 || a.carry != 0 || fee_of(a) != 0;
    accounts.iter().filter(may_be_paid).collect()
}

/// Takes out who is below its dust limit; says whether there was any.
fn drop_dust<'a>(
    rows: &[Row<'a>],
    accounts: &mut Vec<&'a Account>,
    carry_after: &mut BTreeMap<u64, i64>,
) -> bool {
    let paid = |row: &Row<'_>| row.amount >= I256::from(row.account.dust_limit);
    for row in rows.iter().filter(|row| !paid(row) && row.owed != 0) {
        carry_after.insert(row.account.serial_id.0, row.owed.as_i64());
    }
    *accounts = rows.iter().filter(|r| paid(r)).map(|r| r.account).collect();
    accounts.len() < rows.len()
}

/// The smallest amount; of two alike, that of the higher serial_id.
fn smallest(rows: &[Row<'_>]) -> usize {
    let key = |place: &usize| {
        (
            rows[*place].amount,
            u64::MAX - rows[*place].account.serial_id.0,
        )
    };
    (0..rows.len()).min_by_key(key).unwrap()
}

/// `None`: nothing can be paid.
pub fn reference(input: &SplitInput<'_>) -> Option<Reference> {
    let fee_of = |a: &Account| fee_of(a, input.reward, input.operator_fee_ppm);
    let shards_max = input.shards_max.max(1);
    let mut accounts = candidates(input.accounts, &fee_of);
    let mut carry_after = BTreeMap::new();
    loop {
        if accounts.is_empty() {
            return None;
        }
        let shards = fill(&accounts);
        let fees: Vec<u64> = shards
            .iter()
            .map(|s| fee_for(s, input.feerate.sat_per_kvb()))
            .collect();
        let paid_for = fees.iter().take(shards_max);
        let costs: I256 = paid_for.map(|f| I256::from(*f) + I256::from(240)).sum();
        let available = I256::from(input.reward) - costs;
        if available < 0 {
            return None;
        }
        let mut rows = pass(&accounts, available, &fee_of);
        if drop_dust(&rows, &mut accounts, &mut carry_after) {
            continue;
        }
        if shards.len() > shards_max {
            while fill(&accounts).len() > shards_max {
                let out = rows.remove(smallest(&rows));
                if out.owed != 0 {
                    carry_after.insert(out.account.serial_id.0, out.owed.as_i64());
                }
                accounts = rows.iter().map(|row| row.account).collect();
            }
            continue;
        }
        let mut place = 0;
        let mut result = Vec::new();
        for (shard, fee) in shards.iter().zip(fees) {
            let mine = &rows[place..place + shard.len()];
            place += shard.len();
            let outputs = mine
                .iter()
                .map(|r| (r.account.serial_id.0, r.amount.as_u64()))
                .collect();
            result.push((outputs, fee));
        }
        for row in rows.iter().filter(|row| row.owed != row.amount) {
            carry_after.insert(row.account.serial_id.0, (row.owed - row.amount).as_i64());
        }
        return Some(Reference {
            shards: result,
            carry_after,
        });
    }
}

/// The split of a direct coinbase. `None`: nothing can be paid.
pub fn reference_direct(
    reward: u64,
    ppm: u32,
    payees_max: usize,
    accounts: &[Account],
) -> Option<ReferenceDirect> {
    let fee_of = |a: &Account| fee_of(a, reward, ppm);
    let mut accounts = candidates(accounts, &fee_of);
    let mut carry_after = BTreeMap::new();
    let mut rows = loop {
        if accounts.is_empty() || payees_max == 0 {
            return None;
        }
        let rows = pass(&accounts, I256::from(reward), &fee_of);
        if !drop_dust(&rows, &mut accounts, &mut carry_after) {
            break rows;
        }
    };
    let mut advance = I256::ZERO;
    let mut after: BTreeMap<u64, I256> = BTreeMap::new();
    while rows.len() > payees_max {
        let out = rows.remove(smallest(&rows));
        advance += out.amount;
        after.insert(out.account.serial_id.0, out.owed);
    }
    let weights: Vec<I256> = rows.iter().map(|row| row.amount).collect();
    let mut outputs = Vec::new();
    for (row, part) in rows.iter().zip(cut(advance, &weights)) {
        let sat = row.amount + part;
        outputs.push((row.account.serial_id.0, sat.as_u64()));
        after.insert(row.account.serial_id.0, row.owed - sat);
    }
    let after = after.into_iter().filter(|(_, sat)| *sat != 0);
    carry_after.extend(after.map(|(serial_id, sat)| (serial_id, sat.as_i64())));
    Some(ReferenceDirect {
        outputs,
        carry_after,
    })
}

fn pass<'a>(
    accounts: &[&'a Account],
    available: I256,
    fee_of: &dyn Fn(&Account) -> I256,
) -> Vec<Row<'a>> {
    let claims: Vec<I256> = accounts
        .iter()
        .map(|a| I256::from(a.carry) + fee_of(a))
        .collect();
    let rest = available - claims.iter().sum::<I256>();
    let rows = accounts.iter().zip(&claims);
    if rest >= 0 {
        let mut weights: Vec<I256> = accounts.iter().map(|a| I256::from(a.weight)).collect();
        if weights.iter().all(|w| *w == 0) {
            weights.fill(I256::ONE);
        }
        let parts = cut(rest, &weights);
        rows.zip(parts)
            .map(|((account, claim), part)| Row {
                account,
                owed: claim + part,
                amount: claim + part,
            })
            .collect()
    } else {
        let weights: Vec<I256> = claims.iter().map(|c| (*c).max(I256::ZERO)).collect();
        let negative: I256 = claims.iter().map(|c| (*c).min(I256::ZERO)).sum();
        let parts = cut(available - negative, &weights);
        rows.zip(parts)
            .map(|((account, claim), part)| Row {
                account,
                owed: *claim,
                amount: part.min(*claim),
            })
            .collect()
    }
}

/// Largest remainder by a full sort.
fn cut(amount: I256, weights: &[I256]) -> Vec<I256> {
    let total: I256 = weights.iter().sum();
    let mut parts: Vec<I256> = weights.iter().map(|w| amount * w / total).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| (-(amount * weights[*i] % total), *i));
    let missing = amount - parts.iter().sum::<I256>();
    for place in order.into_iter().take(missing.as_usize()) {
        parts[place] += 1;
    }
    parts
}

fn fill<'a>(accounts: &[&'a Account]) -> Vec<Vec<&'a Account>> {
    let mut shards: Vec<Vec<&Account>> = vec![Vec::new()];
    for account in accounts {
        let last = shards.last_mut().unwrap();
        last.push(account);
        if last.len() > 1 && vsize(last) > 10_000 {
            last.pop();
            shards.push(vec![account]);
        }
    }
    shards
}

fn fee_for(shard: &[&Account], sat_per_kvb: u64) -> u64 {
    (vsize(shard) * sat_per_kvb).div_ceil(1_000)
}

/// Size of a real signed transaction with outputs of these sizes.
fn vsize(shard: &[&Account]) -> u64 {
    let output = |bytes: u64| TxOut {
        value: Amount::ZERO,
        // Eight bytes of value, and the script's length in one byte or three.
        script_pubkey: ScriptBuf::from_bytes(match bytes as usize {
            short @ ..264 => vec![0; short - 9],
            long => vec![0; long - 11],
        }),
    };
    let mut outputs: Vec<TxOut> = shard.iter().map(|a| output(a.output_size)).collect();
    outputs.push(output(13));
    let tx = Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0u8; 64]]),
        }],
        output: outputs,
    };
    tx.vsize() as u64
}
