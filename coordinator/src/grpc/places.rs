//! Places for those who read the ledger: so many together, and so many from one address. Strangers get
//! half of them at most: who is from where somebody has joined can always check what it is to sign.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;
use tutti_daemon::subnet::subnet;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::status;

/// Who is there, by network: all, and strangers.
type Taken = BTreeMap<IpAddr, (usize, usize)>;

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
    stranger: bool,
}

/// Networks from which somebody has joined, and how many.
#[derive(Debug, Default)]
pub(super) struct Residents(watch::Sender<BTreeMap<IpAddr, usize>>);

/// Somebody who has joined, until it is dropped.
pub(super) struct Resident {
    residents: Arc<Residents>,
    network: IpAddr,
}

impl Residents {
    /// Whether somebody has joined from there.
    pub(super) fn has(&self, address: Option<SocketAddr>) -> bool {
        self.0.borrow().contains_key(&of(address))
    }

    /// Somebody has joined.
    pub(super) fn enter(self: &Arc<Self>, address: Option<SocketAddr>) -> Resident {
        let network = of(address);
        self.0.send_if_modified(|here| {
            let here = here.entry(network).or_default();
            *here = here.saturating_add(1);
            false
        });
        Resident {
            residents: self.clone(),
            network,
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.residents.0.send_if_modified(|residents| {
            if let Some(here) = residents.get_mut(&self.network) {
                *here = here.saturating_sub(1);
                if *here == 0 {
                    residents.remove(&self.network);
                }
            }
            false
        });
    }
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

    /// Takes a place for this address; of a resident's network, or of a stranger.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
        resident: bool,
    ) -> Result<Place, Status> {
        let (network, stranger) = (of(address), !resident);
        let mut refused = None;
        self.taken.send_if_modified(|taken| {
            let here = taken.get(&network).copied().unwrap_or_default();
            let sum = |(all, strangers): (usize, usize), more: &(usize, usize)| {
                (all.saturating_add(more.0), strangers.saturating_add(more.1))
            };
            let (all, strangers) = taken.values().fold((0, 0), sum);
            let for_strangers = self.total.div_ceil(2);
            if all >= self.total {
                refused = Some((RejectCode::PoolFull, self.total, "at once"));
            } else if stranger && strangers >= for_strangers {
                let of = "at once from where nobody has joined";
                refused = Some((RejectCode::PoolFull, for_strangers, of));
            } else if here.0 >= self.per_address {
                refused = Some((
                    RejectCode::RateLimited,
                    self.per_address,
                    "from one address",
                ));
            } else {
                let strangers = here.1.saturating_add(usize::from(stranger));
                taken.insert(network, (here.0.saturating_add(1), strangers));
            }
            false
        });
        match refused {
            None => Ok(Place {
                places: self.clone(),
                network,
                stranger,
            }),
            Some((code, limit, of)) => {
                let what = self.what;
                let detail = format!("at most {limit} may {what} {of}; try again later");
                Err(status(&Reject { code, detail }))
            }
        }
    }
}

impl Place {
    /// Whether nobody has joined from where it was taken.
    pub(super) fn is_strangers(&self) -> bool {
        self.stranger
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.send_if_modified(|taken| {
            if let Some((all, strangers)) = taken.get_mut(&self.network) {
                *all = all.saturating_sub(1);
                *strangers = strangers.saturating_sub(usize::from(self.stranger));
                if *all == 0 {
                    taken.remove(&self.network);
                }
            }
            false
        });
    }
}

fn of(address: Option<SocketAddr>) -> IpAddr {
    address.map_or(Ipv6Addr::UNSPECIFIED.into(), |at| subnet(at.ip()))
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
            let refused = places.take(at(address), true).err();
            refused.and_then(|status| reject_code(&status))
        };
        let first = places.take(at("10.0.0.1"), true).ok();
        let second = places.take(at("::ffff:10.0.0.1"), true).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(refused("10.0.0.1"), Some(RejectCode::RateLimited));
        let third = places.take(at("2001:db8:1:2::3"), true).ok();
        assert_eq!(refused("10.0.0.2"), Some(RejectCode::PoolFull));
        drop(first);
        assert_eq!(refused("10.0.0.1"), None);
        drop((second, third));
        assert!(places.taken.borrow().is_empty());
    }

    #[test]
    fn neighbours_of_one_ipv6_network_are_one() {
        let places = Places::new("follow", 9, 1);
        let _first = places.take(at("2001:db8:1:2::3"), true).ok().unwrap();
        assert!(places.take(at("2001:db8:1:2:ffff::9"), true).is_err());
        assert!(places.take(at("2001:db8:1:3::3"), true).is_ok());
    }

    #[test]
    fn strangers_leave_half_of_the_places_to_where_somebody_has_joined() {
        let places = Places::new("follow", 5, 2);
        let residents = Arc::new(Residents::default());
        let take = |address: &str| {
            let taken = places.take(at(address), residents.has(at(address)));
            taken.map_err(|status| reject_code(&status))
        };
        let strangers: Vec<Place> = (1..=3)
            .map(|n| take(&format!("10.0.0.{n}")).ok().unwrap())
            .collect();
        assert_eq!(take("10.0.0.4").err(), Some(Some(RejectCode::PoolFull)));
        let joined = residents.enter(at("10.0.0.4"));
        let again = residents.enter(at("10.0.0.4"));
        let first = take("10.0.0.4").ok().unwrap();
        drop(joined);
        let _second = take("10.0.0.4").ok().unwrap();
        drop(first);
        drop(again);
        assert_eq!(take("10.0.0.4").err(), Some(Some(RejectCode::PoolFull)));
        drop(strangers);
        let _stranger = take("10.0.0.5").ok().unwrap();
    }
}
