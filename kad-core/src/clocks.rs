//! How far this node's wall clock is off, as far as its peers can tell.
//!
//! Every PONG carries the clock of who sent it. What is remembered of a contact is the difference of its wall clock and
//! of this node's *monotonic* clock, so a wall clock that is set back is seen at once and in full. Where it goes ahead
//! by itself the machine may have slept, while the monotonic clock of many systems stands still: then what is
//! remembered is worth nothing, and some contacts are PINGed to be heard again.
//!
//! The offset is the median over the 32 contacts that were PINGed last, of those that were in the table: as long as
//! fewer than half of these lie, it lies between two that do not. That is not half of all contacts: strangers that may
//! enter the table and contacts that are silent are PINGed most, so who comes often or says little is more often one of
//! the
//! 32. Of one site few count, so who has many addresses side by side has no more of a say.
//!
//! It is told and used for nothing: a node that set its clock, or judged records, by what peers say could be talked
//! into forgetting them.

use alloc::vec::Vec;

use crate::{Instant, NodeId, Now, UnixTime};

/// Contacts that are remembered; the one that was asked longest ago makes room. Their median is as steady as that of
/// the samples of the network's size, and costs little to find.
const MAX_CLOCKS: usize = 32;

/// Fewer say nothing: two of five may lie.
const ENOUGH: usize = 5;

/// Nor do fewer than so many hundredths of those that could count: of the first few that answer, most may lie by
/// chance.
const ENOUGH_OF_ALL: usize = 75;

/// Contacts of one site (IPv4 /24, IPv6 /48) that count; a newer one takes the place of the oldest of them.
const MAX_PER_SITE: usize = 2;

/// An offset of more seconds than this is worth a warning. Records are refused from
/// [`MAX_CLOCK_SKEW`](crate::record::MAX_CLOCK_SKEW) on, ten times as much; clocks that are set over a network are
/// right to a fraction of a second.
const WORTH_A_WARNING: u64 = 60;

/// One that has been warned of has ended when it is no more than this, or it would be warned of again and again.
const AS_GOOD_AS_NONE: u64 = 30;

/// A wall clock that goes ahead of the monotonic one by more seconds than this from one input to the next was set, or
/// the monotonic one stood still. Less changes no offset by more than what is worth a warning.
const SLEPT: i64 = WORTH_A_WARNING.cast_signed();

/// Contacts that are asked at once for their clocks where all are forgotten: the network of a machine that has just
/// woken up may be down still, and whoever cannot be reached twice loses its place in the table.
const ASKED_AT_ONCE: usize = 8;

/// What a contact's clock said, in 24 bytes, of which a node has up to 32.
#[derive(Debug)]
struct Reading {
    /// The first 64 bits of its id.
    of: u64,
    /// Zero if its address has none.
    site: u64,
    /// Its wall clock less this node's monotonic clock, in milliseconds.
    apart: i64,
}

/// The readings, oldest first.
#[derive(Debug)]
pub(crate) struct Clocks {
    readings: Vec<Reading>,
    /// Contacts that are still to be asked, because what others said is forgotten.
    unasked: usize,
    warned: bool,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The clock is off by so many seconds.
    Off(i64),
    /// It is not any more.
    Right,
}

impl Clocks {
    pub(crate) const fn new() -> Self {
        Self {
            readings: Vec::new(),
            unasked: 0,
            warned: false,
        }
    }

    /// What the own clocks showed at the last input, and what they show now.
    pub(crate) fn on_input(&mut self, before: Now, now: Now) {
        let ahead = apart(now).saturating_sub(apart(before));
        if ahead > SLEPT * 1000 && !self.readings.is_empty() {
            self.readings.clear();
            self.unasked = MAX_CLOCKS;
        }
    }

    /// How many contacts that were not heard are to be PINGed now, for nothing but their clocks.
    pub(crate) fn take_unasked(&mut self) -> usize {
        let some = self.unasked.min(ASKED_AT_ONCE);
        self.unasked -= some;
        some
    }

    /// Whether it is remembered what the clock of a contact said.
    pub(crate) fn has_heard(&self, id: NodeId) -> bool {
        let [first, ..] = id.to_limbs();
        self.readings.iter().any(|reading| reading.of == first)
    }

    /// A contact has said what its clock shows, half of its answer's way ago: at this instant of the own clock.
    pub(crate) fn read(&mut self, of: NodeId, site: Option<u64>, unix: UnixTime, at: Instant) {
        let ([of, ..], site) = (of.to_limbs(), site.unwrap_or_default());
        let apart = millis(unix).saturating_sub(monotonic_millis(at));
        self.readings.retain(|reading| reading.of != of);
        let same_site = |reading: &Reading| site != 0 && reading.site == site;
        let of_site = self.readings.iter().filter(|reading| same_site(reading)).count();
        if of_site >= MAX_PER_SITE
            && let Some(oldest) = self.readings.iter().position(same_site)
        {
            self.readings.remove(oldest);
        }
        if self.readings.len() >= MAX_CLOCKS {
            self.readings.remove(0);
        }
        if self.readings.len() == self.readings.capacity() {
            // Most nodes of a simulated network have asked few.
            self.readings.reserve_exact(ENOUGH);
        }
        self.readings.push(Reading { of, site, apart });
    }

    /// By how many seconds the clocks of contacts are ahead of the own one: less than zero if they are behind, `None`
    /// if too few are known. There are so many contacts now.
    pub(crate) fn offset(&self, now: Now, contacts: usize) -> Option<i64> {
        let own = apart(now);
        let mut room = [0; MAX_CLOCKS];
        let known = self.readings.len();
        for (place, reading) in room.iter_mut().zip(&self.readings) {
            *place = reading.apart.saturating_sub(own);
        }
        let known = &mut room[..known];
        known.sort_unstable();
        let enough = (contacts.min(MAX_CLOCKS) * ENOUGH_OF_ALL / 100).max(ENOUGH);
        let half = known.len() / 2;
        let middle = match known.len() {
            few if few < enough => return None,
            odd if odd % 2 == 1 => known[half],
            _ => known[half - 1].midpoint(known[half]),
        };
        Some(middle.saturating_add(middle.signum() * 500) / 1000)
    }

    /// What is to be told of the offset, if that has changed.
    pub(crate) fn note(&mut self, offset: Option<i64>) -> Option<Change> {
        let offset = offset?;
        match (self.warned, offset.unsigned_abs()) {
            (false, off) if off > WORTH_A_WARNING => {
                self.warned = true;
                Some(Change::Off(offset))
            }
            (true, off) if off <= AS_GOOD_AS_NONE => {
                self.warned = false;
                Some(Change::Right)
            }
            _ => None,
        }
    }
}

/// The own wall clock less the monotonic one, in milliseconds.
fn apart(now: Now) -> i64 {
    millis(now.unix).saturating_sub(monotonic_millis(now.monotonic))
}

/// In the middle of the second that a wall clock shows.
fn millis(unix: UnixTime) -> i64 {
    let secs = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    secs.saturating_mul(1000).saturating_add(500)
}

fn monotonic_millis(instant: Instant) -> i64 {
    i64::try_from(instant.as_micros() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Duration;

    const UNIX: u64 = 1_800_000_000;

    fn id(n: u64) -> NodeId {
        NodeId::from_limbs([n, 0, 0, 0])
    }

    fn now(secs: u64, ahead: i64) -> Now {
        Now {
            monotonic: Instant::ZERO + Duration::from_secs(secs),
            unix: UnixTime::from_secs((UNIX + secs).saturating_add_signed(ahead)),
        }
    }

    /// Readings at these offsets, each of another contact, a second apart.
    fn read(offsets: impl IntoIterator<Item = i64>) -> Clocks {
        let mut clocks = Clocks::new();
        for (n, offset) in (0..).zip(offsets) {
            let unix = UnixTime::from_secs((UNIX + n).saturating_add_signed(offset));
            clocks.read(id(n), None, unix, now(n, 0).monotonic);
        }
        clocks
    }

    fn offset(clocks: &Clocks, now: Now) -> Option<i64> {
        clocks.offset(now, clocks.readings.len())
    }

    #[test]
    fn the_median_says_how_far_the_own_clock_is_off() {
        let clocks = read([3, 900, 901, 899, -5, 900, 902]);
        assert_eq!(offset(&clocks, now(100, 0)), Some(900));
        assert_eq!(offset(&read([1, 1, 2, 2, 3, 3]), now(9, 0)), Some(2));
        // What changes is the own clock, later and with no new reading.
        assert_eq!(offset(&clocks, now(5_000, 900)), Some(0));
        assert_eq!(offset(&clocks, now(5_000, -900)), Some(1_800));
    }

    #[test]
    fn what_was_heard_before_a_sleep_is_forgotten_and_what_was_heard_before_a_clock_was_set_back_is_not() {
        for (ahead, left) in [
            (-86_400, 7),
            (0, 7),
            (59, 7),
            (62, 0),
            (86_400, 0),
            (i64::MAX, 0),
            (i64::MIN, 7),
        ] {
            let mut clocks = read([0; 7]);
            clocks.on_input(now(100, 0), now(100, ahead));
            assert_eq!(clocks.readings.len(), left, "{ahead} s");
        }
        // A node that sleeps for an hour and hears its contacts again.
        let mut clocks = read([0; 7]);
        assert_eq!(clocks.take_unasked(), 0);
        clocks.on_input(now(100, 0), now(100, 3_600));
        clocks.on_input(now(100, 3_600), now(100, 7_200));
        assert_eq!(clocks.offset(now(100, 3_600), 7), None);
        let asked: Vec<_> = (0..6).map(|_| clocks.take_unasked()).collect();
        assert_eq!(asked, [8, 8, 8, 8, 0, 0]);
        for n in 0..7 {
            let unix = UnixTime::from_secs(UNIX + 3_700 + n);
            clocks.read(id(n), None, unix, now(100 + n, 0).monotonic);
        }
        assert_eq!(clocks.offset(now(110, 3_600), 7), Some(0));
    }

    #[test]
    fn few_contacts_say_nothing() {
        let clocks = read([900; 5]);
        assert_eq!(offset(&clocks, now(9, 0)), Some(900));
        assert_eq!(clocks.offset(now(9, 0), 7), Some(900));
        assert_eq!(clocks.offset(now(9, 0), 8), None);
        assert_eq!(offset(&read([900; 4]), now(9, 0)), None);
    }

    #[test]
    fn the_first_few_of_many_contacts_say_nothing() {
        assert_eq!(read([900; 23]).offset(now(99, 0), 500), None);
        assert_eq!(read([900; 24]).offset(now(99, 0), 500), Some(900));
        assert_eq!(read([900; 7]).offset(now(99, 0), 10), Some(900));
    }

    #[test]
    fn fewer_than_half_who_lie_cannot_move_it_beyond_the_others() {
        let mut state = 7u64;
        for liars in 0..16usize {
            for lie in [i64::MIN, -1_000_000, 61, i64::MAX] {
                let honest = (0..32 - liars).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as i64 % 5 - 2
                });
                let clocks = read(honest.chain(core::iter::repeat_n(lie, liars)));
                let offset = offset(&clocks, now(100, 0));
                assert!(
                    offset.is_some_and(|offset| offset.abs() <= 2),
                    "{liars} say {lie}: {offset:?}"
                );
            }
        }
    }

    #[test]
    fn each_contact_counts_once_and_a_site_twice() {
        let mut clocks = read([0; 5]);
        for lie in 0..100 {
            let at = now(lie, 0).monotonic;
            clocks.read(id(9), None, UnixTime::from_secs(lie), at);
            clocks.read(id(100 + lie), Some(1), UnixTime::from_secs(lie), at);
        }
        assert_eq!(clocks.readings.len(), 5 + 1 + MAX_PER_SITE);
        assert_eq!(offset(&clocks, now(100, 0)), Some(0));
    }

    #[test]
    fn the_oldest_reading_makes_room() {
        let clocks = read((0..100).map(|n| if n < 68 { 900 } else { 0 }));
        assert_eq!(clocks.readings.len(), MAX_CLOCKS);
        assert_eq!(offset(&clocks, now(200, 0)), Some(0));
    }

    #[test]
    fn an_offset_is_warned_of_once_and_once_more_when_it_has_ended() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.note(None), None);
        assert_eq!(clocks.note(Some(-60)), None);
        assert_eq!(clocks.note(Some(-61)), Some(Change::Off(-61)));
        assert_eq!(clocks.note(Some(-5_000)), None);
        assert_eq!(clocks.note(Some(31)), None);
        assert_eq!(clocks.note(Some(30)), Some(Change::Right));
        assert_eq!(clocks.note(Some(31)), None);
    }
}
