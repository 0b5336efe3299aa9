//! The wire codec as others use it: round trips, refusals, hostile bytes, another implementation, and the vectors of
//! `docs/protocol.md`.

mod hostile;
mod messages;
mod network;
mod oracle;
mod reach;
mod reading;
mod refusals;
mod round_trip;
mod vectors;
