//! What nodes say to each other about reaching each other.

use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, NodeId};
use kad_net::nat::relay::SessionId;

/// One message, or one raw packet.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) enum Word {
    /// Whoever dials asks where it is seen.
    Hello,
    /// There.
    Heard { own: u16 },
    /// A client asks a helper to have an address probed.
    Check { address: SocketAddr, nonce: [u8; 16] },
    /// The helper asks a target.
    DialBack { address: SocketAddr, nonce: [u8; 16] },
    /// What the target said.
    DialledBack { nonce: [u8; 16], accepted: bool },
    /// What the helper said.
    Checked { nonce: [u8; 16], passed_on: bool },
    /// A raw packet.
    Probe { nonce: [u8; 16] },
    /// A client asks for a place.
    Reserve,
    /// It has one.
    Reserved { lifetime: Duration },
    /// It has none, or no more.
    NoPlace,
    /// It wants it no more.
    Release,
    /// It is still there: every 15 s.
    Keep,
    /// So is the relay, which sees it at this port.
    Kept { own: u16 },
    /// A session with somebody who has a place.
    Open { meeting: u32, to: NodeId },
    /// Both are told of it, where the other is seen, and where they are seen themselves.
    Opened {
        meeting: u32,
        session: SessionId,
        peer: IpAddr,
        own: SocketAddr,
        asks: bool,
    },
    /// There is none.
    NotOpened { meeting: u32 },
    /// One of the two ends it.
    Close { session: SessionId },
    /// A datagram for the other end.
    Relay {
        meeting: u32,
        session: SessionId,
        bytes: u16,
        flight: Flight,
    },
    /// The asking end asks for a round of punches.
    Meet { meeting: u32, peer: NodeId },
    /// Both are told to begin.
    Go { meeting: u32, wait: Duration },
    /// A raw packet; its MAC is right.
    Punch { meeting: u32 },
    /// The first packet of a handshake.
    Initial { meeting: u32 },
    /// The answer to it.
    Answer { meeting: u32 },
    /// The last one.
    Finished { meeting: u32 },
}

/// What a relayed datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Flight {
    /// A handshake begins.
    Initial,
    /// Its answer.
    Answer,
    /// It ends, and the first request goes with it, and where the asking end is.
    Request,
    /// The first answer, and where the other end is.
    Reply,
    /// What applications say.
    Data,
}

impl Word {
    /// Whether it goes over a connection, which is made first where there is none.
    pub(super) const fn is_asked(&self) -> bool {
        matches!(
            self,
            Self::Check { .. }
                | Self::DialBack { .. }
                | Self::Hello
                | Self::Reserve
                | Self::Release
                | Self::Keep
                | Self::Open { .. }
                | Self::Meet { .. }
        )
    }

    /// A number for each kind.
    pub(in crate::world) const fn number(&self) -> u64 {
        match self {
            Self::Hello => 99,
            Self::Heard { .. } => 100,
            Self::Check { .. } => 101,
            Self::DialBack { .. } => 102,
            Self::DialledBack { .. } => 103,
            Self::Checked { .. } => 104,
            Self::Probe { .. } => 105,
            Self::Reserve => 106,
            Self::Reserved { .. } => 107,
            Self::NoPlace => 108,
            Self::Release => 109,
            Self::Keep => 110,
            Self::Kept { .. } => 111,
            Self::Open { .. } => 112,
            Self::Opened { .. } => 113,
            Self::NotOpened { .. } => 114,
            Self::Close { .. } => 115,
            Self::Relay { .. } => 116,
            Self::Meet { .. } => 117,
            Self::Go { .. } => 118,
            Self::Punch { .. } => 119,
            Self::Initial { .. } => 120,
            Self::Answer { .. } => 121,
            Self::Finished { .. } => 122,
        }
    }
}
