//! The one queue of everything that will happen.
//!
//! A wheel of wheels. The digits of a time, six bits each, are compared with those of the time that was reached last:
//! the first one in which they differ says on which wheel an event lies, and that digit in which of its 64 slots. On
//! the lowest wheel a slot is one microsecond. When that wheel is empty, the next slot of the lowest one that is not is
//! dealt out to the wheels below it. So an event is written as often as its time has digits below the first that
//! differs, three or four times for a message, always behind others, and nothing is ever compared or searched: with a
//! million timers waiting, a heap would miss the cache a dozen times for each event.

use std::collections::VecDeque;

use kad_core::Instant;

/// Events by their time, and those of one time in the order in which they were put in.
///
/// Events of one time share a slot whenever they were put in, and slots keep their order, so nothing has to remember
/// it. An event takes 16 bytes here; what it carries lies still in a slab.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// Nothing before this time is left, and nothing may be put in before it.
    reached: u64,
    wheels: Vec<Wheel>,
    waiting: usize,
    payloads: Vec<Option<T>>,
    free: Vec<u32>,
}

/// Bits of a digit.
const DIGIT: u32 = 6;

/// Slots of a wheel.
const SLOTS: usize = 1 << DIGIT;

/// Digits of a time.
const WHEELS: u32 = u64::BITS.div_ceil(DIGIT);

/// Slots from this wheel on, 17 s and longer, give their memory back when they are dealt out: they are used once in a
/// long while, and hold the timers of all nodes.
const LONG: usize = 4;

#[derive(Debug)]
struct Wheel {
    /// One bit for each slot that has something in it.
    occupied: u64,
    slots: Vec<VecDeque<(u64, Ticket)>>,
}

/// A timer, which carries nothing, or the place of a payload.
#[derive(Debug, Clone, Copy)]
enum Ticket {
    Timer(u32),
    Payload(u32),
}

/// What has come up.
#[derive(Debug)]
pub(crate) enum Due<T> {
    /// The timer of a node.
    Timer(u32),
    /// Something that was put in.
    Payload(T),
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let wheel = || Wheel {
            occupied: 0,
            slots: (0..SLOTS).map(|_| VecDeque::new()).collect(),
        };
        Self {
            reached: 0,
            wheels: (0..WHEELS).map(|_| wheel()).collect(),
            waiting: 0,
            payloads: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Everything that waits.
    pub(crate) const fn len(&self) -> usize {
        self.waiting
    }

    /// Puts something in. What lies in the past comes next.
    pub(crate) fn push(&mut self, at: Instant, payload: T) {
        let place = match self.free.pop() {
            Some(place) => {
                self.payloads[place as usize] = Some(payload);
                place
            }
            None => {
                self.payloads.push(Some(payload));
                (self.payloads.len() - 1) as u32
            }
        };
        self.insert(at, Ticket::Payload(place));
    }

    pub(crate) fn push_timer(&mut self, at: Instant, node: u32) {
        self.insert(at, Ticket::Timer(node));
    }

    /// Takes the next event that is not after `until`.
    pub(crate) fn pop(&mut self, until: Instant) -> Option<(Instant, Due<T>)> {
        loop {
            let level = self.wheels.iter().position(|wheel| wheel.occupied != 0)?;
            let slot = self.wheels[level].occupied.trailing_zeros();
            // Where the slot begins: the digits above are those of the time reached, those below are zero.
            let shift = DIGIT * level as u32;
            let above = self.reached.checked_shr(shift + DIGIT).unwrap_or(0);
            let begins = above.checked_shl(shift + DIGIT).unwrap_or(0) | u64::from(slot) << shift;
            if begins > until.as_micros() {
                return None;
            }
            self.reached = begins;
            if level > 0 {
                self.deal_out(level, slot as usize);
                continue;
            }
            let wheel = &mut self.wheels[0];
            let events = &mut wheel.slots[slot as usize];
            let next = events.pop_front();
            if events.is_empty() {
                wheel.occupied &= !(1 << slot);
            }
            let (at, ticket) = next?;
            self.waiting -= 1;
            let due = match ticket {
                Ticket::Timer(node) => Due::Timer(node),
                Ticket::Payload(place) => {
                    self.free.push(place);
                    Due::Payload(self.payloads[place as usize].take()?)
                }
            };
            return Some((Instant::from_micros(at), due));
        }
    }

    fn insert(&mut self, at: Instant, ticket: Ticket) {
        self.waiting += 1;
        self.place(at.as_micros().max(self.reached), ticket);
    }

    fn place(&mut self, at: u64, ticket: Ticket) {
        let differs = (at ^ self.reached).checked_ilog2().unwrap_or(0);
        let level = differs / DIGIT;
        let slot = (at >> (DIGIT * level)) as usize % SLOTS;
        let wheel = &mut self.wheels[level as usize];
        wheel.occupied |= 1 << slot;
        wheel.slots[slot].push_back((at, ticket));
    }

    /// Moves the events of a slot whose time has come to the wheels below.
    fn deal_out(&mut self, level: usize, slot: usize) {
        let wheel = &mut self.wheels[level];
        wheel.occupied &= !(1 << slot);
        let mut events = std::mem::take(&mut wheel.slots[slot]);
        for (at, ticket) in events.drain(..) {
            self.place(at, ticket);
        }
        if level < LONG {
            self.wheels[level].slots[slot] = events;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;
    use crate::Dice;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_arrival() {
        let (mut queue, at) = (Queue::new(), Instant::from_micros);
        queue.push(at(5), 'c');
        queue.push(at(3), 'a');
        queue.push_timer(at(5), 7);
        queue.push(at(3), 'b');
        let mut order = String::new();
        while let Some((_, due)) = queue.pop(at(5)) {
            match due {
                Due::Timer(node) => order.push_str(&node.to_string()),
                Due::Payload(letter) => order.push(letter),
            }
        }
        assert_eq!(order, "abc7");
        queue.push(at(9), 'd');
        assert!(queue.pop(at(8)).is_none());
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn behaves_like_a_heap() {
        for seed in 0..40 {
            let (mut queue, mut heap) = (Queue::new(), BinaryHeap::new());
            let (mut dice, mut now) = (Dice::new(seed), 0);
            for number in 0..4000_u64 {
                if dice.chance(0.55) {
                    // From the same moment to years ahead, and often at times that were used before.
                    let span = dice.roll() >> (64 - dice.below(50)).min(63);
                    let at = if dice.chance(0.3) {
                        (now | 0xfff) + 1
                    } else {
                        now + span
                    };
                    queue.push(Instant::from_micros(at), number);
                    heap.push(Reverse((at, number)));
                } else {
                    let until = now + (dice.roll() >> (64 - dice.below(50)).min(63));
                    let expected = heap.peek().filter(|Reverse((at, _))| *at <= until).copied();
                    match (queue.pop(Instant::from_micros(until)), expected) {
                        (Some((at, Due::Payload(got))), Some(Reverse(wanted))) => {
                            heap.pop();
                            assert_eq!((at.as_micros(), got), wanted);
                            now = wanted.0;
                        }
                        (None, None) => now = until,
                        (got, wanted) => panic!("{got:?} in the place of {wanted:?}"),
                    }
                }
                assert_eq!(queue.len(), heap.len());
            }
        }
    }

    #[test]
    fn the_end_of_time_is_a_time() {
        let mut queue = Queue::new();
        queue.push(Instant::MAX, 'z');
        queue.push(Instant::from_micros(1), 'a');
        let next = |queue: &mut Queue<char>| match queue.pop(Instant::MAX) {
            Some((at, Due::Payload(letter))) => Some((at, letter)),
            _ => None,
        };
        assert_eq!(next(&mut queue), Some((Instant::from_micros(1), 'a')));
        assert_eq!(next(&mut queue), Some((Instant::MAX, 'z')));
        queue.push(Instant::from_micros(7), 'b');
        assert_eq!(next(&mut queue), Some((Instant::MAX, 'b')), "the past comes next");
        assert_eq!(next(&mut queue), None);
    }
}
