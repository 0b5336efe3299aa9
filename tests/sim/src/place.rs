//! Where a simulated node is: an address of four bytes that knows its groups.

use kad_core::{Address, AddressGroups};

/// The address of a simulated node: its number, and the site that it is at.
///
/// Four bytes, because a table of a hundred thousand nodes' density has some three hundred of them and a simulation has
/// as many tables as nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u32);

/// Bits of a place that number the node: sixteen million nodes.
const NUMBER_BITS: u32 = 24;

/// Where a node stands in the address space, which decides how many of its kind others let into their tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// A private network, in which addresses have no groups and nothing is limited.
    Private,
    /// Somewhere on the internet: a /24 of its own, in one of [`WIDE_GROUPS`] /16.
    Scattered,
    /// One of 200 shared sites, each a /24; sites with the same number divided by four share a /16.
    Shared(u8),
}

/// The /16 over which [`Site::Scattered`] nodes are spread. About as many are announced on the internet.
pub const WIDE_GROUPS: u32 = 40_000;

impl Place {
    /// The most nodes that a simulation can number.
    pub const MAX_NUMBER: u32 = (1 << NUMBER_BITS) - 1;

    /// The node of this number, at this site.
    ///
    /// # Panics
    /// If the number is above [`MAX_NUMBER`](Self::MAX_NUMBER) or the site above 200: a bug of the experiment.
    #[must_use]
    pub fn new(number: u32, site: Site) -> Self {
        assert!(
            number <= Self::MAX_NUMBER,
            "a simulation numbers {} nodes",
            Self::MAX_NUMBER
        );
        let tag = match site {
            Site::Private => 0,
            Site::Scattered => 1,
            Site::Shared(site) => {
                assert!(site <= 200, "there are 200 shared sites");
                2 + u32::from(site)
            }
        };
        Self(tag << NUMBER_BITS | number)
    }

    /// The number of the node.
    #[must_use]
    pub const fn number(self) -> usize {
        (self.0 & Self::MAX_NUMBER) as usize
    }
}

/// The number and, where it is not private, the site.
impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 >> NUMBER_BITS {
            0 => write!(f, "#{}", self.number()),
            1 => write!(f, "#{}@net", self.number()),
            tag => write!(f, "#{}@site{}", self.number(), tag - 2),
        }
    }
}

impl Address for Place {
    fn groups(&self) -> Option<AddressGroups> {
        let number = self.0 & Self::MAX_NUMBER;
        match self.0 >> NUMBER_BITS {
            0 => None,
            1 => Some(AddressGroups {
                wide: u64::from(number.wrapping_mul(0x9e37_79b1) % WIDE_GROUPS),
                narrow: 1 << 32 | u64::from(number),
                host: 2 << 32 | u64::from(number),
            }),
            tag => Some(AddressGroups {
                wide: 3 << 32 | u64::from((tag - 2) / 4),
                narrow: 4 << 32 | u64::from(tag - 2),
                host: 2 << 32 | u64::from(number),
            }),
        }
    }
}
