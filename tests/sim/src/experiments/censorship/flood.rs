//! A table flood: many ids from few subnets knock at one node, to be all that it knows (Marcus, Heilman and Goldberg
//! 2018).

use std::sync::Arc;

use kad_core::table::GroupLimits;
use kad_core::{Config, Contact, Duration, Key, NodeId};

use crate::adversary::Flooding;
use crate::experiments::Setup;
use crate::report::{Report, Row, Target};
use crate::{Dice, Growth, Links, Place, Site, World};

/// Ids of the attacker, as in the source.
const CROWD: usize = 272;
/// Subnets (/24) that they are in, four of them to a /16.
const SITES: u8 = 8;
/// Knocks at the victim in a second: each id knocks every half a minute.
const RATE: usize = 9;
/// How long the flood lasts before the table is read. What has not come in by then does not come in: the tables stand
/// still long before.
const SPAN: Duration = Duration::from_secs(3600);

/// Floods four victims, each in a network of its own.
pub(super) fn flood(setup: &Setup<'_>, report: &mut Report) {
    let nodes = (setup.nodes / 15).clamp(200, 1000);
    setup.progress.stage("table flood", 4);
    for (step, (limits, fresh)) in [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .enumerate()
    {
        let captured = capture(setup.seed, nodes, limits, fresh, report);
        let name = match fresh {
            true => "a node that starts",
            false => "a node that is up",
        };
        let limits_are = if limits { "on" } else { "off" };
        let mut share = Row::new(
            format!("flood of {name}, limits {limits_are}: share of its table"),
            "%",
            100.0 * captured.share,
        );
        if fresh {
            share = share.reference(95.0);
        }
        report.push(share);
        if limits {
            report.push(
                Row::new(
                    format!("flood of {name}, limits on: contacts captured"),
                    "contacts",
                    captured.contacts as f64,
                )
                .target(Target::AtMost(quota() as f64)),
            );
        }
        setup.progress.done(step as u64 + 1);
    }
}

struct Captured {
    contacts: usize,
    share: f64,
}

fn capture(seed: u64, nodes: usize, limits: bool, fresh: bool, report: &mut Report) -> Captured {
    let mut config = Config::default();
    if !limits {
        config.table.groups = GroupLimits::NONE;
    }
    let config = Arc::new(config);
    let mut world = World::new(seed, Links::quick());
    world.grow(nodes, Site::Scattered, &config, Growth::default());
    world.run_for(Duration::from_secs(600));
    let id = world.dice().key().to_node_id();
    let victim = world.add_down(id, Site::Scattered, &config);
    if !fresh {
        world.revive(victim);
        world.run_for(Duration::from_secs(600));
    }
    let victim_is = world.contact(victim);
    let members: Vec<_> = (0..CROWD)
        .map(|n| (ground_for(id, n, world.dice()), Site::Shared(n as u8 % SITES)))
        .collect();
    let first = world.len() as u32;
    let crowd: Vec<Contact<Place>> = members
        .iter()
        .zip(first..)
        .map(|(&(id, site), number)| Contact::new(id, Place::new(number, site)))
        .collect();
    world.add_adversary(&members, Box::new(Flooding::new(vec![victim_is], crowd, RATE)));
    if fresh {
        world.revive(victim);
    }
    world.run_for(SPAN);
    report.close(&world);
    let Some(table) = world.machine(victim).map(kad_core::Kademlia::table) else {
        return Captured {
            contacts: 0,
            share: f64::NAN,
        };
    };
    let contacts = table
        .contacts()
        .filter(|entry| world.colluders().contains(entry.contact.id))
        .count();
    Captured {
        contacts,
        share: contacts as f64 / table.len() as f64,
    }
}

/// The ids are spread evenly over the victim's first buckets, so that none has more than it takes: seventeen for each
/// of sixteen. Grinding the last of these costs 65,000 keys.
fn ground_for(victim: NodeId, n: usize, dice: &mut Dice) -> NodeId {
    let bucket = n as u32 % 16;
    let [first, second, third, fourth] = dice.key().to_limbs();
    let first = (first | 1 << 63) >> bucket;
    let distance = Key::default().distance(Key::from_limbs([first, second, third, fourth]));
    victim.to_key().at(distance).to_node_id()
}

/// The most contacts of the attacker that the limits let into a table.
fn quota() -> usize {
    let (limits, sites) = (GroupLimits::default(), usize::from(SITES));
    (limits.narrow_per_table * sites).min(limits.wide_per_table * sites.div_ceil(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_is_spread_over_sixteen_buckets() {
        let (mut dice, victim) = (Dice::new(4), NodeId::from_bytes([7; 32]));
        let mut buckets = [0; 17];
        for n in 0..CROWD {
            let id = ground_for(victim, n, &mut dice);
            buckets[victim.distance(id.to_key()).leading_zeros().min(16) as usize] += 1;
        }
        assert_eq!(buckets[..16], [17; 16]);
        assert_eq!(quota(), 60);
    }
}
