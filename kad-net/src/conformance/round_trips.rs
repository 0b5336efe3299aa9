//! That answers say how long they took, and that dialling is no part of it.

use std::time::Duration;

use tokio::time::Instant;

use super::exchange::{Bench, accepted, numbered, within};
use super::{Broken, Duty, Factory};
use crate::{Answer, Reply, Transport};

/// How long the peer keeps an answer back: far above what clocks differ by, and little to wait for.
const HOLD: Duration = Duration::from_millis(20);

/// Pairs of strangers that are tried. One at which dialling was left out is proof enough: on a busy machine any of the
/// others may have been kept waiting between its dial and its question.
const PAIRS: usize = 4;

/// One exchange, seen from outside.
struct Seen {
    answer: Answer,
    /// From the request to its answer.
    all: Duration,
    /// How long the peer kept the answer back.
    held: Duration,
}

pub(super) async fn round_trips<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::RoundTrips;
    let mut dial = Duration::MAX;
    for _ in 0..PAIRS {
        let (a, b) = (bench.member().await, bench.member().await);
        let address = b.local().address;
        let started = Instant::now();
        let known = bench.patiently(duty, "identify", a.identify(&address)).await?;
        dial = dial.min(started.elapsed());
        known.map_err(|error| duty.broken(format_args!("identify failed: {error}")))?;
        a.close().await;
        b.close().await;
    }
    let mut outside = Duration::ZERO;
    for _ in 0..PAIRS {
        let (a, b) = (bench.member().await, bench.member().await);
        let cold = seen(bench, &a, &b).await?;
        outside = outside.max(cold.all.saturating_sub(cold.answer.took));
        for seen in [cold, seen(bench, &a, &b).await?] {
            let Seen { answer, all, held } = seen;
            let (took, warm) = (answer.took, answer.warm);
            duty.check(
                held <= took,
                format_args!("took {took:?} (warm: {warm}), and the peer alone {held:?}"),
            )?;
            duty.check(
                took <= all,
                format_args!("took {took:?} (warm: {warm}) of {all:?} in all"),
            )?;
        }
        a.close().await;
        b.close().await;
    }
    duty.check(
        outside >= dial / 2,
        format_args!(
            "a dial takes {dial:?}, and all but {outside:?} of a first exchange was told as its round trip"
        ),
    )
}

/// An exchange whose answer is kept back for a while.
async fn seen<F: Factory>(bench: &Bench<'_, F>, a: &F::Transport, b: &F::Transport) -> Result<Seen, Broken> {
    let duty = Duty::RoundTrips;
    let to = b.local();
    let ask = async {
        let started = Instant::now();
        let answer = a.request(&to, numbered(1, 100)).await;
        let answer = answer.map_err(|error| duty.broken(format_args!("a request failed: {error}")))?;
        Ok((answer, started.elapsed()))
    };
    let hold = async {
        let inbound = accepted(duty, b).await?;
        let began = Instant::now();
        tokio::time::sleep(HOLD).await;
        let held = began.elapsed();
        inbound.reply.send(inbound.frame).await;
        Ok(held)
    };
    let both = async { tokio::try_join!(ask, hold) };
    let ((answer, all), held) = within(bench.factory.patience(), duty, "an exchange", both).await??;
    Ok(Seen { answer, all, held })
}
