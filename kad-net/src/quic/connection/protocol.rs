//! What two applications mean to say to each other over a connection.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes: room for a host name and a version.
pub const MAX_PROTOCOL: usize = 64;

/// The name of what is spoken over a connection, such as `example.org/chat/1`: 1 to [`MAX_PROTOCOL`] bytes of UTF-8.
///
/// A peer listens for names, and a connection is for one of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(Arc<str>);

impl Protocol {
    /// From its name.
    ///
    /// # Errors
    /// When the name is empty or too long.
    pub fn new(name: &str) -> Result<Self, InvalidProtocol> {
        match name.len() {
            1..=MAX_PROTOCOL => Ok(Self(name.into())),
            bytes => Err(InvalidProtocol { bytes }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(name: &str) -> Result<Self, InvalidProtocol> {
        Self::new(name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The name of a protocol was empty or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a protocol has 1 to {MAX_PROTOCOL} bytes, and this one has {bytes}: choose another name"
)]
#[non_exhaustive]
pub struct InvalidProtocol {
    /// How many bytes it had.
    pub bytes: usize,
}
