//! Contacts in tables that nobody reaches.

use std::collections::BTreeMap;

use kad_core::{Duration, Instant};
use kad_net::nat::model::Kind;

use super::at_scale;
use crate::World;
use crate::report::{Report, Row, Samples, Target};

/// Between two looks at all tables.
const EVERY: Duration = Duration::from_secs(60);

/// All tables, looked through from time to time.
#[derive(Default)]
pub(super) struct Watch {
    /// Whose table has whom, since when: contacts that strangers do not reach, whatever those take themselves for.
    bad: BTreeMap<(u32, u32), Instant>,
    /// How long those stayed that are gone, in minutes.
    stayed: Samples,
    /// The longest that one stayed after its owner had last heard of it.
    silent: Duration,
    /// Contacts of the last look.
    contacts: usize,
}

impl Watch {
    /// Runs the world, and looks once a minute.
    pub(super) fn run(&mut self, world: &mut World, span: Duration) {
        let until = world.now().monotonic + span;
        while world.now().monotonic < until {
            world.run_for(EVERY.min(until.since(world.now().monotonic)));
            self.look(world);
        }
    }

    pub(super) fn look(&mut self, world: &World) {
        let now = world.now().monotonic;
        let before = std::mem::take(&mut self.bad);
        self.contacts = 0;
        for owner in 0..world.len() {
            let Some(machine) = world
                .machine(owner)
                .filter(|_| world.front(owner).kind != Kind::Block)
            else {
                continue;
            };
            for entry in machine.table().contacts() {
                self.contacts += 1;
                let contact = entry.contact.address.number();
                if world.front(contact).admits_strangers() {
                    continue;
                }
                let pair = (owner as u32, contact as u32);
                self.silent = self.silent.max(now.since(entry.last_seen));
                self.bad.insert(pair, before.get(&pair).copied().unwrap_or(now));
            }
        }
        for (pair, since) in before {
            if !self.bad.contains_key(&pair) {
                self.stayed.push(now.since(since).as_secs_f64() / 60.0);
            }
        }
    }

    /// The share of contacts that nobody reached when it last looked, in percent.
    pub(super) fn share(&self) -> f64 {
        100.0 * self.bad.len() as f64 / self.contacts as f64
    }

    pub(super) fn tell(mut self, report: &mut Report, world: &World, refresh: Duration) {
        let row = |what: &str, unit, result| Row::new(format!("tables, servers lost: {what}"), unit, result);
        for (what, share) in [("p50", 0.5), ("p99", 0.99), ("the longest", 1.0)] {
            let what = format!("{what} of the time that one stayed");
            report.push(row(&what, "min", self.stayed.quantile(share)));
        }
        // Who is silent for nearly a refresh is asked, and fails twice before it is over.
        let most = refresh.as_secs_f64() / 60.0;
        let silent = self.silent.as_secs_f64() / 60.0;
        let longest = row("the longest after it was last heard of", "min", silent);
        report.push(at_scale(world, longest, Target::AtMost(most)));
        let end = row("contacts that nobody reaches, in the end", "%", self.share());
        report.push(at_scale(world, end, Target::AtMost(0.0)));
    }
}
