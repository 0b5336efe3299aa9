//! Joining, leaving and coming back.

use super::*;
use crate::sessions::{Returns, SessionTrace};

/// How fast a network grows by nodes that join it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Joins in a second, as a share of those that are there already.
    pub share: f64,
    /// Never more joins in a second.
    pub most: f64,
}

impl Default for Growth {
    /// A tenth in a second, at most a thousand.
    fn default() -> Self {
        Self {
            share: 0.1,
            most: 1000.0,
        }
    }
}

/// Contacts that a node remembers when it goes down, as the daemon's snapshot does.
const REMEMBERED: usize = kad_core::MAX_SEEDS;

/// Until a node that could not join tries again.
const RETRY: Duration = Duration::from_secs(1);

/// Nodes through which one may join that is not told otherwise.
const ENTRANCES: usize = 8;

impl World {
    /// Adds nodes that all join through the first node of the world, which is made if there is none, and runs the world
    /// until the last one has begun to.
    pub fn grow(&mut self, nodes: usize, site: Site, config: &Arc<Config>, growth: Growth) {
        self.grow_watched(nodes, site, config, growth, |_| {});
    }

    /// As [`grow`](Self::grow), telling how many there are from time to time.
    pub fn grow_watched(
        &mut self,
        nodes: usize,
        site: Site,
        config: &Arc<Config>,
        growth: Growth,
        mut progress: impl FnMut(usize),
    ) {
        for added in 0..nodes {
            let id = self.dice.key().to_node_id();
            let number = self.add(id, site, config);
            if self.entrances.is_empty() {
                self.entrances.push(self.contact(number));
                continue;
            }
            self.join(number);
            let rate = (self.serving.len() as f64 * growth.share).clamp(1.0, growth.most.max(1.0));
            self.run_for(Duration::from_secs_f64(1.0 / rate));
            if added % 256 == 0 {
                progress(added);
            }
        }
    }

    /// Lets a node look for the others: through those whom it remembers and the entrances of the world.
    pub fn join(&mut self, number: usize) {
        let node = &self.nodes[number];
        let (me, mut contacts) = (node.id, node.remembered.clone());
        contacts.truncate(REMEMBERED - ENTRANCES);
        let others = self.entrances.iter().filter(|entrance| entrance.id != me);
        let mut others: Vec<_> = others.copied().collect();
        if others.len() > ENTRANCES {
            // Of a long list each takes a few.
            self.dice.shuffle(&mut others);
            others.truncate(ENTRANCES);
        }
        contacts.extend(others);
        if contacts.is_empty() {
            return;
        }
        let query = QueryId(OWN_QUERY | self.next_query);
        self.next_query += 1;
        self.feed(
            number as u32,
            Input::Command {
                query,
                command: Command::Bootstrap { contacts },
            },
        );
    }

    /// Whoever joins from now on asks this node as well, besides those whom it remembers.
    pub fn enter_through(&mut self, number: usize) {
        self.entrances.push(self.contact(number));
    }

    /// As [`join`](Self::join), of a node behind a NAT: first only a few random entrances are asked where it is and
    /// whether strangers reach it, and it joins a while later. Whom it has talked to by then is no stranger any more.
    pub fn join_after(&mut self, number: usize, asked: usize, span: Duration) {
        let mut entrances = self.entrances.clone();
        self.dice.shuffle(&mut entrances);
        entrances.retain(|entrance| entrance.id != self.nodes[number].id);
        for contact in entrances.into_iter().take(asked) {
            self.say_hello(number as u32, contact.address.number() as u32);
        }
        let epoch = self.nodes[number].epoch;
        let node = number as u32;
        self.queue.push(self.now + span, Arrival::Join { node, epoch });
    }

    /// A node that lost everybody, or found nobody, tries again soon.
    pub(super) fn rejoin(&mut self, number: u32) {
        let epoch = self.nodes[number as usize].epoch;
        self.queue
            .push(self.now + RETRY, Arrival::Join { node: number, epoch });
    }

    /// Gives the nodes that are up a session each, found under way, and lets them come and go from now on. The world's
    /// entrances are a few that are up, chosen anew as these go down.
    pub fn churn(&mut self, sessions: Sessions) {
        for number in 0..self.nodes.len() as u32 {
            if self.nodes[number as usize].machine().is_some() {
                let left = sessions.up.draw_residual(&mut self.dice);
                let epoch = self.nodes[number as usize].epoch;
                self.queue
                    .push(self.now + left, Arrival::Down { node: number, epoch });
            }
        }
        self.sessions = Some(sessions);
    }

    /// Lets nodes come and go as a trace says, counted from now. Nodes are made as they are needed; a node that is
    /// already there keeps its id.
    pub fn follow(&mut self, trace: &SessionTrace, site: Site, config: &Arc<Config>) {
        while self.nodes.len() < trace.nodes() {
            let id = self.dice.key().to_node_id();
            self.add_down(id, site, config);
        }
        for &(node, up, down) in &trace.sessions {
            let after = |at: Instant| self.now + at.since(Instant::ZERO);
            let (up, down) = (after(up), after(down));
            self.queue.push(up, Arrival::Up { node });
            // Whatever life it is in by then, this one ends.
            self.queue.push(
                down,
                Arrival::Down {
                    node,
                    epoch: ANY_LIFE,
                },
            );
        }
    }

    /// A node goes down without a word, and does not come back by itself.
    pub fn kill(&mut self, number: usize) {
        self.stop(number as u32);
    }

    /// A node that is down comes up and joins.
    pub fn revive(&mut self, number: usize) {
        if matches!(self.nodes[number].mind, Mind::Down) {
            self.start(number as u32);
            self.join(number);
        }
    }

    pub(super) fn on_up(&mut self, node: u32) {
        if !matches!(self.nodes[node as usize].mind, Mind::Down) {
            return;
        }
        self.trace.fold(u64::from(node));
        if let Some(Sessions {
            returns: Returns::Stranger,
            ..
        }) = self.sessions
        {
            let id = self.dice.key().to_node_id();
            let stranger = &mut self.nodes[node as usize];
            stranger.id = id;
            stranger.remembered.clear();
            stranger.burn();
        }
        self.start(node);
        self.refresh_entrances();
        self.join(node as usize);
        if let Some(sessions) = &self.sessions {
            let (span, epoch) = (sessions.up.draw(&mut self.dice), self.nodes[node as usize].epoch);
            self.queue.push(self.now + span, Arrival::Down { node, epoch });
        }
        self.told.push_back(Happening::Up { node: node as usize });
    }

    pub(super) fn on_down(&mut self, node: u32) {
        self.trace.fold(!u64::from(node));
        self.stop(node);
        if let Some(sessions) = &self.sessions {
            let span = sessions.down.draw(&mut self.dice);
            self.queue.push(self.now + span, Arrival::Up { node });
        }
        self.told.push_back(Happening::Down { node: node as usize });
    }

    fn stop(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        let Mind::Honest(machine) = &node.mind else { return };
        let mut known: Vec<_> = machine
            .table()
            .contacts()
            .filter(|entry| entry.failures == 0)
            .collect();
        // The freshest first.
        known.sort_by_key(|entry| std::cmp::Reverse(entry.last_seen));
        let known = known
            .into_iter()
            .take(REMEMBERED)
            .map(|entry| *entry.contact)
            .collect();
        node.remembered = known;
        node.mind = Mind::Down;
        node.epoch += 1;
        node.timer = Instant::MAX;
        self.serving.remove(node.id);
        if let Some(pool) = self.pools.get_mut(number as usize) {
            *pool = Pool::default();
        }
    }

    /// A network that people use keeps its list of entrances up.
    fn refresh_entrances(&mut self) {
        let serving = &self.serving;
        self.entrances.retain(|entrance| serving.contains(entrance.id));
        while self.entrances.len() < ENTRANCES.min(self.serving.len() / 2) {
            let someone = self.anyone();
            self.entrances.push(self.contact(someone));
        }
    }
}
