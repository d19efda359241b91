//! The wallet's coins as the own node has them: every block since the last sync, and the mempool.
//!
//! The scan works on a copy in memory and holds no lock; what it saw is merged into the file in a moment,
//! whatever other processes did to the file meanwhile.

use bdk_bitcoind_rpc::Emitter;
use bdk_bitcoind_rpc::bitcoincore_rpc;
use bdk_wallet::chain::local_chain::CannotConnectError;
use bdk_wallet::chain::{CheckPoint, TxUpdate};
use bdk_wallet::{KeychainKind, Update};
use serde::Serialize;
use thiserror::Error;

use super::{Birthday, Wallet, WalletError, WalletFile};
use crate::chain::{BlockRef, Node, NodeError};
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
    #[error(
        "the node does not have block {height} (it is pruned, or lost it), which may pay this wallet; set [node] to a node that keeps its blocks, or look from a later one on with `tutti-participant wallet rescan --from HEIGHT`"
    )]
    Pruned { height: u32 },
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
        0 => birthday.height(node, file.network())?,
        _ => 0, // From where it was left.
    };
    let steps = Steps {
        from,
        store_every: STORE_EVERY,
    };
    scan(&mut wallet, file, node, steps, progress)
}

/// Blocks that a sync would look at.
pub fn blocks_behind(file: &WalletFile, node: &Node, birthday: Birthday) -> Result<u32, SyncError> {
    let from = match file.open()?.wallet.latest_checkpoint().height() {
        0 => birthday.height(node, file.network())?,
        height => height,
    };
    Ok(node.tip()?.block.height.saturating_sub(from))
}

/// Looks at all blocks from this height on again, and for more addresses than were ever given out.
pub fn rescan(
    file: &WalletFile,
    node: &Node,
    from: Birthday,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Synced, SyncError> {
    let mut from = from.height(node, file.network())?;
    if file.open()?.wallet.latest_checkpoint().height() > 0 {
        // First what is new, so that both chains meet at their ends.
        sync(file, node, Birthday::Height(from), progress)?;
    }
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
    let known = {
        let stored = file.open()?.wallet;
        for keychain in [KeychainKind::External, KeychainKind::Internal] {
            if let Some(index) = stored.derivation_index(keychain) {
                let _ = fresh.reveal_addresses_to(keychain, index);
            }
        }
        stored.latest_checkpoint().height()
    };
    if known > 0 {
        // Else blocks between the two would stay unseen.
        from = from.min(known);
    }
    // Stored at the end only: until then it does not reach what the file has.
    let steps = Steps {
        from,
        store_every: u32::MAX,
    };
    scan(&mut fresh, file, node, steps, progress)
}

/// How a scan goes.
#[derive(Clone, Copy)]
struct Steps {
    from: u32,
    store_every: u32,
}

fn scan(
    wallet: &mut bdk_wallet::Wallet,
    file: &WalletFile,
    node: &Node,
    steps: Steps,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Synced, SyncError> {
    let tip = node.tip()?.block.height;
    let unconfirmed: Vec<_> = wallet
        .transactions()
        .filter(|tx| tx.chain_position.is_unconfirmed())
        .map(|tx| tx.tx_node.tx)
        .collect();
    let mut synced = Synced {
        height: wallet.latest_checkpoint().height(),
        from: None,
        blocks: 0,
    };
    let last = wallet.latest_checkpoint();
    let mut emitter = Emitter::new(node.client(), last, steps.from, unconfirmed);
    loop {
        let next = emitter.next_block();
        let Some(event) = next.map_err(|error| failed(node, error, synced.height))? else {
            break;
        };
        let height = event.block_height();
        let connected = wallet.apply_block_connected_to(&event.block, height, event.connected_to());
        connected.map_err(|_| CannotConnectError {
            try_include_height: height,
        })?;
        synced.from.get_or_insert(height);
        synced.height = height;
        synced.blocks += 1;
        progress(height, tip.max(height));
        if synced.blocks.is_multiple_of(steps.store_every) {
            merge(wallet, file)?;
        }
    }
    // Nothing takes the place of what is gone: coins in it would be shown as confirmed.
    let header = node.header(wallet.latest_checkpoint().hash())?;
    if !header.is_some_and(|header| header.in_best_chain) {
        return Err(SyncError::TakenBack {
            height: wallet.latest_checkpoint().height(),
        });
    }
    let mempool = emitter.mempool();
    let mempool = mempool.map_err(|error| failed(node, error, synced.height))?;
    wallet.apply_unconfirmed_txs(mempool.update);
    wallet.apply_evicted_txs(mempool.evicted);
    merge(wallet, file)?;
    Ok(synced)
}

/// Stores what a scan saw.
fn merge(scanned: &bdk_wallet::Wallet, file: &WalletFile) -> Result<(), SyncError> {
    let update = Update {
        last_active_indices: scanned.spk_index().last_used_indices(),
        tx_update: TxUpdate::from(scanned.tx_graph().clone()),
        chain: Some(scanned.latest_checkpoint()),
    };
    let mut open: Wallet = file.open()?;
    open.wallet.apply_update(update)?;
    open.persist()?;
    Ok(())
}

fn failed(node: &Node, error: bitcoincore_rpc::Error, scanned_to: u32) -> SyncError {
    let error = node.client_error(error);
    match error.is_block_gone() {
        true => SyncError::Pruned {
            height: scanned_to.saturating_add(1),
        },
        false => error.into(),
    }
}

/// The block that a wallet was synced to.
pub(super) fn tip(checkpoint: &CheckPoint) -> BlockRef {
    BlockRef {
        height: checkpoint.height(),
        hash: checkpoint.hash(),
    }
}
