use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// One end: its tape, and what its application did.
#[derive(Default)]
struct Side {
    tape: Tape,
    written: Vec<u8>,
    read: Vec<u8>,
    /// Frames on their way to it.
    coming: VecDeque<Item>,
    /// What the application gave up.
    gave_up_writing: bool,
    gave_up_reading: bool,
}

impl Side {
    fn write(&mut self, count: usize) {
        let from = self.written.len();
        let bytes: Vec<u8> = (from..from + count).map(|i| (i % 251) as u8).collect();
        let taken = self.tape.write(&bytes);
        self.written.extend(&bytes[..taken]);
    }

    fn read(&mut self, count: usize) {
        let mut buffer = vec![0; count];
        let count = self.tape.read(&mut buffer);
        self.read.extend(&buffer[..count]);
    }

    fn frame(&mut self, most: usize) -> Option<Item> {
        Some(match self.tape.next_frame(most)? {
            Frame::Data(one, other) => Item::Data(Bytes::from([one, other].concat())),
            Frame::Ack(place) => Item::Ack(place),
            Frame::Fin => Item::Fin,
            Frame::Reset => Item::Reset,
            Frame::Stop => Item::Stop,
        })
    }
}

/// Two ends and the path between them.
struct Pair {
    sides: [Side; 2],
}

impl Pair {
    fn new() -> Self {
        let mut sides = [Side::default(), Side::default()];
        for side in &mut sides {
            side.tape.attach(0).unwrap();
        }
        Self { sides }
    }

    /// Takes a frame off one side, which is then under way to the other.
    fn send(&mut self, from: usize, most: usize) -> bool {
        let frame = self.sides[from].frame(most);
        let some = frame.is_some();
        self.sides[1 - from].coming.extend(frame);
        some
    }

    fn deliver(&mut self, to: usize) -> bool {
        let side = &mut self.sides[to];
        let Some(item) = side.coming.pop_front() else {
            return false;
        };
        side.tape.take(&item).expect("an honest peer keeps to the rules");
        true
    }

    /// The path breaks: what is under way is lost. Then there is another one, on which a side may hear twice where the
    /// other is, since a resumption may itself be cut off and repeated.
    fn cut(&mut self, repeated: usize) {
        for side in &mut self.sides {
            side.coming.clear();
            side.tape.detach();
            assert!(!side.tape.has_frame(), "nothing is sent without a path");
        }
        for _ in 0..=repeated {
            let places = [self.sides[0].tape.place(), self.sides[1].tape.place()];
            for (side, lacks) in self.sides.iter_mut().zip([places[1], places[0]]) {
                side.tape.detach();
                side.tape
                    .attach(lacks)
                    .expect("an honest peer keeps to the rules");
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for side in 0..2 {
                moved |= self.send(side, MAX_DATA);
                moved |= self.deliver(side);
                let before = self.sides[side].read.len();
                if !self.sides[side].gave_up_reading {
                    self.sides[side].read(100_000);
                }
                moved |= self.sides[side].read.len() > before;
            }
            if !moved {
                return;
            }
        }
    }

    fn check(&self) {
        for (reader, writer) in [(0, 1), (1, 0)] {
            let (reader, writer) = (&self.sides[reader], &self.sides[writer]);
            assert!(
                writer.written.starts_with(&reader.read),
                "every byte once and in order"
            );
            assert!(reader.tape.waiting() <= WINDOW);
            assert!(writer.tape.kept() <= WINDOW);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, usize),
    Read(usize, usize),
    Send(usize, usize),
    Deliver(usize),
    Cut(usize),
    Finish(usize),
    Reset(usize),
    Stop(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = 0usize..2;
    prop_oneof![
        8 => (side.clone(), prop_oneof![0usize..300, 10_000usize..300_000]).prop_map(|(side, n)| Step::Write(side, n)),
        6 => (side.clone(), prop_oneof![1usize..300, 10_000usize..300_000]).prop_map(|(side, n)| Step::Read(side, n)),
        12 => (side.clone(), 1usize..40_000).prop_map(|(side, n)| Step::Send(side, n)),
        12 => side.clone().prop_map(Step::Deliver),
        3 => (0usize..3).prop_map(Step::Cut),
        1 => side.clone().prop_map(Step::Finish),
        1 => side.clone().prop_map(Step::Reset),
        1 => side.prop_map(Step::Stop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The oracle is what was written. Whatever is cut, lost, repeated or given up: a reader has a beginning of it, has
    /// all of it if nobody gave up, and both sides learn that it is over.
    #[test]
    fn every_byte_arrives_once_and_in_order_over_any_cuts(
        steps in proptest::collection::vec(any_step(), 1..200),
    ) {
        let mut pair = Pair::new();
        for step in steps {
            match step {
                Step::Write(side, count) => pair.sides[side].write(count),
                Step::Read(side, count) if !pair.sides[side].gave_up_reading => pair.sides[side].read(count),
                Step::Read(..) => {}
                Step::Send(side, most) => {
                    pair.send(side, most);
                }
                Step::Deliver(side) => {
                    pair.deliver(side);
                }
                Step::Cut(repeated) => pair.cut(repeated),
                Step::Finish(side) => pair.sides[side].tape.finish(),
                Step::Reset(side) => {
                    pair.sides[side].gave_up_writing = true;
                    pair.sides[side].tape.reset();
                }
                Step::Stop(side) => {
                    pair.sides[side].gave_up_reading = true;
                    pair.sides[side].tape.stop();
                }
            }
            pair.check();
        }
        pair.settle();
        for (reader, writer) in [(0, 1), (1, 0)] {
            let (reader, writer) = (&pair.sides[reader], &pair.sides[writer]);
            if reader.gave_up_reading {
                // Unless all had arrived before: then it learns of that.
                let taken = writer.tape.is_shut() && !writer.tape.is_finishing();
                prop_assert!(writer.tape.was_stopped() || taken, "who writes learns that nobody reads");
            } else if writer.gave_up_writing && writer.tape.kept() == 0 && !reader.tape.at_end() {
                prop_assert!(reader.tape.was_reset(), "who reads learns that it is not whole");
            }
        }
        for side in 0..2 {
            pair.sides[side].tape.finish();
        }
        pair.settle();
        pair.check();
        for (reader, writer) in [(0, 1), (1, 0)] {
            let (reader, writer) = (&pair.sides[reader], &pair.sides[writer]);
            if !writer.gave_up_writing && !reader.gave_up_reading {
                prop_assert_eq!(reader.read.len(), writer.written.len());
                prop_assert!(reader.tape.at_end());
            }
            prop_assert!(writer.tape.is_over(), "{:?}", writer.tape);
            prop_assert_eq!(writer.tape.kept(), 0);
        }
        // Who resumes what the other has forgotten knows that nothing is missing.
        pair.cut(0);
        prop_assert!(pair.sides.iter().all(|side| side.tape.is_settled_if_forgotten() || side.tape.has_frame()));
        pair.settle();
        prop_assert!(pair.sides.iter().all(|side| side.tape.is_over()));
    }

    /// Whatever a peer says, it is taken or refused, and memory stays within the window.
    #[test]
    fn a_hostile_peer_costs_a_window_at_most(
        words in proptest::collection::vec(prop_oneof![
            (1usize..20_000).prop_map(|n| Ok(Item::Data(vec![7; n].into()))),
            prop_oneof![0u64..20_000, any::<u64>()].prop_map(|place| Ok(Item::Ack(place))),
            Just(Ok(Item::Fin)),
            Just(Ok(Item::Reset)),
            Just(Ok(Item::Stop)),
            prop_oneof![0u64..20_000, any::<u64>()].prop_map(Err),
        ], 0..120),
        writes in proptest::collection::vec(0usize..5_000, 0..40),
        frames in proptest::collection::vec(0usize..4, 120),
    ) {
        let mut side = Side::default();
        side.tape.attach(0).unwrap();
        let (mut writes, mut frames) = (writes.into_iter(), frames.into_iter());
        for word in words {
            if let Some(count) = writes.next() {
                side.write(count);
                side.frame(1_000);
            }
            let answer = match word {
                Ok(item) => side.tape.take(&item),
                Err(lacks) => {
                    side.tape.detach();
                    side.tape.attach(lacks)
                }
            };
            prop_assert!(side.tape.waiting() <= WINDOW && side.tape.kept() <= WINDOW);
            if answer.is_err() {
                // The stream ends here.
                return Ok(());
            }
            for _ in 0..frames.next().unwrap_or(3) {
                side.frame(MAX_DATA);
            }
        }
    }
}

#[test]
fn the_writer_waits_for_a_reader_that_takes_nothing() {
    let mut pair = Pair::new();
    pair.sides[0].write(3 * WINDOW);
    while pair.send(0, MAX_DATA) {}
    while pair.deliver(1) {}
    assert_eq!(
        (pair.sides[0].tape.kept(), pair.sides[1].tape.waiting()),
        (WINDOW, WINDOW)
    );
    assert_eq!(pair.sides[0].tape.room(), 0);
    pair.sides[1].read(WINDOW / 2);
    assert!(pair.send(1, MAX_DATA) && pair.deliver(0));
    assert_eq!(pair.sides[0].tape.room(), WINDOW / 2);
}

#[test]
fn what_no_peer_may_say_is_refused() {
    let data = |count: usize| Item::Data(vec![0; count].into());
    let fresh = || {
        let mut side = Side::default();
        side.tape.attach(0).unwrap();
        side.write(100);
        while side.frame(MAX_DATA).is_some() {}
        side.tape
    };
    let mut tape = fresh();
    assert_eq!(tape.take(&data(WINDOW)), Ok(()));
    assert_eq!(tape.take(&data(1)), Err(Violation::BeyondWindow));
    let mut tape = fresh();
    assert_eq!(tape.take(&Item::Fin), Ok(()));
    assert_eq!(tape.take(&Item::Fin), Err(Violation::BeyondEnd), "an end twice");
    assert_eq!(tape.take(&data(1)), Err(Violation::BeyondEnd));
    assert_eq!(tape.take(&Item::Reset), Err(Violation::BeyondEnd));
    let mut tape = fresh();
    assert_eq!(
        tape.take(&Item::Ack(101)),
        Err(Violation::NeverSent),
        "the end was not sent"
    );
    assert_eq!(tape.take(&Item::Ack(60)), Ok(()));
    assert_eq!(tape.take(&Item::Ack(59)), Err(Violation::Backwards));
    assert_eq!(tape.take(&Item::Place(1)), Err(Violation::Misplaced));
    tape.detach();
    assert_eq!(tape.attach(59), Err(Violation::Backwards));
    assert_eq!(tape.attach(101), Err(Violation::NeverSent));
    assert_eq!(tape.attach(u64::MAX), Err(Violation::NeverSent));
    assert_eq!(tape.attach(60), Ok(()));
}

#[test]
fn a_peer_that_takes_more_than_it_said_to_have_is_sent_the_rest() {
    let mut side = Side::default();
    side.tape.attach(0).unwrap();
    side.write(100);
    side.frame(MAX_DATA);
    side.tape.detach();
    side.tape.attach(10).unwrap();
    assert_eq!(side.tape.take(&Item::Ack(60)), Ok(()));
    assert_eq!(
        side.frame(MAX_DATA),
        Some(Item::Data(side.written[60..].to_vec().into()))
    );
    assert_eq!(side.frame(MAX_DATA), None);
}
