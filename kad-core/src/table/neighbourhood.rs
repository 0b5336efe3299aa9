//! The neighbourhood: the contacts nearest to the own id, kept whole.
//!
//! A node answers for its own region: it is asked who the holders of a key near it are, it is one of them, and it hands
//! its records on to the others. So it must know its k nearest, all of them. Plain buckets do not see to that. The k
//! nearest fill the deepest buckets and a part of the one at the edge, which may have more members in the network than
//! places; whoever came first keeps those. Of the nodes of IPFS, 61 % knew all of their 20 nearest in 2022.
//!
//! The paper keeps "all valid contacts in a subtree of size at least k nodes" and splits further buckets for it
//! (section 2.4); S/Kademlia keeps a list of siblings beside the buckets. Here it is one rule at the door. A contact
//! that is one of the [`neighbourhood`](super::TableConfig::neighbourhood) nearest of all in the table is a
//! *neighbour*. A newcomer that would be one enters even if its bucket is full:
//!
//! - It takes the place of the contact of its bucket that is farthest from the own id and no neighbour; of one that
//!   failed lately, if there is one. That one waits for the next place.
//! - Where all of the bucket are neighbours, the bucket grows. It then has neighbours only, so no bucket is larger than
//!   its configured size or the neighbourhood, whichever is larger. With the defaults, both are k, none ever grows.
//!
//! What holds at any time: a contact that has answered and was not refused is in the table, unless it has failed or was
//! removed since, or as many contacts as the neighbourhood counts were nearer at some moment since. So while nobody
//! leaves, the table has exactly the nearest of all that ever answered. When a neighbour leaves, the one that moves up
//! may be unknown until it asks us or a refresh finds it; a neighbourhood somewhat larger than k knows it already.
//!
//! Puzzle and groups are asked for before this rule: nearness buys no way around them.

use super::RoutingTable;
use crate::{Address, Distance, NodeId};

impl<A: Address> RoutingTable<A> {
    /// Whether a contact of this bucket is a neighbour, or would be one if it were in the table.
    pub(super) fn is_neighbour(&self, index: u32, id: NodeId) -> bool {
        let neighbourhood = self.config.neighbourhood;
        self.in_nearer_buckets(index) < neighbourhood && self.nearer(index, self.distance(id)) < neighbourhood
    }

    /// The place in its bucket that a newcomer takes that will be a neighbour; `None` if all who are there are
    /// neighbours, even beside the newcomer.
    pub(super) fn displaced_by(&self, index: u32, newcomer: NodeId) -> Option<usize> {
        let newcomer = self.distance(newcomer);
        let farthest = |flagged: bool| {
            let places = self.live.bucket(index).iter().enumerate();
            places
                .filter(|(_, known)| !flagged || known.failures() > 0)
                .map(|(place, known)| (self.distance(known.contact.id), place))
                .max()
                .filter(|&(distance, _)| {
                    let nearer = self.nearer(index, distance) + usize::from(newcomer < distance);
                    nearer >= self.config.neighbourhood
                })
        };
        let (_, place) = farthest(true).or_else(|| farthest(false))?;
        Some(place)
    }

    /// Contacts that are nearer than all of a bucket.
    pub(super) fn in_nearer_buckets(&self, index: u32) -> usize {
        self.live.len() - self.live.range(index).end
    }

    /// Contacts that are nearer than this distance, which lies in this bucket.
    fn nearer(&self, index: u32, distance: Distance) -> usize {
        let bucket = self.live.bucket(index).iter();
        let nearer = bucket.filter(|known| self.distance(known.contact.id) < distance);
        self.in_nearer_buckets(index) + nearer.count()
    }
}
