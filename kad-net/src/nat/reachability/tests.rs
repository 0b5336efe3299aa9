mod helpers;

use proptest::prelude::*;

use super::*;
use crate::nat::contacted::Contacted;

const US: &str = "198.51.100.7:4001";

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn id(n: u64) -> NodeId {
    NodeId::from_limbs([n, 0, 0, 0])
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How the world around a node answers its checks.
#[derive(Debug, Clone, Copy)]
struct World {
    /// Probes arrive.
    open: bool,
    /// The first so many helpers say that they passed a check on, and did not.
    liars: u64,
    /// Targets are hosts that the node was in touch with.
    met: bool,
}

const OPEN: World = World {
    open: true,
    liars: 0,
    met: false,
};
const SHUT: World = World { open: false, ..OPEN };

struct Node {
    machine: Reachability,
    /// What the socket knows.
    contacted: Contacted,
    now: Instant,
    checks: u64,
    roles: Vec<(Instant, Role)>,
}

impl Node {
    fn new(helpers: u64) -> Self {
        Self::with(ReachabilityConfig::default(), Scope::Global, false, helpers)
    }

    fn with(config: ReachabilityConfig, scope: Scope, alone: bool, helpers: u64) -> Self {
        let mut node = Self {
            machine: Reachability::new(config, scope, alone, &[3; 32]),
            contacted: Contacted::default(),
            now: at(0),
            checks: 0,
            roles: Vec::new(),
        };
        for n in 0..helpers {
            let ip = [20, n as u8, 0, 1].into();
            node.tell(Event::HelperKnown { helper: id(n), ip });
            node.send(ip);
        }
        node.tell(Event::Addresses(vec![socket(US)]));
        node
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        let roles = out.iter().filter_map(|action| match action {
            Action::Role(role) => Some((self.now, *role)),
            Action::Check { .. } | Action::Proven { .. } => None,
        });
        self.roles.extend(roles);
        out
    }

    fn send(&mut self, to: IpAddr) {
        self.contacted.note(self.now, to);
    }

    fn probe(&mut self, from: SocketAddr, nonce: [u8; 16]) -> Vec<Action> {
        let stranger = !self.contacted.contains(self.now, from.ip());
        self.tell(Event::Probed {
            from,
            nonce,
            stranger,
        })
    }

    fn call(&mut self, from: SocketAddr) -> Vec<Action> {
        let stranger = !self.contacted.contains(self.now, from.ip());
        self.tell(Event::Called { from, stranger })
    }

    /// Goes on until then, in a world that answers at once.
    fn run(&mut self, until: Instant, world: World) {
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            assert!(due >= self.now, "time goes back");
            self.now = due;
            let out = self.tell(Event::Timeout);
            assert!(
                self.machine.poll_timeout().is_none_or(|next| next > due),
                "a timeout does not go away"
            );
            for action in out {
                let Action::Check {
                    helper,
                    nonce,
                    address,
                } = action
                else {
                    continue;
                };
                self.checks += 1;
                assert_eq!(address, socket(US));
                self.tell(Event::Answered {
                    nonce,
                    passed_on: true,
                });
                if !world.open || helper < id(world.liars) {
                    continue;
                }
                let n = self.checks as u8;
                let from = SocketAddr::from(([30, n, 0, 1], 5000));
                if world.met {
                    self.send(from.ip());
                }
                self.probe(from, nonce);
            }
        }
        self.now = until;
    }
}

#[test]
fn a_node_that_strangers_reach_serves_after_it_held_for_a_minute() {
    let mut node = Node::new(4);
    assert_eq!(node.machine.role(), Role::Client);
    node.run(at(30), OPEN);
    assert_eq!(node.machine.reachable().collect::<Vec<_>>(), [socket(US)]);
    assert_eq!(node.machine.role(), Role::Client);
    node.run(at(120), OPEN);
    assert_eq!(node.machine.role(), Role::Server);
    let [(when, _)] = node.roles[..] else {
        panic!("{:?}", node.roles)
    };
    assert!(when >= at(60) && when <= at(90), "{when:?}");
}

#[test]
fn a_node_behind_a_nat_stays_a_client_and_asks_less_and_less() {
    let mut node = Node::new(4);
    node.run(at(180), SHUT);
    assert_eq!((node.machine.role(), &node.roles[..]), (Role::Client, &[][..]));
    let early = node.checks;
    assert!(early <= 8, "{early}");
    node.run(at(24 * 3600), SHUT);
    assert!(node.checks - early <= 5 * 26, "{}", node.checks);
    assert_eq!(node.roles, []);
}

#[test]
fn probes_from_hosts_that_were_contacted_prove_nothing() {
    let mut node = Node::new(4);
    node.run(at(3600), World { met: true, ..OPEN });
    assert_eq!(
        (node.machine.role(), node.machine.reachable().count()),
        (Role::Client, 0)
    );
    assert!(node.machine.void() > 3);
}

#[test]
fn a_target_beside_its_helper_and_a_caller_that_was_called_prove_nothing() {
    let mut node = Node::new(4);
    while node.checks < 30 {
        node.now = node.machine.poll_timeout().unwrap();
        for action in node.tell(Event::Timeout) {
            let Action::Check { helper, nonce, .. } = action else {
                continue;
            };
            node.checks += 1;
            let beside = [20, helper.to_key().to_limbs()[0] as u8, 0, 99];
            node.probe((beside, 5000).into(), nonce);
        }
    }
    assert_eq!(node.machine.void(), 30);
    for n in 0..4 {
        let from = SocketAddr::from(([20, n, 0, 1], 9));
        node.send(from.ip());
        node.call(from);
    }
    assert_eq!((node.machine.reachable().count(), node.machine.void()), (0, 34));
}

#[test]
fn only_helpers_that_see_the_address_in_question_are_asked() {
    let mut node = Node::new(0);
    let ip = "2001:db8:9::1".parse().unwrap();
    node.tell(Event::HelperKnown { helper: id(1), ip });
    node.run(at(60), OPEN);
    assert_eq!(node.checks, 0);
    node.tell(Event::Addresses(vec![socket("[2001:db8::7]:4001")]));
    node.now = node.machine.poll_timeout().unwrap();
    assert!(matches!(node.tell(Event::Timeout)[..], [Action::Check { .. }]));
}

#[test]
fn a_probe_that_nobody_waits_for_proves_nothing() {
    let mut node = Node::new(0);
    for n in 0..9 {
        node.probe(([30, n, 0, 1], 5000).into(), [n; 16]);
    }
    assert_eq!(node.machine.reachable().count(), 0);
}

#[test]
fn helpers_of_one_site_can_neither_lift_a_node_up_nor_put_it_down() {
    let mut node = Node::new(1);
    node.run(at(3600), OPEN);
    assert_eq!(
        node.machine.reachable().count(),
        0,
        "all proofs came through one helper"
    );

    let mut node = Node::new(3);
    node.run(at(120), OPEN);
    for n in 1..3 {
        node.tell(Event::HelperGone { helper: id(n) });
    }
    node.run(at(4 * 3600), World { liars: 1, ..OPEN });
    assert_eq!(
        node.machine.role(),
        Role::Server,
        "all silences came through one helper"
    );
    assert!(node.checks < 4 * 60, "{}", node.checks);
}

#[test]
fn a_few_helpers_that_lie_do_not_decide() {
    let mut node = Node::new(8);
    node.run(at(12 * 3600), World { liars: 1, ..OPEN });
    assert_eq!(
        node.roles.iter().map(|(_, role)| *role).collect::<Vec<_>>(),
        [Role::Server]
    );
}

#[test]
fn a_node_that_is_not_reached_any_more_only_asks_again() {
    let mut node = Node::new(4);
    node.run(at(200), OPEN);
    assert_eq!(node.machine.role(), Role::Server);
    node.run(at(200 + 6 * 60), SHUT);
    assert_eq!(node.machine.role(), Role::Client);
    node.run(at(4 * 3600), OPEN);
    assert_eq!(node.machine.role(), Role::Server);
}

#[test]
fn a_single_silence_changes_nothing() {
    let mut node = Node::new(4);
    node.run(at(200), OPEN);
    let before = node.checks;
    while node.checks == before {
        let due = node.machine.poll_timeout().unwrap();
        node.run(due, SHUT);
    }
    node.run(at(3600), OPEN);
    assert_eq!(node.roles.len(), 1);
}

#[test]
fn two_silences_change_nothing_and_the_third_does() {
    for silences in [2, 3] {
        let mut node = Node::new(4);
        node.run(at(200), OPEN);
        let before = node.checks;
        while node.checks < before + silences {
            let due = node.machine.poll_timeout().unwrap();
            node.run(due, SHUT);
        }
        // The last one is over, and the next check is not yet due.
        let due = node.machine.poll_timeout().unwrap();
        node.run(due, SHUT);
        assert_eq!(node.machine.reachable().count(), usize::from(silences < 3));
    }
}

#[test]
fn a_server_goes_on_while_there_is_another_way_in() {
    let mut node = Node::new(4);
    node.run(at(200), OPEN);
    node.tell(Event::Addresses(vec![socket(US), socket("[2001:db8::7]:4001")]));
    let before = node.checks;
    while node.checks < before + 2 {
        let due = node.machine.poll_timeout().unwrap();
        node.run(due, SHUT);
    }
    for n in 0..3 {
        let from = socket(&format!("[2001:db8:{n}99::1]:9"));
        node.call(from);
    }
    node.run(Instant::from_micros(node.now.as_micros() + 30_000_000), SHUT);
    assert_eq!(
        node.machine.reachable().collect::<Vec<_>>(),
        [socket("[2001:db8::7]:4001")]
    );
    assert_eq!(node.machine.role(), Role::Server);
    assert_eq!(node.roles.len(), 1);
}

#[test]
fn a_network_change_ends_the_role_at_once_and_it_is_proven_anew() {
    let mut node = Node::new(4);
    node.run(at(200), OPEN);
    let out = node.tell(Event::NetworkChanged);
    let lost = Action::Proven {
        address: socket(US),
        reachable: false,
    };
    assert_eq!(out, [lost, Action::Role(Role::Client)]);
    assert_eq!(node.machine.poll_timeout(), None);
    node.tell(Event::Addresses(vec![socket(US)]));
    node.run(at(400), OPEN);
    assert_eq!(node.machine.role(), Role::Server);
}

#[test]
fn strangers_that_call_prove_as_much_as_probes() {
    let mut node = Node::new(0);
    for n in 0..3 {
        assert_eq!(node.machine.reachable().count(), 0);
        node.call(socket(&format!("40.{n}.0.1:9")));
        node.call(socket(&format!("40.{n}.0.2:9")));
    }
    assert_eq!(node.machine.reachable().count(), 1);
    node.run(at(61), SHUT);
    assert_eq!(node.machine.role(), Role::Server);

    let mut node = Node::new(0);
    node.tell(Event::Addresses(vec![socket(US), socket("198.51.100.7:5000")]));
    for n in 0..9 {
        node.call(socket(&format!("40.{n}.0.1:9")));
    }
    assert_eq!(
        node.machine.reachable().count(),
        0,
        "nobody knows which of the two they called"
    );
}

#[test]
fn the_operator_and_the_first_node_need_no_proof() {
    let fixed = |role| {
        let config = ReachabilityConfig {
            role,
            ..ReachabilityConfig::default()
        };
        let mut node = Node::with(config, Scope::Global, false, 4);
        let first = node.machine.role();
        node.run(at(300), if role == RoleChoice::Client { OPEN } else { SHUT });
        (first, node.machine.role())
    };
    assert_eq!(fixed(RoleChoice::Client), (Role::Client, Role::Client));
    assert_eq!(fixed(RoleChoice::Server), (Role::Server, Role::Server));

    let mut alone = Node::with(ReachabilityConfig::default(), Scope::Global, true, 0);
    alone.run(at(3600), SHUT);
    assert_eq!(
        alone.machine.role(),
        Role::Server,
        "nobody has said anything else"
    );
    for n in 0..4 {
        alone.tell(Event::HelperKnown {
            helper: id(n),
            ip: [20, n as u8, 0, 1].into(),
        });
    }
    alone.run(at(7200), SHUT);
    assert_eq!(alone.machine.role(), Role::Client);

    let mut private = Node::with(ReachabilityConfig::default(), Scope::Any, false, 4);
    private.tell(Event::NetworkChanged);
    private.run(at(300), SHUT);
    assert_eq!(private.machine.role(), Role::Server);
}

#[test]
fn a_family_that_goes_away_costs_the_role_only_if_nothing_else_is_proven() {
    for (family, left) in [(Family::V6, Role::Server), (Family::V4, Role::Client)] {
        let mut node = Node::new(4);
        node.run(at(200), OPEN);
        assert_eq!(node.machine.role(), Role::Server);
        node.tell(Event::FamilyChanged(family));
        assert_eq!(node.machine.role(), left, "{family:?}");
    }
}

#[test]
fn an_address_that_is_proven_needs_no_votes_any_more() {
    let mut node = Node::new(4);
    node.run(at(200), OPEN);
    node.tell(Event::Addresses(vec![]));
    assert_eq!(
        (node.machine.role(), node.machine.reachable().count()),
        (Role::Server, 1)
    );
    node.run(at(900), SHUT);
    node.tell(Event::Addresses(vec![]));
    assert_eq!(
        (node.machine.role(), node.machine.poll_timeout()),
        (Role::Client, None)
    );
}

#[test]
fn neither_addresses_nor_helpers_grow_without_bound() {
    let mut node = Node::new(200);
    assert_eq!(node.machine.helpers.len(), MAX_HELPERS);
    let many = (2000..3000).map(|port| SocketAddr::from(([198, 51, 100, 7], port)));
    node.tell(Event::Addresses(many.collect()));
    assert_eq!(node.machine.addresses.len(), MAX_CHECKED);
    node.tell(Event::Addresses(vec![socket("10.0.0.1:4001")]));
    assert_eq!(node.machine.addresses.len(), 0);
}

proptest! {
    /// However the world turns: the role is that of an address that was proven and held, nobody is asked more often
    /// than they grant, and the same seed gives the same story.
    #[test]
    fn a_node_serves_only_while_strangers_reach_it(
        turns in prop::collection::vec((1u64..900, any::<bool>(), 0u64..3, any::<bool>()), 1..12),
    ) {
        let story = || {
            let mut node = Node::new(5);
            let mut end = 0;
            for &(secs, open, liars, met) in &turns {
                end += secs;
                node.run(at(end), World { open, liars, met });
            }
            node
        };
        let node = story();
        prop_assert_eq!(&node.roles, &story().roles);
        let serves = node.machine.role() == Role::Server;
        prop_assert!(!serves || node.machine.reachable().count() == 1);
        let mut before = (at(0), Role::Client);
        for &(when, role) in &node.roles {
            prop_assert!(role != before.1);
            if role == Role::Server {
                prop_assert!(when.since(before.0) >= Duration::from_secs(60));
            }
            before = (when, role);
        }
        if turns.iter().all(|(_, open, ..)| !open) {
            prop_assert_eq!(node.roles.len(), 0);
        }
    }
}
