//! Dialling on hearsay is rationed.
//!
//! Whoever answers a lookup names addresses, and a node that dialled them all could be aimed at a victim: a thousand
//! made-up ids at one address are a thousand handshakes, from every node that asked. So few unproven addresses of one
//! host, and of one site, are dialled at a time, and none while several there were found dead. Contacts of the table
//! have proven their address and are not counted. An address may name several hosts, as of both families; each of them
//! counts, or the victim would be named second. Outside of global scope, where addresses have no groups, nothing is
//! rationed.

use super::Kademlia;
use crate::{Address, AddressGroups, Contact, Now};

/// Unproven contacts of one host that are dialled at a time: people run a few nodes on one machine.
const MAX_DIALS_PER_HOST: usize = 4;
/// Unproven contacts of one site (IPv4 /24, IPv6 /48) that are dialled at a time.
const MAX_DIALS_PER_SITE: usize = 16;
/// Contacts of one host that may have been found dead within [`Config::shun`](crate::Config::shun).
const MAX_DEAD_PER_HOST: usize = 5;
/// Contacts of one site that may have been found dead within that time.
const MAX_DEAD_PER_SITE: usize = 20;

impl<A: Address> Kademlia<A> {
    /// Whether a contact may be asked: it has proven its address, or its host and its site have not used up their
    /// rations.
    pub(super) fn may_dial(&self, now: Now, contact: &Contact<A>) -> bool {
        if self.has_proven(contact) {
            return true;
        }
        let mut hosts = contact.address.all_groups().into_iter().flatten();
        hosts.all(|groups| self.may_dial_host(now, &groups))
    }

    fn may_dial_host(&self, now: Now, groups: &AddressGroups) -> bool {
        let within = |group: fn(&AddressGroups) -> u64, dials: usize, dead: usize| {
            let same = |address: &A| {
                let mut others = address.all_groups().into_iter().flatten();
                others.any(|other| group(&other) == group(groups))
            };
            let unproven = |contact: &Contact<A>| same(&contact.address) && !self.has_proven(contact);
            let dialling = self
                .flights
                .iter()
                .filter(|(_, flight)| unproven(&flight.contact))
                .count();
            dialling < dials && self.shunned.count(same, now.monotonic) < dead
        };
        within(|groups| groups.host, MAX_DIALS_PER_HOST, MAX_DEAD_PER_HOST)
            && within(|groups| groups.narrow, MAX_DIALS_PER_SITE, MAX_DEAD_PER_SITE)
    }

    /// Whether a contact of the table has answered at this address.
    pub(super) fn has_proven(&self, contact: &Contact<A>) -> bool {
        self.table
            .get(contact.id)
            .is_some_and(|entry| entry.contact.address == contact.address)
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::SocketAddr;

    use super::*;
    use crate::{
        Command, Config, Duration, Event, Input, Instant, Key, NodeId, Outbox, Output, QueryId, Request,
        RequestId, Response,
    };

    const VICTIM: [u8; 4] = [198, 18, 0, 1];

    fn now(millis: u64) -> Now {
        Now {
            monotonic: Instant::ZERO + Duration::from_millis(millis),
            ..Now::default()
        }
    }

    fn contact(n: u64, address: impl Into<SocketAddr>) -> Contact<SocketAddr> {
        Contact::new(NodeId::from_limbs([n << 32, 0, 0, 0]), address.into())
    }

    /// A machine that looks something up and was told of these contacts by the only one it knew.
    fn told(liars: Vec<Contact<SocketAddr>>) -> (Kademlia<SocketAddr>, Outbox<SocketAddr>) {
        told_by(contact(1 << 20, ([203, 0, 113, 1], 4000)), liars)
    }

    fn told_by<A: Address>(teller: Contact<A>, liars: Vec<Contact<A>>) -> (Kademlia<A>, Outbox<A>) {
        let mut machine = Kademlia::new(NodeId::default(), Arc::new(Config::default()), 1, now(0));
        let mut out = Outbox::new();
        let contacts = vec![teller];
        machine.handle(
            now(0),
            Input::Command {
                query: QueryId(1),
                command: Command::Bootstrap { contacts },
            },
            &mut out,
        );
        let Some(Output::Request { id, .. }) = out.pop() else {
            panic!("nobody is asked")
        };
        let response = Response::Nodes {
            closer: liars,
            card: None,
        };
        machine.handle(
            now(1),
            Input::Response {
                id,
                response,
                rtt: None,
            },
            &mut out,
        );
        (machine, out)
    }

    fn dialled(out: &mut Outbox<SocketAddr>) -> Vec<RequestId> {
        let mut dialled = Vec::new();
        while let Some(output) = out.pop() {
            match output {
                Output::Request { id, to, .. } if to.address.ip() == SocketAddr::from((VICTIM, 0)).ip() => {
                    dialled.push(id);
                }
                _ => {}
            }
        }
        dialled
    }

    #[test]
    fn an_answer_cannot_aim_a_node_at_a_host() {
        let liars = (1..=30).map(|n| contact(n, (VICTIM, 2000 + n as u16))).collect();
        let (mut machine, mut out) = told(liars);
        let mut all = 0;
        for round in 1..50 {
            let dials = dialled(&mut out);
            assert!(dials.len() <= MAX_DIALS_PER_HOST);
            all += dials.len();
            for id in dials {
                machine.handle(
                    now(round),
                    Input::Failure {
                        id,
                        failure: crate::Failure::Unreachable,
                    },
                    &mut out,
                );
            }
        }
        assert!(
            (1..=MAX_DEAD_PER_HOST + MAX_DIALS_PER_HOST).contains(&all),
            "{all} dials"
        );
        assert!(machine.stats().rationed >= 20);
        // The same again within two minutes: nothing at all.
        let command = Command::FindNode {
            target: Key::default(),
        };
        machine.handle(
            now(1000),
            Input::Command {
                query: QueryId(2),
                command,
            },
            &mut out,
        );
        let asked = out.iter().find_map(|output| match output {
            Output::Request {
                id,
                request: Request::FindNode { .. },
                ..
            } => Some(*id),
            _ => None,
        });
        let closer = (31..=60).map(|n| contact(n, (VICTIM, 2000 + n as u16))).collect();
        let answer = Input::Response {
            id: asked.expect("the table is not empty"),
            response: Response::Nodes { closer, card: None },
            rtt: None,
        };
        machine.handle(now(1001), answer, &mut out);
        let over = |output: &Output<_>| {
            matches!(
                output,
                Output::Event(Event::QueryFinished {
                    query: QueryId(2),
                    ..
                })
            )
        };
        assert!(out.iter().any(over), "a lookup that may ask nobody ends");
        assert_eq!(dialled(&mut out), []);
    }

    /// A node of both families.
    #[derive(Debug, Clone, PartialEq)]
    struct Both(SocketAddr, SocketAddr);

    impl Address for Both {
        fn groups(&self) -> Option<AddressGroups> {
            self.0.groups()
        }

        fn all_groups(&self) -> [Option<AddressGroups>; crate::MAX_HOSTS] {
            [self.0.groups(), self.1.groups(), None, None]
        }
    }

    fn both(n: u64, first: u8, second: u16) -> Both {
        let here = SocketAddr::from(([198, 19, first, n as u8], 4000));
        Both(
            here,
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], second)),
        )
    }

    #[test]
    fn a_victim_that_is_named_second_is_dialled_as_rarely_as_one_that_is_named_first() {
        let id = |n: u64| NodeId::from_limbs([n << 32, 0, 0, 0]);
        let liars = (1..=30).map(|n| Contact::new(id(n), both(n, n as u8, 2000 + n as u16)));
        let (mut machine, mut out) = told_by(Contact::new(id(1 << 20), both(200, 200, 1)), liars.collect());
        let mut all = 0;
        for round in 1..50 {
            let mut dials = Vec::new();
            while let Some(output) = out.pop() {
                if let Output::Request { id: request, to, .. } = output
                    && to.id != id(1 << 20)
                {
                    dials.push(request);
                }
            }
            assert!(dials.len() <= MAX_DIALS_PER_HOST);
            all += dials.len();
            for id in dials {
                let failure = crate::Failure::Unreachable;
                machine.handle(now(round), Input::Failure { id, failure }, &mut out);
            }
        }
        let most = MAX_DEAD_PER_HOST + MAX_DIALS_PER_HOST;
        assert!((1..=most).contains(&all), "{all} dials");
        assert!(machine.stats().rationed >= 20);
    }

    #[test]
    fn what_a_peer_has_not_proven_of_its_address_is_not_kept_and_nobody_is_told() {
        let id = |n: u64| NodeId::from_limbs([n << 32, 0, 0, 0]);
        let liar = Contact::new(id(1), both(1, 1, 2001));
        let (mut machine, mut out) =
            told_by(Contact::new(id(1 << 20), both(200, 200, 1)), vec![liar.clone()]);
        let asked = out.iter().find_map(|output| match output {
            Output::Request { id, to, .. } if to.id == liar.id => Some(*id),
            _ => None,
        });
        let asked = asked.expect("it is asked");
        let proven = Both(liar.address.0, liar.address.0);
        let input = Input::Proven {
            id: asked,
            address: proven.clone(),
        };
        machine.handle(now(2), input, &mut out);
        let answer = Input::Response {
            id: asked,
            response: Response::Nodes {
                closer: Vec::new(),
                card: None,
            },
            rtt: None,
        };
        machine.handle(now(3), answer, &mut out);
        assert_eq!(machine.table().get(liar.id).unwrap().contact.address, proven);
        // Of a request that is over nothing is proven.
        let late = Input::Proven {
            id: asked,
            address: liar.address,
        };
        machine.handle(now(4), late, &mut out);
        assert_eq!(machine.table().get(liar.id).unwrap().contact.address, proven);
    }

    #[test]
    fn private_networks_are_not_rationed() {
        let liars = (1..=30)
            .map(|n| contact(n, ([10, 0, 0, 1], 2000 + n as u16)))
            .collect();
        let (machine, _) = told(liars);
        assert_eq!(machine.stats().rationed, 0);
    }
}
