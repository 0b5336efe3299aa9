//! Requests under way, from where they leave to where their answers arrive.

use kad_core::{Instant, RequestId};

/// One request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Who asks.
    pub(super) by: u32,
    /// Whom.
    pub(super) to: u32,
    /// Which life of the asker.
    pub(super) epoch: u32,
    /// The asker's name for it.
    pub(super) id: RequestId,
    /// When it left, over a connection that stood.
    pub(super) sent: Instant,
    /// Whether the time until the answer is a round trip.
    pub(super) timed: bool,
    /// Whether it makes a connection.
    pub(super) dials: bool,
    /// From which port its asker is seen to ask, to which it goes, and from which the answer is seen to come.
    pub(super) seen: u16,
    pub(super) port: u16,
    pub(super) answered: u16,
}

/// Names a call; never names two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallId {
    place: u32,
    generation: u32,
}

impl CallId {
    pub(super) const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.place as u64
    }

    pub(super) const fn from_u64(id: u64) -> Self {
        Self {
            place: id as u32,
            generation: (id >> 32) as u32,
        }
    }
}

/// All calls under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    places: Vec<(u32, Option<Call>)>,
    free: Vec<u32>,
}

impl Calls {
    pub(super) fn open(&mut self, call: Call) -> CallId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let (generation, held) = &mut self.places[place as usize];
        *held = Some(call);
        CallId {
            place,
            generation: *generation,
        }
    }

    pub(super) fn get(&self, id: CallId) -> Option<Call> {
        let &(generation, call) = self.places.get(id.place as usize)?;
        call.filter(|_| generation == id.generation)
    }

    /// Notes from which port the answer is seen to come.
    pub(super) fn answer(&mut self, id: CallId, port: u16) {
        if let Some((generation, Some(call))) = self.places.get_mut(id.place as usize)
            && *generation == id.generation
        {
            call.answered = port;
        }
    }

    pub(super) fn close(&mut self, id: CallId) -> Option<Call> {
        let call = self.get(id)?;
        let (generation, held) = &mut self.places[id.place as usize];
        *held = None;
        *generation = generation.wrapping_add(1);
        self.free.push(id.place);
        Some(call)
    }
}
