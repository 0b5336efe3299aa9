//! The one queue of everything that will happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kad_core::Instant;

/// Events by their time, and those of one time in the order in which they were put in.
///
/// The heap holds 24 bytes for each; what an event carries lies still in a slab, so that sifting moves little.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Instant, u64, Ticket)>>,
    payloads: Vec<Option<T>>,
    free: Vec<u32>,
    next: u64,
}

/// What lies in the heap: a timer, which carries nothing, or the place of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            payloads: Vec::new(),
            free: Vec::new(),
            next: 0,
        }
    }

    /// Everything that waits.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

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
        let &Reverse((at, _, ticket)) = self.heap.peek()?;
        if at > until {
            return None;
        }
        self.heap.pop();
        let due = match ticket {
            Ticket::Timer(node) => Due::Timer(node),
            Ticket::Payload(place) => {
                self.free.push(place);
                Due::Payload(self.payloads[place as usize].take()?)
            }
        };
        Some((at, due))
    }

    fn insert(&mut self, at: Instant, ticket: Ticket) {
        self.heap.push(Reverse((at, self.next, ticket)));
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
