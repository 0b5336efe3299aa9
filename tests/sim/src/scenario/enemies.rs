//! Who turns against the network, and how.

use kad_core::{Duration, Key, NodeId};

use super::{Group, Kind, Members, Near, Scenario};
use crate::adversary::{Adversary, Flooding, Lying, Silent};
use crate::{Site, World};

/// Between two sybils that join.
const SYBIL_PAUSE: Duration = Duration::from_millis(100);

/// Nodes turn into adversaries: some that are there, some that join for it.
pub(super) fn turn(world: &mut World, scenario: &Scenario, first_value: Option<Key>) {
    let honest: Vec<usize> = (0..world.len())
        .filter(|&node| world.machine(node).is_some())
        .collect();
    let mut shuffled = honest.clone();
    world.dice().shuffle(&mut shuffled);
    let mut groups: Vec<(&Group, Vec<usize>)> = Vec::new();
    for group in &scenario.adversaries {
        let members = match group.members {
            Members::Share(share) => {
                let turned = (share * honest.len() as f64).round() as usize;
                // Somebody is left to ask.
                let turned = turned.min(shuffled.len().saturating_sub(1));
                shuffled.split_off(shuffled.len() - turned)
            }
            Members::Sybils { count, near, sites } => {
                sybils(world, scenario, first_value, (count, near, sites))
            }
        };
        groups.push((group, members));
    }
    let has_sybils = |group: &Group| matches!(group.members, Members::Sybils { .. });
    if scenario.adversaries.iter().any(has_sybils) {
        world.run_for(scenario.settle);
    }
    for (group, members) in groups {
        let adversary = adversary(world, group, &members, &shuffled);
        world.corrupt(&members, adversary);
    }
}

/// Nodes that join to turn: all over the place, or nearer to a key than anybody honest.
fn sybils(
    world: &mut World,
    scenario: &Scenario,
    first_value: Option<Key>,
    (count, near, sites): (usize, Near, u8),
) -> Vec<usize> {
    let key = match near {
        Near::Anywhere => None,
        Near::Key(key) => Some(key),
        Near::FirstValue => first_value,
    };
    let nearest = key.and_then(|key| {
        let nearest = world.serving().closest(key, 1);
        nearest
            .first()
            .map(|nearest| nearest.id.distance(key).leading_zeros())
    });
    let mut members = Vec::new();
    for nth in 0..count {
        let id = match (key, nearest) {
            // The first bit that the nearest honest node does not share with the key, and those before it, are the
            // key's.
            (Some(key), Some(shared)) => beside(world, key, shared + 1),
            _ => world.dice().key().to_node_id(),
        };
        let site = match sites {
            0 => scenario.site,
            sites => Site::Shared((nth % usize::from(sites)) as u8),
        };
        let number = world.add(id, site, &scenario.config);
        world.join(number);
        world.run_for(SYBIL_PAUSE);
        members.push(number);
    }
    members
}

/// A random id that shares so many leading bits with a key.
fn beside(world: &mut World, key: Key, shared: u32) -> NodeId {
    let (mut limbs, random) = (key.to_limbs(), world.dice().key().to_limbs());
    for (place, (limb, random)) in limbs.iter_mut().zip(random).enumerate() {
        let kept = shared.saturating_sub(64 * place as u32).min(64);
        let free = u64::MAX.checked_shr(kept).unwrap_or(0);
        *limb = *limb & !free | random & free;
    }
    NodeId::from_limbs(limbs)
}

fn adversary(world: &mut World, group: &Group, members: &[usize], honest: &[usize]) -> Box<dyn Adversary> {
    match group.kind {
        Kind::Silent => Box::new(Silent),
        Kind::Lying => Box::new(Lying { told: group.told }),
        Kind::Flooding => {
            let mut victims = honest.to_vec();
            world.dice().shuffle(&mut victims);
            victims.truncate(group.victims);
            let contacts = |numbers: &[usize]| numbers.iter().map(|&number| world.contact(number)).collect();
            Box::new(Flooding::new(contacts(&victims), contacts(members), group.rate))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::{Growth, Links};

    #[test]
    fn sybils_are_nearer_to_the_first_value_than_anybody_honest() {
        let text = "[network]\nnodes = 100\nsettle = \"1m\"\n[[adversaries]]\nkind = \"silent\"\ncount = 30\nnear = \
                    \"first-value\"\n[load]\nvalues = 1\ngets = 0.01\nduration = \"2m\"\n";
        let scenario = Scenario::parse(Path::new("x.toml"), text).expect("it is a scenario");
        let mut world = World::new(1, scenario.links);
        let key = world.dice().key();
        world.grow(
            100,
            Site::Private,
            &Arc::clone(&scenario.config),
            Growth::default(),
        );
        turn(&mut world, &scenario, Some(key));
        assert_eq!((world.serving().len(), world.colluders().len()), (100, 30));
        let nearest = world.serving().closest(key, 1)[0].id.distance(key);
        assert!(
            world
                .colluders()
                .iter()
                .all(|sybil| sybil.id.distance(key) < nearest)
        );
        // They joined as anybody does, so others know them.
        let known = |node: usize| {
            let table = world.machine(node).expect("nobody goes").table();
            table
                .contacts()
                .filter(|entry| world.colluders().contains(entry.contact.id))
                .count()
        };
        assert!((0..100).map(known).sum::<usize>() > 100);
    }

    #[test]
    fn ids_beside_a_key_share_what_they_should() {
        let mut world = World::new(7, Links::quick());
        for shared in [0, 1, 13, 63, 64, 65, 128, 255] {
            let key = world.dice().key();
            let ids: Vec<_> = (0..200).map(|_| beside(&mut world, key, shared)).collect();
            let zeros = ids.iter().map(|id| id.distance(key).leading_zeros());
            // Of 200 none that shares no more than it must would be a wonder.
            assert_eq!(zeros.min(), Some(shared));
        }
    }
}
