//! The plan against a table that is a list, an oracle that looks at every contact at every step, and chance.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const REFRESH: Duration = Duration::from_secs(3600);

/// What a contact does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nature {
    /// It answers.
    Alive,
    /// It is gone, and found out.
    Dead,
    /// Nobody finds out: the question never leaves this node.
    Mute,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    heard: Instant,
    asked: bool,
    nature: Nature,
}

/// A list of contacts, and what became of it.
struct Life {
    rng: Rng,
    now: Instant,
    silence: Silence,
    contacts: Vec<Known>,
    /// The longest that anybody was silent without having been asked.
    longest: Duration,
    questions: usize,
    last_round: Option<Instant>,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            now: Instant::ZERO,
            silence: Silence::new(REFRESH, Instant::ZERO),
            contacts: Vec::new(),
            longest: Duration::ZERO,
            questions: 0,
            last_round: None,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound.max(1) as u64) as usize
    }

    fn add(&mut self, nature: Nature) {
        // Or one that is mute would be asked again, in the place of those that were heard of at the same moment.
        let alone = Duration::from_micros(u64::from(nature == Nature::Mute));
        self.run(alone);
        self.contacts.push(Known {
            heard: self.now,
            asked: false,
            nature,
        });
        self.run(alone);
    }

    /// Whatever happens for a while: rounds where they are due.
    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.silence.next() <= until {
            assert!(self.silence.next() > self.now, "time stands still");
            self.now = self.silence.next();
            self.round();
        }
        self.now = until;
        self.look();
    }

    fn look(&mut self) {
        let unasked = self.contacts.iter().filter(|known| !known.asked);
        let silent = unasked.map(|known| self.now.since(known.heard)).max();
        self.longest = self.longest.max(silent.unwrap_or_default());
    }

    fn round(&mut self) {
        self.look();
        let unasked = self.silence.unasked();
        let mut order: Vec<usize> = (0..self.contacts.len())
            .filter(|&n| self.contacts[n].heard >= unasked)
            .collect();
        order.sort_by_key(|&n| self.contacts[n].heard);
        let heard: Vec<Instant> = order.iter().map(|&n| self.contacts[n].heard).collect();
        let count = self.silence.plan(REFRESH, self.now, self.contacts.len(), &heard);
        assert!(count <= ROUND && count <= heard.len());
        if count == 0 {
            return;
        }
        if let Some(before) = self.last_round.replace(self.now) {
            assert!(self.now.since(before) >= self.silence.pace(REFRESH), "a burst");
        }
        self.questions += count;
        for &n in &order[..count] {
            match self.contacts[n].nature {
                Nature::Alive => self.contacts[n].heard = self.now,
                Nature::Dead | Nature::Mute => self.contacts[n].asked = true,
            }
        }
        self.contacts
            .retain(|known| !known.asked || known.nature == Nature::Mute);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nobody_is_silent_for_an_interval_without_having_been_asked(
        seed: u64,
        first in 0usize..1500,
        traffic in 0usize..40,
        churn in 0usize..30,
    ) {
        let mut life = Life::new(seed);
        // All at once, as those whom a join has found.
        (0..first).for_each(|_| life.add(Nature::Alive));
        for _ in 0..300 {
            for _ in 0..life.below(churn + 1) {
                let nature = [Nature::Alive, Nature::Alive, Nature::Dead, Nature::Mute][life.below(4)];
                life.add(nature);
            }
            for _ in 0..life.below(churn + 1) {
                let n = life.below(life.contacts.len() + 1);
                if n < life.contacts.len() {
                    life.contacts.swap_remove(n);
                }
            }
            for _ in 0..life.below(traffic + 1) {
                let n = life.below(life.contacts.len() + 1);
                if let Some(known) = life.contacts.get_mut(n).filter(|known| known.nature == Nature::Alive) {
                    known.heard = life.now;
                }
            }
            // Everybody dies at once, once in a while.
            if life.below(100) == 0 {
                life.contacts.iter_mut().for_each(|known| known.nature = Nature::Dead);
            }
            let pause = Duration::from_micros(1 + life.rng.next_u64() % 90_000_000);
            life.run(pause);
        }
        prop_assert!(life.longest <= span(REFRESH), "{:?}", life.longest);
    }

    #[test]
    fn those_that_are_quiet_are_asked_once_in_an_interval(seed: u64, contacts in 1usize..600) {
        let mut life = Life::new(seed);
        (0..contacts).for_each(|_| life.add(Nature::Alive));
        life.run(2 * REFRESH);
        let before = life.questions;
        life.run(10 * REFRESH);
        let each = (life.questions - before) as f64 / contacts as f64 / 10.0;
        prop_assert!((0.9..1.1).contains(&each), "{each} times");
        prop_assert!(life.longest <= span(REFRESH));
    }
}

#[test]
fn whoever_is_heard_of_anyway_is_never_asked() {
    let mut life = Life::new(1);
    (0..300).for_each(|_| life.add(Nature::Alive));
    for _ in 0..100 {
        life.run(REFRESH / 3);
        for known in &mut life.contacts {
            known.heard = life.now;
        }
    }
    assert_eq!(life.questions, 0);
}

#[test]
fn those_that_were_heard_of_at_the_same_moment_are_asked_in_rounds() {
    let mut silence = Silence::new(REFRESH, Instant::ZERO);
    let mut heard = [Instant::from_micros(7); 20].to_vec();
    let mut rounds = Vec::new();
    while !heard.is_empty() {
        let now = silence.next();
        let count = silence.plan(REFRESH, now, 20, &heard);
        heard.drain(..count);
        assert!(heard.iter().all(|&heard| heard >= silence.unasked()));
        if count > 0 {
            rounds.push(count);
        }
    }
    assert_eq!(rounds, [4, 8, 8]);
}

#[test]
fn any_interval_that_can_be_configured_leaves_time_to_go_on() {
    for refresh in [Duration::ZERO, Duration::from_micros(1), Duration::MAX] {
        for now in [Instant::ZERO, Instant::from_micros(9), Instant::MAX] {
            let mut silence = Silence::new(refresh, now);
            for heard in [&[][..], &[Instant::ZERO; 9], &[now; 3]] {
                let count = silence.plan(refresh, now, 70_000, heard);
                assert!(count <= heard.len());
                assert!(silence.next() > now || now == Instant::MAX);
            }
        }
    }
}
