//! The node harness on a real bitcoind.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bitcoincore_rpc::RpcApi;
use serde_json::{Value, json};
use tutti_regtest::bitcoind::{OLDEST_SUPPORTED, locate};
use tutti_regtest::node::{ANYONE_CAN_SPEND_HEX, Node, NodeError, NodeOptions};

const EVENT_WITHIN: Duration = Duration::from_secs(60);

fn start() -> Node {
    Node::start(NodeOptions::default()).expect("a node starts")
}

#[test]
fn a_node_gives_a_segwit_template() {
    let node = start();
    let template: Value = node
        .call("getblocktemplate", &[json!({"rules": ["segwit"]})])
        .expect("a template");
    assert_eq!(
        template["height"],
        json!(node.height().expect("a height") + 1)
    );
    assert!(template["default_witness_commitment"].is_string());
    assert!(template["longpollid"].is_string());
    let info: Value = node.call("getblockchaininfo", &[]).expect("info");
    assert_eq!(info["chain"], json!("regtest"));
    assert_eq!(info["initialblockdownload"], json!(false));
}

#[test]
fn the_chain_survives_an_orderly_stop_and_sigkill() {
    let mut node = start();
    node.mine(3).expect("blocks");
    let (url, tip) = (node.rpc_url(), node.tip().expect("a tip"));
    node.restart().expect("a restart after a stop");
    assert_eq!(node.tip().expect("a tip"), tip);

    let tip = node.mine(2).expect("blocks")[1];
    node.flush().expect("the chain is written");
    let pid = node.pid();
    node.kill();
    assert_eq!(node.pid(), None);
    assert!(matches!(node.height(), Err(NodeError::NotRunning)));
    node.restart().expect("a restart after SIGKILL");
    assert_ne!(node.pid(), pid);
    assert_eq!(node.rpc_url(), url, "configurations name the port");
    assert_eq!(node.tip().expect("a tip"), tip);
}

#[test]
fn a_given_directory_is_kept_and_reopened() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = NodeOptions {
        data_dir: Some(dir.path().join("node")),
        ..NodeOptions::default()
    };
    let mut first = Node::start(options.clone()).expect("a node starts");
    let tip = first.mine(1).expect("a block")[0];
    first.stop().expect("it stops");
    drop(first);
    let second = Node::start(options).expect("a node starts on the same data");
    assert_eq!(second.tip().expect("a tip"), tip);
}

#[test]
fn a_peer_without_blocks_follows_the_chain() {
    let miner = Node::start(NodeOptions {
        p2p: true,
        ..NodeOptions::default()
    })
    .expect("a node starts");
    let follower = Node::start(NodeOptions {
        first_block: false,
        ..NodeOptions::default()
    })
    .expect("a node starts");
    assert_eq!(follower.height().expect("a height"), 0);
    follower.connect(&miner).expect("they connect");
    let tip = *miner.mine(5).expect("blocks").last().expect("five");
    follower
        .wait_for_tip(&tip, EVENT_WITHIN)
        .expect("the blocks arrive");
    assert!(matches!(
        miner.connect(&follower),
        Err(NodeError::NoP2pPort)
    ));
}

#[test]
fn mined_coins_go_to_a_script_anyone_can_spend() {
    let node = start();
    let hash = node.mine_empty().expect("a block");
    let block = node.block(&hash).expect("the block");
    assert_eq!(block.txdata.len(), 1);
    let script = &block.txdata[0].output[0].script_pubkey;
    assert_eq!(script.to_hex_string(), ANYONE_CAN_SPEND_HEX);
    let own = bitcoin::ScriptBuf::from_bytes(vec![0x51]);
    let hash = node.mine_to(1, &own).expect("a block")[0];
    let block = node.block(&hash).expect("the block");
    assert_eq!(block.txdata[0].output[0].script_pubkey, own);
}

#[test]
fn a_long_poll_occupies_no_other_call() {
    let node = start();
    let template: Value = node
        .call("getblocktemplate", &[json!({"rules": ["segwit"]})])
        .expect("a template");
    let request = json!({"rules": ["segwit"], "longpollid": template["longpollid"]});
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| {
            let rpc = node.rpc().expect("a client");
            rpc.call::<Value>("getblocktemplate", &[request])
        });
        node.mine(1).expect("a block while the poll may be waiting");
        let answer = poll.join().expect("the thread").expect("a new template");
        assert_eq!(answer["height"], json!(3));
    });
}

#[test]
fn a_bad_option_is_an_error_with_bitcoinds_own_words() {
    let error = Node::start(NodeOptions {
        extra_args: vec!["-nosuchoption=1".to_owned()],
        ..NodeOptions::default()
    })
    .err()
    .expect("bitcoind refuses");
    assert!(matches!(error, NodeError::Ended { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("nosuchoption"), "{text}");
    assert!(text.contains("debug.log"), "{text}");
}

#[test]
fn many_nodes_start_at_once() {
    std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        for node in starts {
            let node = node.join().expect("the thread");
            assert_eq!(node.height().expect("a height"), 1);
        }
    });
}

#[test]
fn a_dropped_node_is_gone() {
    let node = start();
    let (port, dir) = (node.rpc_port(), node.data_dir().to_owned());
    drop(node);
    assert!(!dir.exists());
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn the_located_bitcoind_is_new_enough() {
    let found = locate().expect("a bitcoind");
    assert!(found.version >= OLDEST_SUPPORTED, "{found:?}");
}

/// Below bitcoind's own time limit for silent RPC connections.
const KILLED_WITHIN: Duration = Duration::from_secs(15);

#[test]
#[ignore = "not a test: the process that the next test kills"]
fn hold_a_node_until_killed() {
    let node = start();
    println!("port {}", node.rpc_port());
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("a line");
}

#[test]
fn a_node_dies_with_the_process_that_holds_it() {
    // The killed process cannot remove its node's directory.
    let temporary = tempfile::tempdir().expect("a directory");
    let mut holder = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "hold_a_node_until_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the holder starts");
    let stdout = BufReader::new(holder.stdout.take().expect("its output"));
    let port: u16 = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("port ")?.1.parse().ok())
        .expect("it prints its node's port");
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("the node answers");
    connection
        .set_read_timeout(Some(KILLED_WITHIN))
        .expect("a deadline");
    holder.kill().expect("SIGKILL");
    holder.wait().expect("it is gone");
    match connection.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the node still runs: {other:?}"),
    }
}
