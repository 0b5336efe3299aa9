//! One stream of an application, whatever paths it runs over: two tapes of numbered bytes.
//!
//! The writer keeps what the reader's application has not taken, so that it can be sent again on another path; both
//! together hold at most [`WINDOW`] bytes a direction. Pure: it knows no path, no clock and no task.
//!
//! ```text
//!  write ─► [ acknowledged │ sent │ not sent ] ── frames ──► [ taken │ waiting │ lacking ] ─► read
//!             forgotten      kept    kept                    forgotten  kept
//! ```
//!
//! Places count from zero. The end of what was written takes one place as well, so that an acknowledgement beyond the
//! last byte says that the end has arrived. A direction is over when its reader has taken the end, or when one side has
//! given it up and the other one has said that it knows. Frames are taken off by [`Tape::next_frame`]; after
//! [`Tape::detach`], none come until [`Tape::attach`] says where the other side is, and then everything is said again
//! that it may have missed.

use std::collections::VecDeque;

use super::frames::{Frame, Item, MAX_DATA};

/// Bytes of one direction that are written and not taken yet by the other application. It bounds the memory of both
/// sides, and at a round trip of 100 ms the speed at 10 MiB/s.
pub(super) const WINDOW: usize = 1024 * 1024;

/// An acknowledgement is due when so many bytes were taken since the last one: each costs nine bytes, and the window
/// never runs dry for want of one.
const ACK_EVERY: u64 = WINDOW as u64 / 16;

/// Beyond this, the memory of an emptied buffer is given back.
const KEPT_CAPACITY: usize = 64 * 1024;

/// The peer did what no peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    /// More bytes than the window lets it send.
    BeyondWindow,
    /// Something follows the end.
    BeyondEnd,
    /// It acknowledges, or says to have, what was never sent.
    NeverSent,
    /// It lacks what it acknowledged, or acknowledges less than before.
    Backwards,
    /// It says where it is in the middle of a stream.
    Misplaced,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tape {
    out: Outgoing,
    inc: Incoming,
    attached: bool,
}

impl Tape {
    /// Bytes that can be written now.
    pub(super) fn room(&self) -> usize {
        match self.out.end {
            End::Open if !self.out.stopped => WINDOW - self.out.kept.len(),
            _ => 0,
        }
    }

    /// Takes as many of these bytes as there is room for.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.out.kept.extend(&bytes[..count]);
        count
    }

    /// Nothing more will be written, and what was is whole.
    pub(super) fn finish(&mut self) {
        if self.out.end == End::Open {
            self.out.end = End::Finished;
        }
    }

    /// Nothing more will be written, and what was is not whole.
    pub(super) fn reset(&mut self) {
        if self.out.end == End::Open {
            self.out.end = End::Reset;
            self.out.forget();
        }
    }

    /// Nothing more will be read.
    pub(super) fn stop(&mut self) {
        if !self.inc.stopped {
            let over = self.inc.is_over();
            self.inc.stopped = true;
            self.inc.waiting = VecDeque::new();
            self.inc.say_stop = !over && !self.inc.stop_said;
        }
    }

    /// Moves bytes that have arrived to the front of a buffer; how many.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let waiting = &mut self.inc.waiting;
        let count = into.len().min(waiting.len());
        let (one, other) = waiting.as_slices();
        let first = count.min(one.len());
        into[..first].copy_from_slice(&one[..first]);
        into[first..count].copy_from_slice(&other[..count - first]);
        waiting.drain(..count);
        give_back(waiting);
        count
    }

    /// Bytes that have arrived and were not read.
    pub(super) fn waiting(&self) -> usize {
        self.inc.waiting.len()
    }

    /// Bytes that are kept for the peer.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.out.kept.len()
    }

    /// Whether everything that was written has been read here.
    pub(super) fn at_end(&self) -> bool {
        self.inc.end == End::Finished && self.inc.waiting.is_empty()
    }

    /// Whether the peer gave up writing before its end.
    pub(super) fn was_reset(&self) -> bool {
        self.inc.end == End::Reset
    }

    /// Whether the peer reads no more.
    pub(super) const fn was_stopped(&self) -> bool {
        self.out.stopped
    }

    /// Whether nothing more may be written.
    pub(super) fn is_shut(&self) -> bool {
        self.out.end != End::Open
    }

    /// Whether both directions are over, although this side may still have to say that it knows. A peer that ends
    /// before it has said where it is has said nothing.
    pub(super) fn has_ended(&self) -> bool {
        self.attached && self.out.is_over() && self.inc.is_over()
    }

    /// Whether the end of what the peer writes has come, read or not.
    #[cfg(test)]
    pub(super) fn has_all(&self) -> bool {
        self.inc.end == End::Finished
    }

    /// Whether the end was written, and the peer has not taken all of it.
    pub(super) fn is_finishing(&self) -> bool {
        self.out.end == End::Finished && !self.out.is_over()
    }

    /// The place of the next byte that is lacking here: what a resumption says.
    pub(super) const fn place(&self) -> u64 {
        self.inc.place
    }

    /// Whether both directions are over, and nothing is left to say.
    pub(super) fn is_over(&self) -> bool {
        self.out.is_over() && self.inc.is_over() && !self.inc.say_stop && !self.inc.must_ack()
    }

    /// Whether the peer, should it know nothing of this stream any more, has had all of it.
    pub(super) fn is_settled_if_forgotten(&self) -> bool {
        let said = self.out.end != End::Open && self.out.end_sent;
        (said || self.out.is_over()) && self.inc.is_over()
    }

    /// The path is gone: no frames until the next one, where whatever the peer may have missed is said once more.
    pub(super) const fn detach(&mut self) {
        self.attached = false;
        self.inc.told = 0;
        self.inc.stop_said = false;
        self.inc.say_stop = self.inc.stopped;
    }

    /// There is a path, and the peer lacks what begins at this place.
    pub(super) fn attach(&mut self, peer_lacks: u64) -> Result<(), Violation> {
        self.out.attached(peer_lacks)?;
        self.attached = true;
        Ok(())
    }

    /// The next frame to be sent, which counts as sent. At most `most` bytes of DATA.
    pub(super) fn next_frame(&mut self, most: usize) -> Option<Frame<'_>> {
        if !self.attached {
            return None;
        }
        if std::mem::take(&mut self.inc.say_stop) {
            self.inc.stop_said = true;
            return Some(Frame::Stop);
        }
        if self.inc.ack_due() {
            self.inc.told = self.inc.taken();
            return Some(Frame::Ack(self.inc.told));
        }
        self.out.next_frame(most)
    }

    /// Whether [`next_frame`](Self::next_frame) would give one.
    pub(super) fn has_frame(&self) -> bool {
        self.attached && (self.inc.say_stop || self.inc.ack_due() || self.out.has_frame())
    }

    /// Takes what came from the peer.
    pub(super) fn take(&mut self, item: &Item) -> Result<(), Violation> {
        match item {
            Item::Place(_) => return Err(Violation::Misplaced),
            Item::Data(bytes) => return self.inc.data(bytes),
            Item::Ack(place) => return self.out.acknowledged(*place),
            Item::Fin => return self.inc.finished(),
            Item::Reset => self.inc.was_reset()?,
            Item::Stop => self.out.was_stopped(),
        }
        Ok(())
    }
}

/// How a direction ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Finished,
    Reset,
}

#[derive(Debug, Default)]
struct Outgoing {
    /// The place of the first byte that is kept.
    acked: u64,
    kept: VecDeque<u8>,
    /// The place of the next byte to be sent on the present path, and the largest such place on any.
    sent: u64,
    sent_most: u64,
    end: End,
    /// Whether the end was said on the present path.
    end_sent: bool,
    /// The peer has said that it reads no more.
    stopped: bool,
    /// The peer has taken the end.
    end_acked: bool,
}

impl Outgoing {
    fn written(&self) -> u64 {
        self.acked + self.kept.len() as u64
    }

    fn is_over(&self) -> bool {
        // A reset ends with the word of the peer that it reads no more; a stop by then has been answered.
        self.end_acked || (self.stopped && self.end != End::Open && self.end_sent)
    }

    fn attached(&mut self, peer_lacks: u64) -> Result<(), Violation> {
        if peer_lacks > self.sent_most {
            return Err(Violation::NeverSent);
        }
        if self.stopped || self.end == End::Reset {
            // Nothing is left to be sent but that there is nothing.
            self.end_sent = self.end == End::Finished && peer_lacks > self.written();
            return Ok(());
        }
        if peer_lacks < self.acked + u64::from(self.end_acked) {
            return Err(Violation::Backwards);
        }
        self.sent = peer_lacks;
        self.end_sent = self.end == End::Finished && peer_lacks > self.written();
        Ok(())
    }

    fn forget(&mut self) {
        self.acked = self.written();
        self.sent = self.acked;
        self.sent_most = self.sent_most.max(self.sent);
        self.kept = VecDeque::new();
    }

    fn has_frame(&self) -> bool {
        if self.end_acked {
            return false;
        }
        match self.end {
            End::Reset => !self.end_sent,
            _ if self.stopped => self.end == End::Finished && !self.end_sent,
            End::Finished => !self.end_sent,
            End::Open => self.sent < self.written(),
        }
    }

    fn next_frame(&mut self, most: usize) -> Option<Frame<'_>> {
        if !self.has_frame() {
            return None;
        }
        if self.end == End::Reset || self.stopped {
            self.end_sent = true;
            return Some(Frame::Reset);
        }
        let written = self.written();
        if self.sent >= written {
            self.end_sent = true;
            self.sent = written + 1;
            self.sent_most = self.sent_most.max(self.sent);
            return Some(Frame::Fin);
        }
        // The difference is within the window.
        let from = (self.sent - self.acked) as usize;
        let count = most.clamp(1, MAX_DATA).min(self.kept.len() - from);
        self.sent += count as u64;
        self.sent_most = self.sent_most.max(self.sent);
        let (one, other) = self.kept.as_slices();
        let (one, other) = match from.checked_sub(one.len()) {
            Some(from) => (&other[from..from + count], &other[..0]),
            None => {
                let first = count.min(one.len() - from);
                (&one[from..from + first], &other[..count - first])
            }
        };
        Some(Frame::Data(one, other))
    }

    fn acknowledged(&mut self, place: u64) -> Result<(), Violation> {
        if place > self.sent_most {
            return Err(Violation::NeverSent);
        }
        if self.end == End::Reset || self.stopped || self.end_acked {
            return Ok(());
        }
        let Some(count) = place.checked_sub(self.acked) else {
            return Err(Violation::Backwards);
        };
        // Only the end has a place beyond the last byte.
        if count > self.kept.len() as u64 {
            self.end_acked = true;
            self.forget();
            return Ok(());
        }
        self.kept.drain(..count as usize);
        give_back(&mut self.kept);
        self.acked = place;
        // Only a peer that contradicts itself has taken more than it said to have when this path began.
        self.sent = self.sent.max(place);
        Ok(())
    }

    fn was_stopped(&mut self) {
        if !self.stopped && !self.end_acked {
            self.stopped = true;
            // If the end was said already, the peer knows all that it wants to.
            if self.end == End::Open {
                self.end = End::Reset;
            }
            self.forget();
        }
    }
}

#[derive(Debug, Default)]
struct Incoming {
    /// The place of the next byte that is lacking.
    place: u64,
    waiting: VecDeque<u8>,
    /// The last place that was acknowledged on the present path.
    told: u64,
    end: End,
    /// Nothing more is read here.
    stopped: bool,
    /// The peer has yet to be told so on the present path, or has been.
    say_stop: bool,
    stop_said: bool,
}

impl Incoming {
    fn is_over(&self) -> bool {
        self.end == End::Reset || (self.end == End::Finished && self.waiting.is_empty())
    }

    /// What the application has taken: the end too, once it has all that is before it.
    fn taken(&self) -> u64 {
        let end = self.end == End::Finished && !self.waiting.is_empty();
        self.place - self.waiting.len() as u64 - u64::from(end)
    }

    /// The end must be acknowledged, or the peer never knows that it arrived; unless it knows that nobody waits for it.
    fn must_ack(&self) -> bool {
        self.end == End::Finished && self.waiting.is_empty() && self.told < self.place && !self.stop_said
    }

    fn ack_due(&self) -> bool {
        let many = self.taken().saturating_sub(self.told) >= ACK_EVERY;
        self.must_ack() || (many && !self.stopped && self.end != End::Reset)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if self.end != End::Open {
            return Err(Violation::BeyondEnd);
        }
        if bytes.len() > WINDOW - self.waiting.len() {
            return Err(Violation::BeyondWindow);
        }
        self.place += bytes.len() as u64;
        if !self.stopped {
            self.waiting.extend(bytes);
        }
        Ok(())
    }

    fn finished(&mut self) -> Result<(), Violation> {
        if self.end != End::Open {
            return Err(Violation::BeyondEnd);
        }
        self.end = End::Finished;
        self.place += 1;
        Ok(())
    }

    fn was_reset(&mut self) -> Result<(), Violation> {
        if self.end == End::Finished {
            return Err(Violation::BeyondEnd);
        }
        self.end = End::Reset;
        self.waiting = VecDeque::new();
        // The peer waits for the word that its reset has arrived.
        self.stopped = true;
        self.say_stop = !self.stop_said;
        Ok(())
    }
}

fn give_back(buffer: &mut VecDeque<u8>) {
    if buffer.is_empty() && buffer.capacity() > KEPT_CAPACITY {
        *buffer = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
