//! One function for each duty of [`Transport`].

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use kad_core::{Contact, Failure};

use super::exchange::{Bench, accepted, echoed, echoing, is_numbered, numbered, served};
use super::{Broken, Duty, Factory};
use crate::{MAX_FRAME, Reply, Transport, TransportError};

/// Requests of each side in [`many_at_once`].
const MANY: usize = 64;

/// How often [`cancelled_accept`] gives up waiting, at most: many times for each of its requests.
const DROPPED_ACCEPTS: usize = 4096;

pub(super) async fn proven_identities<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::ProvenIdentities;
    let keypair = bench.keypair();
    let id = keypair.node_id();
    let a = bench.factory.open(keypair).await;
    let b = bench.member().await;
    duty.check(
        a.local().id == id,
        "local() is not who the transport was opened as",
    )?;

    let to = b.local();
    let ask = async { echoed(duty, &a, &to, numbered(1, 100)).await };
    let answer = async {
        let inbound = accepted(duty, &b).await?;
        duty.check(inbound.from.id == id, "a request came from another id")?;
        duty.check(
            is_numbered(&inbound.frame, 1),
            "a request is not the one that was sent",
        )?;
        inbound.reply.send(inbound.frame).await;
        Ok(inbound.from)
    };
    let both = async { tokio::try_join!(ask, answer) };
    let (_, from) = bench.patiently(duty, "an exchange", both).await??;

    // Whoever asked can be asked back, and it is b who then asks.
    let ask = async { echoed(duty, &b, &from, numbered(2, 100)).await };
    let answer = async {
        let inbound = accepted(duty, &a).await?;
        duty.check(inbound.from.id == to.id, "a request back came from another id")?;
        inbound.reply.send(inbound.frame).await;
        Ok(())
    };
    let both = async { tokio::try_join!(ask, answer) };
    bench.patiently(duty, "an exchange back", both).await??;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn wrong_identity_refused<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::WrongIdentityRefused;
    let (a, b) = (bench.member().await, bench.member().await);
    let stranger = Contact::new(bench.keypair().node_id(), b.local().address);
    let (to, wrong) = (b.local(), numbered(1, 10));

    // Without a connection, and then with one that is open already.
    for _ in 0..2 {
        let asked = bench.patiently(
            duty,
            "a request to a wrong id",
            echoing(&b, a.request(&stranger, wrong.clone())),
        );
        match asked.await? {
            Some(Err(error)) => duty.check(
                error.failure() == Failure::WrongIdentity,
                format_args!("the failure is {:?}", error.failure()),
            )?,
            _ => return Err(duty.broken("a request to a wrong id was answered")),
        }
        let ask = async { echoed(duty, &a, &to, numbered(2, 20)).await };
        let answer = async {
            let inbound = accepted(duty, &b).await?;
            duty.check(is_numbered(&inbound.frame, 2), "the wrong node saw the request")?;
            inbound.reply.send(inbound.frame).await;
            Ok(())
        };
        let both = async { tokio::try_join!(ask, answer) };
        bench.patiently(duty, "a request to the right id", both).await??;
    }
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn identify<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::Identify;
    let (a, b) = (bench.member().await, bench.member().await);
    let work = async {
        let address = b.local().address;
        let known = a.identify(&address).await;
        let known = known.map_err(|error| duty.broken(format_args!("identify failed: {error}")))?;
        duty.check(known.id == b.local().id, "identify found somebody else")?;
        echoed(duty, &a, &known, numbered(1, 10)).await
    };
    let outcome = bench.patiently(duty, "identify", echoing(&b, work)).await?;
    served(duty, outcome)?;
    let nowhere = bench.factory.nowhere().await;
    let known = bench
        .patiently(duty, "identify where nobody is", a.identify(&nowhere))
        .await?;
    duty.check(known.is_err(), "identify found somebody where nobody is")?;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn frame_sizes<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::FrameSizes;
    let (a, b) = (bench.member().await, bench.member().await);
    let to = b.local();
    let sizes = async {
        for length in [0, 1, 1200, 16 * 1024, MAX_FRAME] {
            echoed(duty, &a, &to, numbered(length, length)).await?;
        }
        let too_large = a.request(&to, numbered(9, MAX_FRAME + 1)).await;
        duty.check(too_large.is_err(), "a request larger than MAX_FRAME was answered")?;
        echoed(duty, &a, &to, numbered(1, 10)).await
    };
    // An echo would hide that the larger request arrived.
    let serve = async {
        loop {
            let inbound = accepted(duty, &b).await?;
            let frame = &inbound.frame;
            let whole = is_numbered(frame, frame.len()) || is_numbered(frame, 1);
            duty.check(
                frame.len() <= MAX_FRAME && whole,
                "a request larger than MAX_FRAME arrived",
            )?;
            inbound.reply.send(inbound.frame).await;
        }
    };
    let exchange = async {
        tokio::select! {
            biased;
            done = sizes => done,
            stopped = serve => stopped,
        }
    };
    bench.patiently(duty, "an exchange", exchange).await??;

    let answer = async {
        let inbound = accepted(duty, &b).await?;
        inbound.reply.send(numbered(9, MAX_FRAME + 1)).await;
        Ok(())
    };
    let both = async { tokio::join!(a.request(&to, Bytes::new()), answer) };
    let (answered, sent) = bench.patiently(duty, "an answer that is too large", both).await?;
    sent?;
    duty.check(answered.is_err(), "an answer larger than MAX_FRAME arrived")?;
    let after = echoing(&b, echoed(duty, &a, &to, numbered(1, 10)));
    served(duty, bench.patiently(duty, "the exchange after", after).await?)?;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn many_at_once<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::ManyAtOnce;
    let (a, b) = (bench.member().await, bench.member().await);
    let (to_a, to_b) = (a.local(), b.local());
    let from_a = try_join_all((0..MANY).map(|n| echoed(duty, &a, &to_b, numbered(n, 10 + 97 * n))));
    let from_b = try_join_all((0..MANY).map(|n| echoed(duty, &b, &to_a, numbered(n, 11 + 89 * n))));
    let both = async { tokio::try_join!(from_a, from_b) };
    let served_by_both = async { echoing(&a, echoing(&b, both)).await.flatten() };
    let outcome = bench
        .patiently(duty, "many requests at once", served_by_both)
        .await?;
    served(duty, outcome)?;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn cancelled_request<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::CancelledRequest;
    let (a, b) = (bench.member().await, bench.member().await);
    let to = b.local();
    let cancel = async {
        // Moments in turns of the runtime, then in time: some fall before the handshake, some into the middle of it, of
        // the frame, or of the wait for an answer. The frame is the largest, so that sending it takes many steps.
        for round in 0..24 {
            let moment = async {
                match round {
                    0..16 => turns(1 << (round / 2)).await,
                    _ => tokio::time::sleep(Duration::from_micros(1 << (round - 12))).await,
                }
            };
            tokio::select! {
                biased;
                () = moment => {}
                answer = a.request(&to, numbered(round, MAX_FRAME)) => {
                    let answer = answer.map_err(|error| duty.broken(format_args!("a request failed: {error}")))?;
                    duty.check(is_numbered(&answer.frame, round), "an answer is not the one that was sent")?;
                }
            }
            echoed(duty, &a, &to, numbered(round, 10)).await?;
        }
        Ok(())
    };
    let serve = async {
        loop {
            let inbound = accepted(duty, &b).await?;
            let length = inbound.frame.len();
            let whole =
                (length == MAX_FRAME || length == 10) && (0..24).any(|n| is_numbered(&inbound.frame, n));
            duty.check(
                whole,
                format_args!("{length} bytes of a dropped request were taken for a whole one"),
            )?;
            inbound.reply.send(inbound.frame).await;
        }
    };
    let exchange = async {
        tokio::select! {
            biased;
            broken = serve => broken,
            done = cancel => done,
        }
    };
    bench
        .patiently(duty, "the request after a dropped one", exchange)
        .await??;
    a.close().await;
    b.close().await;
    Ok(())
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

pub(super) async fn cancelled_accept<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::CancelledAccept;
    let (a, b) = (bench.member().await, bench.member().await);
    let to = b.local();
    let ask = async {
        for n in 0..32 {
            echoed(duty, &a, &to, numbered(n, 1000)).await?;
        }
        Ok(())
    };
    let impatient = async {
        let mut dropped = 0;
        loop {
            // Without an end to this, a lost request would keep a paused clock from ever moving.
            let moment = async {
                match dropped {
                    0..DROPPED_ACCEPTS => turns(dropped % 5).await,
                    _ => std::future::pending().await,
                }
            };
            let inbound = tokio::select! {
                biased;
                inbound = b.accept() => inbound,
                () = moment => {
                    dropped += 1;
                    continue;
                }
            };
            let Some(inbound) = inbound else { break };
            inbound.reply.send(inbound.frame).await;
        }
    };
    let exchange = async {
        tokio::select! {
            biased;
            done = ask => done,
            () = impatient => Err(duty.broken("accept ended though nobody closed the transport")),
        }
    };
    bench
        .patiently(duty, "a request after a dropped accept", exchange)
        .await??;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn dropped_reply<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::DroppedReply;
    let (a, b) = (bench.member().await, bench.member().await);
    let to = b.local();
    let drop_one = async { accepted(duty, &b).await.map(drop) };
    let both = async { tokio::join!(a.request(&to, numbered(1, 10)), drop_one) };
    let (answer, dropped) = bench
        .patiently(duty, "a request whose reply was dropped", both)
        .await?;
    dropped?;
    match answer {
        Ok(_) => return Err(duty.broken("a request whose reply was dropped was answered")),
        Err(error) => duty.check(
            error.failure() == Failure::Busy,
            format_args!("the failure is {:?}", error.failure()),
        )?,
    }
    let after = echoing(&b, echoed(duty, &a, &to, numbered(1, 10)));
    served(duty, bench.patiently(duty, "the request after", after).await?)?;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn nowhere<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::Nowhere;
    let a = bench.member().await;
    let to = Contact::new(bench.keypair().node_id(), bench.factory.nowhere().await);
    let asked = a.request(&to, numbered(1, 10));
    match bench
        .patiently(duty, "a request to where nobody is", asked)
        .await?
    {
        Ok(_) => return Err(duty.broken("nobody answered")),
        Err(error) => duty.check(
            error.failure() == Failure::Unreachable,
            format_args!("the failure is {:?}", error.failure()),
        )?,
    }
    a.close().await;
    Ok(())
}

pub(super) async fn warmth<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::Warmth;
    let (a, b) = (bench.member().await, bench.member().await);
    let to = b.local();
    let work = async {
        let first = echoed(duty, &a, &to, numbered(1, 10)).await?;
        let second = echoed(duty, &a, &to, numbered(2, 10)).await?;
        duty.check(!first.warm, "the first request says that it found a connection")?;
        duty.check(second.warm, "the second request says that it found no connection")
    };
    served(duty, bench.patiently(duty, "a request", echoing(&b, work)).await?)?;
    a.close().await;
    b.close().await;
    Ok(())
}

pub(super) async fn close<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::Close;
    let (a, b) = (bench.member().await, bench.member().await);
    let (to_a, to_b) = (a.local(), b.local());
    // One request waits for an answer, one accept waits for a request, and then a is closed under both.
    let closing = async {
        let held = accepted(duty, &b).await?;
        a.close().await;
        Ok(held)
    };
    let all = async { tokio::join!(a.request(&to_b, numbered(1, 10)), a.accept(), closing) };
    let (asked, waited, held) = bench
        .patiently(duty, "what waited for a closed transport", all)
        .await?;
    let held = held?;
    duty.check(asked.is_err(), "a request ended well on a closed transport")?;
    duty.check(waited.is_none(), "a closed transport accepted a request")?;
    // Nobody is left to be told, and that is no error.
    let late = held.reply.send(Bytes::new());
    bench
        .patiently(duty, "an answer to one who is gone", late)
        .await?;

    bench.patiently(duty, "closing twice", a.close()).await?;
    let accepting = bench.patiently(duty, "accept after close", a.accept()).await?;
    duty.check(accepting.is_none(), "a closed transport accepted a request")?;
    let asked = a.request(&to_b, numbered(1, 10));
    match bench.patiently(duty, "a request after close", asked).await? {
        Ok(_) => return Err(duty.broken("a closed transport asked")),
        Err(error) => duty.check(
            error.failure() == Failure::Local,
            format_args!("the failure of a closed transport is {:?}", error.failure()),
        )?,
    }
    let known = bench
        .patiently(duty, "identify after close", a.identify(&to_b.address))
        .await?;
    duty.check(known.is_err(), "a closed transport identified somebody")?;
    let asked = b.request(&to_a, numbered(1, 10));
    let asked = bench
        .patiently(duty, "a request to a closed transport", asked)
        .await?;
    duty.check(asked.is_err(), "a closed transport answered")?;
    b.close().await;
    Ok(())
}

pub(super) async fn peer_closed<F: Factory>(bench: &mut Bench<'_, F>) -> Result<(), Broken> {
    let duty = Duty::PeerClosed;
    let (a, b) = (bench.member().await, bench.member().await);
    let to_b = b.local();
    let closing = async {
        let held = accepted(duty, &b).await?;
        b.close().await;
        Ok(held)
    };
    let both = async { tokio::join!(a.request(&to_b, numbered(1, 10)), closing) };
    let (asked, held) = bench
        .patiently(duty, "a request to a peer that closed", both)
        .await?;
    let _held = held?;
    duty.check(asked.is_err(), "a peer that closed answered")?;
    a.close().await;
    Ok(())
}
