//! The wallet's coins as the own node has them: every block since the last sync, and the mempool.
//!
//! The scan works on a copy in memory and holds no lock; what it saw is merged into the file in a moment,
//! whatever other processes did to the file meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bdk_bitcoind_rpc::Emitter;
use bdk_wallet::chain::local_chain::CannotConnectError;
use bdk_wallet::chain::{BlockId, CheckPoint, TxUpdate};
use bdk_wallet::{KeychainKind, Update};
use bitcoin::{Transaction, Txid};
use serde::Serialize;
use thiserror::Error;

use super::birthday::BeginError;
use super::{Birthday, Wallet, WalletError, WalletFile, unseen};
use crate::chain::{BlockRef, Node, NodeError};
use crate::settle;
use crate::store::StoreError;

/// Addresses beyond the last used one that a scan looks for. Much more than the 20 of most wallets:
/// a daemon takes a new one for every found block, and a person as many as wanted.
const LOOKAHEAD: u32 = 100;
/// Blocks after which what was seen is stored, so that an interrupted scan goes on from there.
const STORE_EVERY: u32 = 10_000;

/// How far a wallet is after a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// The node's tip that was reached.
    pub height: u32,
    /// The first block that was looked at; none if there was no new one.
    pub from: Option<u32>,
    /// Blocks that were looked at.
    pub blocks: u32,
    /// Blocks that were not looked at because the node does not have them.
    pub skipped: Option<Heights>,
}

/// Blocks of a chain, the first and the last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Heights {
    pub from: u32,
    pub to: u32,
}

impl fmt::Display for Heights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (from, to) if from == to => write!(f, "block {from}"),
            (from, to) => write!(f, "blocks {from} to {to}"),
        }
    }
}

/// Why the wallet does not know its coins.
#[derive(Debug, Error)]
pub enum SyncError {
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error(
        "the node does not have {missing} (it is pruned, or lost them), where this wallet may have been paid; set [node] to a node that keeps its blocks, or go on without them with `tutti-participant wallet rescan --from {}`: what was paid or spent there is seen only where this wallet or its pool knows the transaction",
        missing.to.saturating_add(1)
    )]
    Pruned { missing: Heights },
    #[error(
        "the node took back block {height}, which the wallet has seen, and has none in its place yet; run the command again when it has one"
    )]
    TakenBack { height: u32 },
    #[error("the node's chain does not continue the wallet's; run the command again: {0}")]
    Disconnected(#[from] CannotConnectError),
}

/// Looks at what is new since the last sync; at everything since the birthday the first time.
/// `progress` learns of every block: its height and the tip's.
pub fn sync(
    file: &WalletFile,
    node: &Node,
    birthday: Birthday,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Synced, SyncError> {
    let mut wallet = {
        let open = file.open()?;
        open.wallet
    };
    let from = match wallet.latest_checkpoint().height() {
        0 => first_height(file, node, birthday)?,
        _ => 0, // From where it was left.
    };
    let steps = Steps {
        from,
        skip_below: 0,
        store_every: STORE_EVERY,
    };
    let synced = scan(&mut wallet, file, node, steps, progress)?;
    merge(&wallet, file, &[])?;
    Ok(synced)
}

/// Where a wallet begins that has seen nothing: at its birthday, or where the pool paid it before. A clock that was
/// ahead at `init` gave too late a birthday.
pub(super) fn first_height(
    file: &WalletFile,
    node: &Node,
    birthday: Birthday,
) -> Result<u32, SyncError> {
    let height = birthday.height(node, file.network())?;
    let book = settle::read_book(file.directory())?.unwrap_or_default();
    let ours = book.settlements().iter().filter(|found| found.own_sat > 0);
    let paid = ours.map(|found| found.block.height).min();
    Ok(paid.map_or(height, |paid| paid.min(height)))
}

/// Blocks that a sync would look at.
pub fn blocks_behind(file: &WalletFile, node: &Node, birthday: Birthday) -> Result<u32, SyncError> {
    let from = match file.open()?.wallet.latest_checkpoint().height() {
        0 => first_height(file, node, birthday)?,
        height => height,
    };
    Ok(node.tip()?.block.height.saturating_sub(from))
}

/// Looks at all blocks from this height on again, and for more addresses than were ever given out. Blocks between
/// those that the wallet has seen and this height are looked at too, unless the node does not have them. Where what
/// the wallet knows, or the pool `paid`, is in none of the blocks that were looked at, the node is asked for it.
pub fn rescan(
    file: &WalletFile,
    node: &Node,
    from: Birthday,
    paid: Vec<Transaction>,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Synced, SyncError> {
    let from = from.height(node, file.network())?;
    let [external, internal] = file.descriptors();
    let fresh = bdk_wallet::Wallet::create(external, internal)
        .network(file.network())
        .lookahead(LOOKAHEAD)
        .create_wallet_no_persist();
    let path = file.path();
    let mut fresh = fresh.map_err(|error| WalletError::Damaged {
        path,
        reason: error.to_string(),
    })?;
    let (last, stored) = {
        let stored = file.open()?.wallet;
        for keychain in [KeychainKind::External, KeychainKind::Internal] {
            if let Some(index) = stored.derivation_index(keychain) {
                let _ = fresh.reveal_addresses_to(keychain, index);
            }
        }
        (stored.latest_checkpoint(), stored)
    };
    let meeting = Meeting::find(&last, node)?;
    let start = match last.height() {
        0 => from,
        // Else blocks between the two would stay unseen.
        _ => from.min(meeting.next()),
    };
    // Stored at the end only: until then it does not reach what the file has.
    let steps = Steps {
        from: start,
        skip_below: from,
        store_every: u32::MAX,
    };
    let synced = scan(&mut fresh, file, node, steps, progress)?;
    let mut known = unanchored(&stored, meeting.last.height);
    known.extend(paid.into_iter().map(Arc::new));
    unseen::take_found(&mut fresh, node, &known)?;
    merge(&fresh, file, &meeting.ends(node)?)?;
    Ok(synced)
}

/// How a scan goes.
#[derive(Clone, Copy)]
struct Steps {
    /// Where a wallet begins that has seen nothing.
    from: u32,
    /// Below this height a block is skipped that the node does not have.
    skip_below: u32,
    store_every: u32,
}

/// Where a wallet's chain and the node's part.
struct Meeting {
    /// The wallet's highest block that is in the best chain.
    last: BlockId,
    /// The lowest height at which the wallet has another one.
    left: Option<u32>,
}

impl Meeting {
    /// By headers alone: a pruned node has those of all blocks.
    fn find(wallet: &CheckPoint, node: &Node) -> Result<Self, SyncError> {
        let mut left = None;
        for checkpoint in wallet.iter() {
            let header = node.header(checkpoint.hash())?;
            if !header.is_some_and(|header| header.in_best_chain) {
                left = Some(checkpoint.height());
                continue;
            }
            let meeting = Self {
                last: checkpoint.block_id(),
                left,
            };
            // Nothing takes the place of what is gone: coins in it would be shown as confirmed.
            return match meeting.instead(node)? {
                None if left.is_some() => Err(SyncError::TakenBack {
                    height: wallet.height(),
                }),
                _ => Ok(meeting),
            };
        }
        let try_include_height = 0;
        Err(CannotConnectError { try_include_height }.into())
    }

    /// The lowest height that was not looked at.
    fn next(&self) -> u32 {
        // Above the last one there may be blocks that were skipped.
        self.left
            .unwrap_or_else(|| self.last.height.saturating_add(1))
    }

    /// What is in the best chain where the wallet has another block.
    fn instead(&self, node: &Node) -> Result<Option<BlockId>, NodeError> {
        let block = match self.left {
            Some(height) => node.block_at(height)?,
            None => None,
        };
        Ok(block.map(|BlockRef { height, hash }| BlockId { height, hash }))
    }

    /// What joins the wallet's chain to one that has none of its blocks.
    fn ends(&self, node: &Node) -> Result<Vec<BlockId>, NodeError> {
        let instead = self.instead(node)?;
        Ok([Some(self.last), instead].into_iter().flatten().collect())
    }
}

/// Looks at all blocks up to the node's tip, and at its mempool.
fn scan(
    wallet: &mut bdk_wallet::Wallet,
    file: &WalletFile,
    node: &Node,
    steps: Steps,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Synced, SyncError> {
    let mut synced = Synced {
        height: wallet.latest_checkpoint().height(),
        from: None,
        blocks: 0,
        skipped: None,
    };
    loop {
        scan_branch(wallet, file, node, steps, (&mut synced, progress))?;
        // Else the chain changed under our feet.
        let header = node.header(wallet.latest_checkpoint().hash())?;
        if header.is_some_and(|header| header.in_best_chain) {
            break;
        }
    }
    let pending = unconfirmed(wallet);
    let last = wallet.latest_checkpoint();
    // The emitter asks singly for what it is not told of.
    let pooled = node.pooled_transactions()?.into_iter().map(Arc::new);
    let known: Vec<_> = pending.iter().cloned().chain(pooled).collect();
    let mut emitter = Emitter::new(node.connection().client(), last, 0, known);
    let mempool = emitter.mempool();
    let failed = |error| NodeError::from(node.connection().error("a scan's call", error));
    let mempool = mempool.map_err(failed)?;
    wallet.apply_unconfirmed_txs(mempool.update);
    let evicted: BTreeMap<Txid, u64> = mempool.evicted.into_iter().collect();
    let left = pending.into_iter();
    let left: Vec<_> = left
        .filter(|tx| evicted.contains_key(&tx.compute_txid()))
        .collect();
    let spent = unseen::spent_unseen(wallet, node, &left)?;
    let evicted = evicted.into_iter();
    wallet.apply_evicted_txs(evicted.filter(|(txid, _)| !spent.contains(txid)));
    Ok(synced)
}

/// What a wallet knows of and has not in a block up to this height: in one that was taken back, in the mempool, or
/// no longer there.
fn unanchored(wallet: &bdk_wallet::Wallet, height: u32) -> Vec<Arc<Transaction>> {
    let seen = wallet.transactions().filter(|tx| {
        let of = tx.chain_position.confirmation_height_upper_bound();
        of.is_some_and(|of| of <= height)
    });
    let seen: BTreeSet<Txid> = seen.map(|tx| tx.tx_node.txid).collect();
    let all = wallet.tx_graph().full_txs();
    all.filter(|tx| !seen.contains(&tx.txid))
        .map(|tx| tx.tx)
        .collect()
}

fn unconfirmed(wallet: &bdk_wallet::Wallet) -> Vec<Arc<Transaction>> {
    let all = wallet.transactions();
    let unconfirmed = all.filter(|tx| tx.chain_position.is_unconfirmed());
    unconfirmed.map(|tx| tx.tx_node.tx).collect()
}

/// Goes on from where wallet and node agree, to the tip or until the node has another chain.
fn scan_branch(
    wallet: &mut bdk_wallet::Wallet,
    file: &WalletFile,
    node: &Node,
    steps: Steps,
    (synced, progress): (&mut Synced, &mut dyn FnMut(u32, u32)),
) -> Result<(), SyncError> {
    let tip = node.tip()?.block.height;
    let meeting = Meeting::find(&wallet.latest_checkpoint(), node)?;
    let mut last = meeting.last;
    let mut height = match meeting.last.height {
        0 => meeting.left.unwrap_or(steps.from.max(1)),
        _ => meeting.next(),
    };
    while let Some(BlockRef { hash, .. }) = node.block_at(height)? {
        let block = match node.block(hash) {
            Err(NodeError::BlockGone { .. }) => {
                height = skip(height, node, steps, synced)?;
                continue;
            }
            block => block?,
        };
        let follows = block.header.prev_blockhash == last.hash;
        if last.height.saturating_add(1) == height && !follows {
            break;
        }
        let connected = wallet.apply_block_connected_to(&block, height, last);
        connected.map_err(|_| CannotConnectError {
            try_include_height: height,
        })?;
        last = BlockId { height, hash };
        synced.from.get_or_insert(height);
        synced.height = height;
        synced.blocks = synced.blocks.saturating_add(1);
        progress(height, tip.max(height));
        if synced.blocks.is_multiple_of(steps.store_every) {
            merge(wallet, file, &[])?;
        }
        height = height.saturating_add(1);
    }
    Ok(())
}

/// The height after blocks that the node does not have, if they may be skipped.
fn skip(height: u32, node: &Node, steps: Steps, synced: &mut Synced) -> Result<u32, SyncError> {
    let next = node.first_block()?.max(height.saturating_add(1));
    let (from, to) = (height, next.saturating_sub(1));
    if height >= steps.skip_below {
        let to = last_gone(to, node)?;
        let missing = Heights { from, to };
        return Err(SyncError::Pruned { missing });
    }
    let next = next.min(steps.skip_below);
    let to = next.saturating_sub(1);
    let from = synced.skipped.map_or(from, |skipped| skipped.from);
    synced.skipped = Some(Heights { from, to });
    Ok(next)
}

/// The last of the blocks from this one on that the node does not have: one that lost files does not know it.
fn last_gone(first: u32, node: &Node) -> Result<u32, SyncError> {
    let mut last = first;
    loop {
        let next = last.saturating_add(1);
        let Some(BlockRef { hash, .. }) = node.block_at(next)? else {
            return Ok(last);
        };
        match node.transactions(hash) {
            Err(NodeError::BlockGone { .. }) => last = next,
            there => return Ok(there.map(|_| last)?),
        }
    }
}

/// Stores what a scan saw. `ends` join its chain to the file's where it has none of that one's blocks.
fn merge(
    scanned: &bdk_wallet::Wallet,
    file: &WalletFile,
    ends: &[BlockId],
) -> Result<(), SyncError> {
    let mut chain = scanned.latest_checkpoint();
    for end in ends {
        if chain.get(end.height).is_none() {
            chain = chain.insert(*end);
        }
    }
    let update = Update {
        last_active_indices: scanned.spk_index().last_used_indices(),
        tx_update: TxUpdate::from(scanned.tx_graph().clone()),
        chain: Some(chain),
    };
    let mut open: Wallet = file.open()?;
    open.wallet.apply_update(update)?;
    open.persist()?;
    Ok(())
}

/// The block that a wallet was synced to.
pub(super) fn tip(checkpoint: &CheckPoint) -> BlockRef {
    BlockRef {
        height: checkpoint.height(),
        hash: checkpoint.hash(),
    }
}
