//! Contacts in tables that nobody reaches.

use std::collections::BTreeMap;

use kad_core::{Duration, Instant};
use kad_net::nat::model::Kind;

use crate::World;
use crate::report::{Report, Row, Target};

/// Between two looks at all tables.
const EVERY: Duration = Duration::from_secs(60);

/// All tables, looked through from time to time.
#[derive(Default)]
pub(super) struct Watch {
    /// Whose table has whom, since when: contacts that strangers do not reach, whatever those take themselves for.
    bad: BTreeMap<(u32, u32), Instant>,
    longest: Duration,
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
                let since = before.get(&pair).copied().unwrap_or(now);
                self.longest = self.longest.max(now.since(since));
                self.bad.insert(pair, since);
            }
        }
    }

    /// The share of contacts that nobody reached when it last looked, in percent.
    pub(super) fn share(&self) -> f64 {
        100.0 * self.bad.len() as f64 / self.contacts as f64
    }

    pub(super) fn tell(&self, report: &mut Report, refresh: Duration) {
        let minutes = |span: Duration| span.as_secs_f64() / 60.0;
        let row = Row::new(
            "lost: the longest that a table kept one",
            "min",
            minutes(self.longest),
        );
        report.push(row.target(Target::AtMost(minutes(refresh + 2 * EVERY))));
        let row = Row::new(
            "lost: contacts that nobody reaches, in the end",
            "%",
            self.share(),
        );
        report.push(row.target(Target::AtMost(0.0)));
    }
}
