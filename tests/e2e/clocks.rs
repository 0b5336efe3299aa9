//! A daemon whose clock differs from those of all its contacts.

use std::sync::Arc;

use kad_core::{Duration, Response};
use kad_net::quic::QuicTransport;
use kad_net::{Reply as _, Transport as _};
use nix::sys::signal::Signal;

use crate::hostile::attackers::{answer_to, codec, fair_answer, frame, member, now, target};
use crate::process::Daemon;

/// How far the clocks of the others are ahead.
const AHEAD: Duration = Duration::from_secs(900);

/// Answers a PING with a clock that is ahead, and everything else as an honest node does.
fn answer_from_the_future(node: &Arc<QuicTransport>) {
    let serving = node.clone();
    tokio::spawn(async move {
        while let Some(inbound) = serving.accept().await {
            let asked = codec().decode_request(now(), inbound.frame.clone()).unwrap();
            let answer = match asked.request {
                kad_core::Request::Ping => {
                    let pong = Response::Pong {
                        unix: now() + AHEAD,
                        observed: inbound.from.address.clone(),
                    };
                    codec().encode_response(now(), &pong).unwrap()
                }
                _ => fair_answer(&inbound.frame),
            };
            inbound.reply.send(answer).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_clock_is_off_says_so_in_its_log_and_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    // It looks at its clock as often as it removes what has expired.
    std::fs::write(&config, "[intervals]\nexpire = \"1s\"\n").unwrap();
    let mut daemon = Daemon::start(&["--config", config.to_str().unwrap()]);
    let to = target(&daemon);
    let mut members = Vec::new();
    for number in 0..6 {
        let member = Arc::new(member(number));
        answer_from_the_future(&member);
        // Whoever asks and is no client is PINGed, and enters the table with its answer.
        let ping = kad_core::Request::Ping;
        answer_to(&member, &to, frame(&ping), &ping).await;
        daemon.knows(&member.local().id.to_string());
        members.push(member);
    }
    // A second more or less, as neither side tells fractions.
    daemon.logs("this machine's clock is wrong: those of its contacts are ");
    let (code, last) = daemon.stop(Signal::SIGTERM);
    let offset = last["clock_offset"].as_i64();
    assert_eq!(code, Some(0));
    assert!(
        offset.is_some_and(|offset| (899..=901).contains(&offset)),
        "{offset:?}"
    );
}
