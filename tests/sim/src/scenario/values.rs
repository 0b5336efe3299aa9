//! Values of scenario files that prove themselves when they are read, so that a mistake is told with its line.

use std::str::FromStr;

use kad_core::{Duration, Key};
use serde::Deserialize;

/// A share of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Share(pub(super) f64);

impl TryFrom<f64> for Share {
    type Error = &'static str;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        match (0.0..=0.9).contains(&share) {
            true => Ok(Self(share)),
            false => Err("a share is a number from 0 to 0.9"),
        }
    }
}

/// How often something happens in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Rate(pub(super) f64);

impl TryFrom<f64> for Rate {
    type Error = &'static str;

    fn try_from(rate: f64) -> Result<Self, Self::Error> {
        match (0.0..=1000.0).contains(&rate) {
            true => Ok(Self(rate)),
            false => Err("a rate is a number from 0 to 1000, for each node and second"),
        }
    }
}

/// A factor or a shape.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Positive(pub(super) f64);

impl TryFrom<f64> for Positive {
    type Error = &'static str;

    fn try_from(number: f64) -> Result<Self, Self::Error> {
        match (0.01..=100.0).contains(&number) {
            true => Ok(Self(number)),
            false => Err("this is a number from 0.01 to 100"),
        }
    }
}

/// A whole number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Between<const LEAST: i64, const MOST: i64>(i64);

impl<const LEAST: i64, const MOST: i64> TryFrom<i64> for Between<LEAST, MOST> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match (LEAST..=MOST).contains(&number) {
            true => Ok(Self(number)),
            false => Err(format!("this is a whole number from {LEAST} to {MOST}")),
        }
    }
}

impl<const LEAST: i64, const MOST: i64> Between<LEAST, MOST> {
    /// The bounds of every use are within those of `usize`.
    pub(super) const fn get(self) -> usize {
        self.0 as usize
    }
}

/// How many; a million is more than any of these things.
pub(super) type Count = Between<1, 1_000_000>;

/// A span of time as people write it. Up to a hundred days, beyond which no run comes to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        /// The longest.
        const LONGEST: Duration = Duration::from_secs(100 * 86_400);
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let span = humantime::parse_duration(&text).map_err(|error| {
            format!("{error}; a time is written like \"20ms\", \"90s\", \"10m\" or \"1h 30m\"")
        })?;
        match span <= LONGEST {
            true => Ok(Self(span)),
            false => Err("a time is 100 days at most".to_owned()),
        }
    }
}

/// Which key sybils gather at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Spot {
    Key(Key),
    FirstValue,
}

impl TryFrom<String> for Spot {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "first-value" => Ok(Self::FirstValue),
            digits => match Key::from_str(digits) {
                Ok(key) => Ok(Self::Key(key)),
                Err(_) => Err("this is \"first-value\" or a key of 64 hexadecimal digits"),
            },
        }
    }
}
