//! Nodes behind NATs: the laboratory's types, in worlds of the production core and the production machines.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Outcome};
use kad_net::nat::model::{KINDS, Kind};
use kad_sim::nat::{Front, Role, RoleChoice, meets_directly};
use kad_sim::{Links, Site, World};

/// Half a minute and a bit: nobody is introduced twice in that time.
const A_WHILE: Duration = Duration::from_secs(40);

const fn behind(kind: Kind) -> Front {
    let forwarded = false;
    Front { kind, forwarded }
}

/// A world with so many servers, which are servers because their operators say so.
fn servers(count: usize, seed: u64) -> World {
    let links = Links {
        connections: Some(128),
        ..Links::default()
    };
    let mut world = World::new(seed, links);
    for _ in 0..count {
        let number = add(&mut world, Front::OPEN, RoleChoice::Server);
        world.enter_through(number);
        world.join(number);
        world.run_for(Duration::from_secs(1));
    }
    world.run_for(Duration::from_secs(60));
    world
}

fn add(world: &mut World, front: Front, choice: RoleChoice) -> usize {
    let mut config = Config::default();
    config.read_only = true;
    let id = world.dice().key().to_node_id();
    let number = world.add(id, Site::Scattered, &Arc::new(config));
    world.settle(number, front, choice);
    number
}

/// A node that has its address checked before it joins.
fn join(world: &mut World, front: Front) -> usize {
    let number = add(world, front, RoleChoice::Auto);
    world.join_after(number, 4, Duration::from_secs(90));
    world.run_for(Duration::from_secs(5));
    number
}

fn answers(world: &mut World, by: usize, to: usize) -> bool {
    let contact = world.contact(to);
    matches!(world.ask(by, Command::Ping { contact }).0, Outcome::Pong { .. })
}

#[test]
fn only_nodes_that_strangers_reach_serve_after_five_minutes() {
    let mut world = servers(40, 1);
    let mut nodes = Vec::new();
    for kind in KINDS {
        for forwarded in [false, true] {
            nodes.push(join(&mut world, Front { kind, forwarded }));
        }
    }
    // One that has talked to all who could probe it: its NAT lets them in, and that proves nothing.
    let met = add(&mut world, behind(Kind::Addr), RoleChoice::Auto);
    world.join(met);
    nodes.push(met);
    world.run_for(Duration::from_secs(300));
    for node in nodes {
        let front = world.front(node);
        let is_server = world.role(node) == Role::Server;
        assert_eq!(is_server, front.admits_strangers(), "{front:?}");
        assert_eq!(world.serving().contains(world.contact(node).id), is_server);
        // Whoever is heard and does not serve has places at relays.
        let places = if is_server || front.kind == Kind::Block {
            0
        } else {
            3
        };
        assert_eq!(world.relays_of(node).len(), places, "{front:?}");
    }
}

#[test]
fn each_pair_of_nats_connects_as_in_the_laboratory() {
    let mut world = servers(30, 2);
    let sides = [(); 2].map(|()| KINDS.map(|kind| join(&mut world, behind(kind))));
    world.run_for(Duration::from_secs(300));
    for one in sides[0] {
        for other in sides[1] {
            let meeting = world.connect(one, other);
            world.run_for(A_WHILE);
            let (fronts, met) = ((world.front(one), world.front(other)), &world.meetings()[meeting]);
            let is_blocked = [fronts.0, fronts.1].contains(&behind(Kind::Block));
            assert_eq!(met.first_byte.is_none(), is_blocked, "{fronts:?}: {met:?}");
            assert_eq!(
                met.direct.is_some(),
                meets_directly(fronts.0, fronts.1),
                "{fronts:?}: {met:?}"
            );
            assert!(
                met.direct
                    .is_none_or(|at| at.since(met.began) < Duration::from_secs(5))
            );
        }
    }
}

#[test]
fn a_request_gets_in_only_where_the_nat_has_a_hole_for_it() {
    let mut world = servers(1, 3);
    let hidden = add(&mut world, behind(Kind::Cone), RoleChoice::Server);
    assert!(!answers(&mut world, 0, hidden), "nobody has asked for it");
    assert!(answers(&mut world, hidden, 0));
    assert!(answers(&mut world, 0, hidden), "there is a hole now");
    // The last round of upkeep is over after seven minutes, and the next one is far.
    world.run_for(Duration::from_secs(800));
    assert!(!answers(&mut world, 0, hidden), "it has closed again");
    assert!(answers(&mut world, hidden, 0) && answers(&mut world, 0, hidden));
}

#[test]
fn a_node_that_loses_its_relays_has_others_within_two_minutes() {
    let mut world = servers(30, 4);
    let hidden = join(&mut world, behind(Kind::Sym));
    world.run_for(Duration::from_secs(200));
    let before = world.relays_of(hidden);
    assert_eq!(before.len(), 3);
    before.iter().for_each(|&relay| world.kill(relay));
    world.run_for(Duration::from_secs(120));
    let after = world.relays_of(hidden);
    assert!(
        after.len() == 3 && after.iter().all(|relay| !before.contains(relay)),
        "{before:?} {after:?}"
    );
}

#[test]
fn a_server_whose_router_lets_nobody_in_any_more_finds_out_and_is_in_no_table() {
    for told in [true, false] {
        let mut world = servers(40, 5);
        let node = join(&mut world, Front::OPEN);
        world.run_for(Duration::from_secs(400));
        assert_eq!(world.role(node), Role::Server);
        let id = world.contact(node).id;
        let known = |world: &World| {
            let tables = (0..40).filter_map(|number| world.machine(number));
            tables.filter(|machine| machine.table().get(id).is_some()).count()
        };
        assert!(known(&world) >= 10);
        world.move_behind(node, behind(Kind::Cone), told);
        // Where everybody is known there are few strangers, and those who could help are met once an hour.
        world.run_for(Duration::from_secs(if told { 30 } else { 4 * 3600 }));
        assert_eq!(world.role(node), Role::Client, "told: {told}");
        world.run_for(Duration::from_secs(2 * 3600));
        assert_eq!(known(&world), 0, "told: {told}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_behind_nats_too() {
    let run = |seed| {
        let mut world = servers(20, seed);
        let nodes = KINDS.map(|kind| join(&mut world, behind(kind)));
        world.run_for(Duration::from_secs(120));
        world.connect(nodes[2], nodes[3]);
        world.run_for(A_WHILE);
        (world.trace().hash(), world.meetings().to_vec())
    };
    let first = run(6);
    assert_eq!(first, run(6));
    assert_ne!(first.0, run(7).0);
}
