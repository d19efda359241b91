//! Places: so many together, and so many of them for one address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tutti_daemon::subnet::subnet;
use tutti_proto::reject::{Reject, RejectCode};

/// How many there are of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub total: usize,
    pub per_address: usize,
}

/// Places of one kind.
pub(super) struct Places {
    what: &'static str,
    limit: Limit,
    /// By network; nobody waits for a change.
    taken: watch::Sender<BTreeMap<IpAddr, usize>>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    /// So many places for those who `what`.
    pub(super) fn new(what: &'static str, limit: Limit) -> Arc<Self> {
        let taken = watch::Sender::default();
        Arc::new(Self { what, limit, taken })
    }

    pub(super) fn take(self: &Arc<Self>, address: SocketAddr) -> Result<Place, Reject> {
        let network = subnet(address.ip());
        let mut refused = None;
        self.taken.send_if_modified(|taken| {
            let all = taken
                .values()
                .fold(0, |all: usize, n| all.saturating_add(*n));
            let here = taken.get(&network).copied().unwrap_or(0);
            if all >= self.limit.total {
                refused = Some((RejectCode::PoolFull, self.limit.total, "at once"));
            } else if here >= self.limit.per_address {
                let limit = self.limit.per_address;
                refused = Some((RejectCode::RateLimited, limit, "from one address"));
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
                let detail = format!("busy: at most {limit} may {what} {of}; try again later");
                Err(Reject { code, detail })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left_and_no_address_has_all() {
        let limit = Limit {
            total: 3,
            per_address: 2,
        };
        let places = Places::new("download", limit);
        let take = |address: &str| {
            let address = SocketAddr::new(address.parse().unwrap(), 1);
            places.take(address).map_err(|reject| reject.code)
        };
        let first = take("2001:db8:1:2::3").ok().unwrap();
        let second = take("2001:db8:1:2:ffff::9").ok().unwrap();
        assert_eq!(take("2001:db8:1:2::3").err(), Some(RejectCode::RateLimited));
        let third = take("10.0.0.1").ok().unwrap();
        assert_eq!(take("10.0.0.2").err(), Some(RejectCode::PoolFull));
        drop(first);
        let fourth = take("10.0.0.2").ok().unwrap();
        drop((second, third, fourth));
        assert!(places.taken.borrow().is_empty());
    }
}
