//! The Ledger service with nobody behind it who makes rounds.

use std::time::Duration;

use bitcoin::Network;
use tokio::sync::watch;
use tutti_coordinator::driver::Inbox;
use tutti_coordinator::grpc::{self, LedgerSide, Points};
use tutti_proto::id::{RoundSeq, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::wire::PoolInfo;

pub const WITHIN: Duration = Duration::from_secs(60);

/// Serves for as long as it is kept.
pub struct Served {
    pub address: String,
    _info: watch::Sender<PoolInfo>,
    _stop: watch::Sender<bool>,
}

pub async fn serve(side: LedgerSide) -> Served {
    let listener = grpc::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (inbox, incoming) = Inbox::new();
    let (info, infos) = watch::channel(PoolInfo {
        coordinator: IdentityKey::from_bytes(&mut [1; 32]).unwrap().identity(),
        network: Network::Regtest,
        tag: "test".into(),
        version: 1,
        participants: 0,
        signers: 0,
        round: RoundSeq(0),
        height: 0,
        window: WindowSeq(0),
        operator_fee_ppm: 0,
        lanes: 1,
        payees: 0,
        template_time: 0,
        params: None,
    });
    let (stop, stopping) = watch::channel(false);
    let points = Points::start(1).unwrap();
    tokio::spawn(async move {
        let _incoming = incoming;
        grpc::serve((listener, 1_000), inbox, infos, side, points, stopping).await
    });
    Served {
        address,
        _info: info,
        _stop: stop,
    }
}
