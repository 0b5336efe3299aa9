//! The conformance suite holds for both transports of this crate, and finds each fault that is planted in one.

mod planted;
#[cfg(feature = "quic")]
mod quic;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use kad_core::Keypair;
use kad_net::conformance::{self, Duty, Factory};
use kad_net::memory::{Conditions, MemoryTransport, Network};

use self::planted::{Fault, Planted};

struct Memory {
    network: Network,
    opened: AtomicU16,
}

impl Memory {
    fn new(conditions: Conditions) -> Self {
        let network = Network::new(1, conditions);
        let opened = AtomicU16::new(0);
        Self { network, opened }
    }
}

impl Factory for Memory {
    type Transport = MemoryTransport;

    async fn open(&self, keypair: Keypair) -> MemoryTransport {
        let port = 4000 + self.opened.fetch_add(1, Ordering::Relaxed);
        self.network
            .join(keypair.node_id(), SocketAddr::from(([10, 0, 0, 1], port)))
    }

    async fn nowhere(&self) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 2], 1))
    }
}

/// One way of the slow paths on which a fault of the round trip shows.
const WAY: Duration = Duration::from_millis(10);

/// The memory transport with one fault.
struct Faulty(Memory, Fault);

impl Factory for Faulty {
    type Transport = Planted<MemoryTransport>;

    async fn open(&self, keypair: Keypair) -> Planted<MemoryTransport> {
        Planted::new(self.0.open(keypair).await, self.1)
    }

    async fn nowhere(&self) -> SocketAddr {
        self.0.nowhere().await
    }
}

#[tokio::test(start_paused = true)]
async fn memory_does_its_duties() {
    assert_eq!(
        conformance::run(&Memory::new(Conditions::default())).await,
        Ok(())
    );
}

#[tokio::test(start_paused = true)]
async fn memory_does_its_duties_on_slow_paths() {
    let delay = Duration::from_micros(50)..=Duration::from_millis(80);
    let memory = Memory::new(Conditions { delay, loss: 0.0 });
    assert_eq!(conformance::run(&memory).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_found_in_the_duty_that_it_breaks() {
    for (fault, duty) in [
        (Fault::None, None),
        (Fault::SaysItIsTheAsker, Some(Duty::ProvenIdentities)),
        (Fault::AsksAnybody, Some(Duty::WrongIdentityRefused)),
        (Fault::IdentifiesItself, Some(Duty::Identify)),
        (Fault::CutsFrames, Some(Duty::FrameSizes)),
        (Fault::AnswersAnything, Some(Duty::FrameSizes)),
        (Fault::MixesUpAnswers, Some(Duty::ManyAtOnce)),
        (Fault::SendsHalfWhenDropped, Some(Duty::CancelledRequest)),
        (Fault::LosesWhenAcceptIsDropped, Some(Duty::CancelledAccept)),
        (Fault::NeverDropsReplies, Some(Duty::DroppedReply)),
        (Fault::WaitsForNobody, Some(Duty::Nowhere)),
        (Fault::IsNeverWarm, Some(Duty::Warmth)),
        (Fault::IsAlwaysWarm, Some(Duty::Warmth)),
        (Fault::CountsTheDial, Some(Duty::RoundTrips)),
        (Fault::TookNoTime, Some(Duty::RoundTrips)),
        (Fault::AcceptsForever, Some(Duty::Close)),
        (Fault::WaitsForTheClosed, Some(Duty::PeerClosed)),
    ] {
        // Where the way takes no time, dialling takes none, and who counts it does no harm.
        let conditions = match fault {
            Fault::CountsTheDial => Conditions {
                delay: WAY..=WAY,
                loss: 0.0,
            },
            _ => Conditions::default(),
        };
        let found = conformance::run(&Faulty(Memory::new(conditions), fault)).await;
        assert_eq!(
            found.as_ref().err().map(|broken| broken.duty),
            duty,
            "{fault:?}: {found:?}"
        );
    }
}
