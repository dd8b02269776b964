//! How many connections there are, over all shards: in all, and from each address.
//!
//! The kernel spreads a client's connections over the shards by chance, so no shard can keep a limit
//! alone, and asking somebody by mail before each accept would make a flood of connections everybody's
//! matter. So this is the one thing that shards share: it is locked when a connection begins and when
//! it ends, for a look into a small map, and never for a call.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Default)]
pub struct Tally {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    all: u32,
    /// Only addresses that have a connection.
    by_client: BTreeMap<IpAddr, u32>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    InAll,
    OfThisClient,
}

/// A connection's place; given back when dropped.
pub struct Place {
    tally: Tally,
    client: IpAddr,
}

impl Tally {
    pub fn enter(&self, client: IpAddr, all_max: u32, by_client_max: u32) -> Result<Place, Full> {
        let mut counts = self.counts();
        if counts.all >= all_max {
            return Err(Full::InAll);
        }
        let Counts { all, by_client } = &mut *counts;
        let own = by_client.entry(client).or_default();
        if *own >= by_client_max {
            if *own == 0 {
                by_client.remove(&client);
            }
            return Err(Full::OfThisClient);
        }
        *own += 1;
        *all += 1;
        Ok(Place { tally: self.clone(), client })
    }

    /// Who is connected, and how often.
    pub fn clients(&self) -> Vec<(IpAddr, u32)> {
        self.counts().by_client.iter().map(|(client, count)| (*client, *count)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // A shard that panics takes the daemon with it; until then these are still only numbers.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.tally.counts();
        counts.all -= 1;
        if let Some(own) = counts.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                counts.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_client_has_its_own_limit_and_all_of_them_have_one_together() {
        let tally = Tally::default();
        let enter = |last| tally.enter(client(last), 3, 2);
        let (first, second) = (enter(1).ok(), enter(1).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!(enter(1).err(), Some(Full::OfThisClient));
        let third = enter(2).ok();
        assert_eq!(enter(3).err(), Some(Full::InAll));
        assert_eq!(tally.clients(), [(client(1), 2), (client(2), 1)]);
        drop(third);
        drop(first);
        assert!(enter(3).is_ok(), "a place that was given back is free");
        assert_eq!(tally.clients(), [(client(1), 1)], "who is not connected is not remembered");
    }
}
