//! A participant whose own node is cut off from the others, while its coordinator's node goes on: real
//! processes, real nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, ScriptBuf};
use serde_json::{Value, json};
use tutti_proto::coinbase::{self, CoinbaseName};
use tutti_proto::id::{LaneIndex, RoundSeq};
use tutti_regtest::binaries::Binaries;
use tutti_regtest::daemon::Line;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions};

const STEP: Duration = Duration::from_secs(60);
/// A difference of one block, or of branches, is no relay's after 120 s.
const RELAY: Duration = Duration::from_secs(200);

struct Scene {
    pool: Pool,
    /// The miner's.
    own: Node,
    alice: Miner,
}

impl Scene {
    fn start(root: &std::path::Path) -> Result<Self> {
        let listens = |first_block| NodeOptions {
            p2p: true,
            first_block,
            ..NodeOptions::default()
        };
        let (node, own) = (Node::start(listens(true))?, Node::start(listens(false))?);
        let options = PoolOptions {
            // The nodes' blocks only.
            block_zero_bits: 40,
            ..PoolOptions::default()
        };
        let pool = Pool::start(root, node, Binaries::ready()?, &options, None)?;
        let alice = pool.add_miner("alice", 1_000)?;
        let config = root.join("alice.toml");
        let text = std::fs::read_to_string(&config)?;
        let cookie = |node: &Node| node.cookie_file().display().to_string();
        let text = text
            .replace(&pool.node.rpc_url(), &own.rpc_url())
            .replace(&cookie(&pool.node), &cookie(&own));
        std::fs::write(&config, text)?;
        let scene = Self { pool, own, alice };
        scene.join()?;
        Ok(scene)
    }

    /// The own node hears of the others' blocks again.
    fn join(&self) -> Result<()> {
        self.own.call::<Value>("setnetworkactive", &[json!(true)])?;
        self.own.connect(&self.pool.node)?;
        self.own.wait_for_tip(&self.pool.node.tip()?, STEP)?;
        Ok(())
    }

    fn cut(&self) -> Result<()> {
        self.own
            .call::<Value>("setnetworkactive", &[json!(false)])?;
        Ok(())
    }

    fn wait(&mut self, event: &str, within: Duration) -> Result<Line> {
        self.alice.daemon()?.wait_event(event, within)
    }
}

/// A round of another pool in a participant's data directory.
fn hold_elsewhere(data: &Path, seq: u64) -> Result<()> {
    const HEIGHT: u32 = 5_000;
    let name = CoinbaseName {
        height: HEIGHT,
        tag: "/other/",
        round: RoundSeq(seq),
        lane: LaneIndex(0),
    };
    let paid = (ScriptBuf::from_hex("51")?, Amount::from_sat(5_000_000_000));
    let coinbase = serialize_hex(&coinbase::build(name, &[paid], None));
    let round = hex::encode([0; 32]);
    let held = json!({
        "version": 1, "round": round, "seq": seq, "height": HEIGHT, "feerate_sat_per_kvb": 1_000,
        "window": seq, "signers": 0, "lanes": [{"coinbase": coinbase, "payouts": []}], "payees": [],
    });
    let rounds = data.join("rounds");
    std::fs::create_dir_all(&rounds)?;
    let path = rounds.join(format!("{seq}-{round}.json"));
    Ok(std::fs::write(path, held.to_string())?)
}

#[test]
fn a_node_that_is_cut_off_is_told_as_behind_and_on_another_branch_until_it_is_back() -> Result<()> {
    let root = tempfile::tempdir()?;
    let mut scene = Scene::start(root.path())?;
    // What is held of an earlier pool, far above, says nothing of this one, which reaches the same numbers.
    for seq in 0..100 {
        hold_elsewhere(&root.path().join("alice"), seq)?;
    }
    scene.pool.run_miner(&mut scene.alice, &[])?;
    scene.wait("mining", STEP)?;

    scene.cut()?;
    scene.pool.node.mine(3)?;
    let behind = scene.wait("node_behind", STEP)?;
    ensure!(behind.number("blocks")? == 3, "{behind:?}");
    scene.join()?;
    let good = scene.wait("node_view_good", STEP)?;
    // A block may be missing yet: a node that is one behind for a moment is none to be told of.
    let height = u64::from(scene.pool.node.height()?);
    ensure!(
        (height - 1..=height).contains(&good.number("tip")?),
        "{good:?}"
    );

    // Somebody feeds it another branch, which is as long as the true one for now.
    scene.cut()?;
    let height = scene.own.height()?;
    let another = ScriptBuf::from_hex("51")?;
    scene.own.mine_to(1, &another)?;
    scene.pool.node.mine(1)?;
    let other = scene.wait("node_other_branch", RELAY)?;
    ensure!(
        other.number("height")? == u64::from(height) + 1,
        "{other:?}"
    );
    scene.pool.node.mine(1)?;
    scene.join()?;
    let good = scene.wait("node_view_good", STEP)?;
    ensure!(good.number("tip")? == u64::from(height) + 2, "{good:?}");
    scene
        .alice
        .daemon
        .take()
        .context("it runs")?
        .terminate(STEP)?;
    Ok(())
}
