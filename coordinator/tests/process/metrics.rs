//! What a monitoring system reads.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use tutti_proto::participant::Input;

use crate::ledger::{quiet, shares};
use crate::pool::{Miner, World};
use crate::support::WITHIN;

/// The answer's status line, and its text.
fn get(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), text.to_owned())
}

/// Values by name and labels.
fn read(address: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(address, "GET /metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    samples.map(sample).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_monitors_the_pool_reads_what_it_did_and_how_it_is() {
    let mut world =
        World::start_with("[metrics]\nlisten = \"127.0.0.1:0\"\n[regtest]\nblock_zero_bits = 14\n");
    let told = world.daemon.wait_event("metrics", WITHIN).unwrap();
    let address = told.text("address").unwrap().to_owned();
    let before = read(&address);
    assert_eq!(before["tutti_shares_total"], 0.0);
    assert_eq!(before["tutti_participants"], 0.0);

    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    shares(&mut miner, 3).await;
    let z = miner.orders[0].z;
    // The same again.
    let again = miner.hash_from(0, z..=z + 2);
    miner.input(Input::ShareFound(again)).await;
    world.daemon.wait_event("share_refused", WITHIN).unwrap();
    let after = read(&address);
    assert_eq!(after["tutti_shares_total"], 3.0);
    assert_eq!(
        after["tutti_work_hashes_total"],
        3.0 * f64::powi(2.0, i32::from(z))
    );
    assert_eq!(after["tutti_shares_refused_total{code=\"duplicate\"}"], 1.0);
    assert!(after["tutti_rounds_total{kind=\"present\"}"] >= 1.0);
    assert_eq!(
        after["tutti_round_seconds_count"],
        after
            .iter()
            .filter(|(name, _)| is_signed(name))
            .map(|(_, count)| count)
            .sum::<f64>()
    );
    assert!(after["tutti_flush_seconds_count"] >= 1.0);
    assert_eq!(
        (after["tutti_participants"], after["tutti_signers"]),
        (1.0, 2.0)
    );
    // The operator's, and the miner's.
    assert_eq!(after["tutti_payees"], 2.0);
    let height = f64::from(world.node.height().unwrap());
    assert_eq!(after["tutti_template_height"], height + 1.0);

    miner
        .input(Input::ShareFound(miner.hash(14..=u8::MAX)))
        .await;
    world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    let found = read(&address);
    assert_eq!(found["tutti_blocks_total{fate=\"found\"}"], 1.0);
    assert_eq!(found["tutti_blocks_total{fate=\"accepted\"}"], 1.0);

    for request in ["GET /", "POST /metrics", "GET /metrics/more"] {
        assert_eq!(get(&address, request).0, "HTTP/1.1 404 Not Found");
    }
}

fn is_signed(name: &str) -> bool {
    name.starts_with("tutti_rounds_total") && !name.contains("direct")
}
