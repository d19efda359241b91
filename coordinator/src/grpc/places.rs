//! Places for those who read the ledger: so many together, and so many from one address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::status;

/// Who is there, by network.
type Taken = BTreeMap<IpAddr, usize>;

/// Places of one kind.
pub(super) struct Places {
    what: &'static str,
    total: usize,
    per_address: usize,
    taken: watch::Sender<Taken>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    /// So many places for those who `what`.
    pub(super) fn new(what: &'static str, total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            what,
            total,
            per_address,
            taken: watch::Sender::new(Taken::new()),
        })
    }

    /// Takes a place for this address.
    pub(super) fn take(self: &Arc<Self>, address: Option<SocketAddr>) -> Result<Place, Status> {
        let network = address.map_or(Ipv6Addr::UNSPECIFIED.into(), |at| network(at.ip()));
        let mut refused = None;
        self.taken.send_if_modified(|taken| {
            let here = taken.get(&network).copied().unwrap_or_default();
            let all = taken
                .values()
                .fold(0, |sum: usize, n| sum.saturating_add(*n));
            if all >= self.total {
                refused = Some((RejectCode::PoolFull, self.total, "at once"));
            } else if here >= self.per_address {
                refused = Some((
                    RejectCode::RateLimited,
                    self.per_address,
                    "from one address",
                ));
            } else {
                taken.insert(network, here.saturating_add(1));
            }
            false
        });
        match refused {
            None => Ok(Place {
                places: self.clone(),
                network,
            }),
            Some((code, limit, of)) => {
                let what = self.what;
                let detail = format!("at most {limit} may {what} {of}; try again later");
                Err(status(&Reject { code, detail }))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.send_if_modified(|taken| {
            if let Some(here) = taken.get_mut(&self.network) {
                *here = here.saturating_sub(1);
                if *here == 0 {
                    taken.remove(&self.network);
                }
            }
            false
        });
    }
}

/// An IPv6 customer has at least a /64 of addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_proto::wire::reject_code;

    fn at(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = Places::new("follow", 3, 2);
        let refused = |address| {
            let refused = places.take(at(address)).err();
            refused.and_then(|status| reject_code(&status))
        };
        let first = places.take(at("10.0.0.1")).ok();
        let second = places.take(at("::ffff:10.0.0.1")).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(refused("10.0.0.1"), Some(RejectCode::RateLimited));
        let third = places.take(at("2001:db8:1:2::3")).ok();
        assert_eq!(refused("10.0.0.2"), Some(RejectCode::PoolFull));
        drop(first);
        assert_eq!(refused("10.0.0.1"), None);
        drop((second, third));
        assert!(places.taken.borrow().is_empty());
    }

    #[test]
    fn neighbours_of_one_ipv6_network_are_one() {
        let places = Places::new("follow", 9, 1);
        let _first = places.take(at("2001:db8:1:2::3")).ok().unwrap();
        assert!(places.take(at("2001:db8:1:2:ffff::9")).is_err());
        assert!(places.take(at("2001:db8:1:3::3")).is_ok());
    }
}
