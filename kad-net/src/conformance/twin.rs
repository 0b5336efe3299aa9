//! The same through [`DynTransport`], in short: that nothing gets lost where types are erased.

use std::pin::pin;
use std::sync::Arc;

use kad_core::Failure;

use super::exchange::{Bench, numbered};
use super::{Broken, Duty, Factory};
use crate::{DynTransport, Transport, TransportError as _};

pub(super) async fn dyn_twin<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    type Twin<A> = Arc<dyn DynTransport<A>>;
    let duty = Duty::DynTwin;
    let a: Twin<<F::Transport as Transport>::Address> = Arc::new(bench.member().await);
    let b: Twin<<F::Transport as Transport>::Address> = Arc::new(bench.member().await);
    let known = bench
        .patiently(duty, "identify", a.identify(&b.local().address))
        .await?;
    let known = known.map_err(|error| duty.broken(format_args!("identify failed: {error}")))?;
    duty.check(known.id == b.local().id, "identify found somebody else")?;

    let frame = numbered(1, 1000);
    let answer = async {
        let inbound = b.accept().await.ok_or_else(|| duty.broken("accept ended"))?;
        duty.check(inbound.from.id == a.local().id, "a request came from another id")?;
        inbound.reply.send(inbound.frame).await;
        Ok(())
    };
    let both = async { tokio::join!(a.request(&known, frame.clone()), answer) };
    let (asked, answered) = bench.patiently(duty, "an exchange", both).await?;
    answered?;
    let asked = asked.map_err(|error| duty.broken(format_args!("a request failed: {error}")))?;
    duty.check(asked.frame == frame, "an answer is not the one that was sent")?;

    let drop_one = async { b.accept().await.map(drop) };
    let both = async { tokio::join!(a.request(&known, frame.clone()), drop_one) };
    let (asked, _) = bench
        .patiently(duty, "a request whose reply was dropped", both)
        .await?;
    let failure = asked.err().map(|error| error.failure());
    duty.check(
        failure == Some(Failure::Busy),
        format_args!("the failure is {failure:?}"),
    )?;

    let mut waiting = pin!(a.accept());
    let closing = async { tokio::join!(&mut waiting, a.close()) };
    let (waited, ()) = bench.patiently(duty, "closing", closing).await?;
    duty.check(waited.is_none(), "a closed transport accepted a request")?;
    bench.patiently(duty, "closing", b.close()).await
}
