//! A contact of the table, and what was seen of it.

use crate::{Address, Contact, Duration, Instant};

/// A contact and what was seen of it.
#[derive(Debug, Clone)]
pub(super) struct Known<A> {
    pub(super) contact: Contact<A>,
    pub(super) last_seen: Instant,
    /// Smoothed round trip in microseconds, 0 while none was measured.
    rtt: u32,
    /// Its mean deviation in microseconds.
    deviation: Micros24,
    marks: Marks,
}

/// Requests in a row that failed, and in the uppermost bit whether the contact has tenure. In one byte, because a
/// second would cost eight for each contact.
#[derive(Debug, Clone, Copy, Default)]
struct Marks(u8);

/// The bit for tenure.
const TENURE: u8 = 1 << 7;

/// Failures in a row that can be counted.
pub(super) const MOST_FAILURES: u8 = TENURE - 1;

/// Up to 16.7 s in microseconds, big-endian. In three bytes, because a fourth would cost eight for each contact.
#[derive(Debug, Clone, Copy, Default)]
struct Micros24([u8; 3]);

impl Micros24 {
    const fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }

    fn saturating(micros: u32) -> Self {
        let [_, a, b, c] = micros.min((1 << 24) - 1).to_be_bytes();
        Self([a, b, c])
    }
}

/// A contact of the table, and what was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'t, A> {
    /// Who and where.
    pub contact: &'t Contact<A>,
    /// When it last answered.
    pub last_seen: Instant,
    /// Its smoothed round trip, if one was measured.
    pub rtt: Option<Duration>,
    /// The mean deviation of its round trips.
    pub deviation: Duration,
    /// Requests in a row that failed.
    pub failures: u8,
}

impl<A: Address> Known<A> {
    pub(super) fn new(now: Instant, contact: &Contact<A>, rtt: Option<Duration>) -> Self {
        let mut known = Self {
            contact: contact.clone(),
            last_seen: now,
            rtt: 0,
            deviation: Micros24::default(),
            marks: Marks::default(),
        };
        known.measure(rtt);
        known
    }

    pub(super) fn answered(&mut self, now: Instant, contact: &Contact<A>, rtt: Option<Duration>) {
        if self.contact.address != contact.address {
            self.contact.address = contact.address.clone();
            (self.rtt, self.deviation) = (0, Micros24::default());
        }
        self.last_seen = now;
        self.marks.0 &= TENURE;
        self.measure(rtt);
    }

    /// One more request has failed.
    pub(super) fn fail(&mut self) {
        if self.failures() < MOST_FAILURES {
            self.marks.0 += 1;
        }
    }

    /// Requests in a row that failed.
    pub(super) const fn failures(&self) -> u8 {
        self.marks.0 & MOST_FAILURES
    }

    /// Whether nobody may take its place for being faster: see `proximity.rs`.
    pub(super) const fn is_tenured(&self) -> bool {
        self.marks.0 & TENURE != 0
    }

    pub(super) const fn set_tenured(&mut self, tenured: bool) {
        self.marks.0 = self.failures() | if tenured { TENURE } else { 0 };
    }

    /// Its smoothed round trip in microseconds, if one was measured.
    pub(super) fn rtt(&self) -> Option<u32> {
        (self.rtt != 0).then_some(self.rtt)
    }

    /// RFC 6298, section 2, in whole microseconds.
    fn measure(&mut self, rtt: Option<Duration>) {
        let Some(rtt) = rtt else { return };
        let sample = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        if self.rtt == 0 {
            (self.rtt, self.deviation) = (sample, Micros24::saturating(sample / 2));
            return;
        }
        let off = self.rtt.abs_diff(sample);
        let deviation = self.deviation.get();
        self.deviation = Micros24::saturating(deviation - deviation / 4 + off / 4);
        self.rtt = (self.rtt - self.rtt / 8).saturating_add(sample / 8).max(1);
    }

    pub(super) fn entry(&self) -> Entry<'_, A> {
        Entry {
            contact: &self.contact,
            last_seen: self.last_seen,
            rtt: self.rtt().map(|micros| Duration::from_micros(micros.into())),
            deviation: Duration::from_micros(self.deviation.get().into()),
            failures: self.failures(),
        }
    }
}
