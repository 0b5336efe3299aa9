//! `listen`, `connect` and `forward`: bytes between two commands that know of each other only an id.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kad_net::quic::Protocol;
use kad_node::{ConnectError, Node, Peer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::{Daemon, kad_node, noise, outcome, path, run, run_with_input, text};

/// How long a listener may take for a whole test. Then it is killed, so that what waits for its words fails.
const LISTENS_FOR: Duration = Duration::from_secs(180);

/// A `kad-node listen` that has said who it is. Killed when dropped.
struct Listening {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    id: String,
    /// Dropped with it, which ends the watch.
    _watched: mpsc::SyncSender<()>,
}

impl Listening {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut child = kad_node()
            .args(["listen", "--json", "--listen", "127.0.0.1:0"])
            .args(["--bootstrap", &daemon.address])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (watched, watch) = mpsc::sync_channel::<()>(1);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        thread::spawn(move || {
            if watch.recv_timeout(LISTENS_FOR) == Err(mpsc::RecvTimeoutError::Timeout) {
                // It may have ended already.
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let mut listening = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
            id: String::new(),
            _watched: watched,
        };
        listening.id = text(&listening.says()["id"]);
        listening
    }

    /// The next object on its standard error.
    fn says(&mut self) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it has ended");
            if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                return value;
            }
        }
    }

    fn writes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn reads(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stdout.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn ends(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that is killed when it is dropped.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The object that a command whose output is the peer's prints last on standard error.
fn object(stderr: &str) -> Value {
    serde_json::from_str(stderr.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{stderr}"))
}

#[test]
fn two_pipes_meet_by_an_id_and_each_direction_ends_by_itself() {
    let daemon = Daemon::start::<&str>(&[]);
    let mut listening = Listening::start(&daemon, &[]);
    let (question, answer) = (noise(1, 3_000_000), noise(2, 1_000_000));
    let mut child = kad_node()
        .args(["connect", &listening.id, "--json", "--bootstrap", &daemon.address])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let asking = {
        let question = question.clone();
        thread::spawn(move || {
            stdin.write_all(&question).unwrap();
            // It ends here, and the answer is still to come.
            drop(stdin);
        })
    };
    let connecting = thread::spawn(move || outcome(child));
    assert!(listening.reads(question.len()) == question);
    asking.join().unwrap();
    listening.writes(&answer);
    drop(listening.stdin.take());
    let connected = connecting.join().unwrap();
    assert_eq!(connected.status.code(), Some(0), "{}", connected.stderr);
    assert!(connected.stdout == answer);
    let told = object(&connected.stderr);
    assert_eq!(told["peer"], listening.id.as_str());
    assert_eq!(
        (&told["sent"], &told["received"]),
        (&3_000_000.into(), &1_000_000.into())
    );
    assert_eq!(told["paths"][0]["kind"], "lan", "{told}");
    assert!(
        told["found_ms"].as_f64().is_some() && told["connected_ms"].as_f64() >= told["found_ms"].as_f64()
    );
    assert!(told["first_byte_ms"].as_f64() >= told["connected_ms"].as_f64());
    let told = listening.says();
    assert_eq!(
        (&told["sent"], &told["received"]),
        (&1_000_000.into(), &3_000_000.into())
    );
    assert_eq!(listening.ends(), Some(0));
}

#[test]
fn a_listener_that_keeps_on_serves_the_next_and_turns_away_whom_it_does_not_want() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("friend.key");
    let friend = text(&run(&["key", "new", "--out", path(&key), "--json"]).json()["id"]);
    let daemon = Daemon::start::<&str>(&[]);
    let mut listening = Listening::start(&daemon, &["chat/1", "--keep", "--from", &friend]);
    let id = listening.id.clone();
    let at = format!("--bootstrap={}", daemon.address);
    let connect = ["connect", &id, "chat/1", &at, "--key", path(&key)];
    drop(listening.stdin.take());
    for word in ["one", "two"] {
        let connected = run_with_input(&connect, word.as_bytes());
        assert_eq!(connected.status.code(), Some(0), "{}", connected.stderr);
        assert_eq!(listening.reads(3), word.as_bytes());
        assert!(connected.stderr.contains("looking for ") && connected.stderr.contains("connected"));
    }
    let stranger = run_with_input(&["connect", &id, "chat/1", &at, "--json"], b"three");
    assert_eq!(stranger.status.code(), Some(1), "{}", stranger.stderr);
    let error = text(&object(&stranger.stderr)["error"]);
    // It has heard that it was turned away, or it asked for a stream before it heard of that.
    assert!(
        error.contains("the peer closed the connection") || error.contains("does not know the connection"),
        "{error}"
    );
    // What is not listened for is told, and not waited for.
    let wrong = run_with_input(&["connect", &id, "other/1", &at, "--key", path(&key)], b"");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stderr.contains("listens for other/1"), "{}", wrong.stderr);
}

/// A service that reads to the end and then answers what it has read, backwards.
fn backwards() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // A client that breaks off is none of ours.
                if stream.read_to_end(&mut bytes).is_ok() {
                    bytes.reverse();
                    let _ = stream.write_all(&bytes);
                }
            });
        }
    });
    port
}

fn ask(at: &str, question: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    let mut answer = Vec::new();
    // A connection that is not forwarded is reset, perhaps before all was asked.
    let _ = stream
        .write_all(question)
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_end(&mut answer));
    answer
}

#[test]
fn ports_of_a_peer_are_ports_of_this_machine_if_the_peer_allows_them() {
    let (allowed, forbidden) = (backwards().to_string(), backwards().to_string());
    let first = Daemon::start::<&str>(&[]);
    let daemon = Daemon::start(&["--bootstrap", &first.address, "--allow-forward", &allowed]);
    let child = kad_node()
        .args(["forward", &daemon.id, "--json", "--bootstrap", &first.address])
        .args([format!("0:{allowed}"), format!("127.0.0.1:0:127.0.0.1:{allowed}")])
        .args([format!("0:{forbidden}"), format!("0:localhost:{allowed}")])
        .spawn()
        .unwrap();
    let mut forwarding = Guarded(child);
    let child = &mut forwarding.0;
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let local = |n: usize| text(&told["forwards"][n]["listen"]);
    let asking: Vec<_> = (0..8)
        .map(|n| {
            let at = local(n % 2);
            thread::spawn(move || {
                let question = noise(n as u64, 100_000 * n);
                let mut answer = ask(&at, &question);
                answer.reverse();
                assert!(answer == question, "connection {n}");
            })
        })
        .collect();
    for asking in asking {
        asking.join().unwrap();
    }
    assert_eq!(ask(&local(2), b"hello"), b"");
    assert_eq!(ask(&local(3), b"hello"), b"", "another name for what is allowed");
    let at = format!("--bootstrap={}", first.address);
    let piped = run_with_input(&["connect", &daemon.id, "--to", &allowed, &at], b"drawer");
    assert_eq!(piped.status.code(), Some(0), "{}", piped.stderr);
    assert_eq!(piped.stdout, b"reward");
    let refused = run_with_input(&["connect", &daemon.id, "--to", &forbidden, &at], b"drawer");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("is not allowed there"),
        "{}",
        refused.stderr
    );
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let mut complaints = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaints)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{complaints}");
    let told: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&told["connections"], &told["failed"]),
        (&8.into(), &2.into()),
        "{complaints}"
    );
    assert_eq!(told["sent"], 2_800_000);
    assert!(complaints.contains("is not allowed there"), "{complaints}");
}

/// A `kad-node forward` of one port. Killed when dropped.
struct Forwarding {
    child: Guarded,
    stdout: BufReader<ChildStdout>,
    /// Where it listens.
    at: String,
}

impl Forwarding {
    fn start(bootstrap: &Daemon, id: &str, port: u16) -> Self {
        let mut child = kad_node()
            .args(["forward", id, &format!("0:{port}"), "--json"])
            .args(["--bootstrap", &bootstrap.address])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let child = Guarded(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let at = text(&told["forwards"][0]["listen"]);
        Self { child, stdout, at }
    }

    /// Interrupts it, and what it says then.
    fn ends(mut self) -> Value {
        let pid = i32::try_from(self.child.0.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        serde_json::from_str(rest.lines().last().unwrap()).unwrap()
    }
}

/// Half of what there is to be said goes over a connection, and then whoever holds it resets it: it is closed while
/// something is there that nobody has read.
fn say_half(mut stream: &TcpStream) {
    stream.write_all(b"half").unwrap();
}

fn hear_half(mut stream: &TcpStream) {
    let mut half = [0; 4];
    stream.read_exact(&mut half).unwrap();
    assert_eq!(&half, b"half");
}

fn reset(stream: TcpStream) {
    stream.peek(&mut [0]).unwrap();
    drop(stream);
}

/// Reads to the end, which is none.
fn is_reset(mut stream: TcpStream) {
    let error = stream.read_to_end(&mut Vec::new()).expect_err("it looks whole");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_that_breaks_at_one_end_is_reset_at_the_other() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let first = Daemon::start::<&str>(&[]);
    let daemon = Daemon::start(&[
        "--bootstrap",
        &first.address,
        "--allow-forward",
        &port.to_string(),
    ]);
    let forwarding = Forwarding::start(&first, &daemon.id, port);
    let pair = || {
        let near = TcpStream::connect(&forwarding.at).unwrap();
        let (far, _) = service.accept().unwrap();
        (near, far)
    };

    let (near, far) = pair();
    say_half(&far);
    hear_half(&near);
    say_half(&near);
    reset(far);
    is_reset(near);

    let (near, far) = pair();
    say_half(&near);
    hear_half(&far);
    say_half(&far);
    reset(near);
    is_reset(far);

    // Whoever is told to stop cuts off what is under way, and that is no end either.
    let (near, far) = pair();
    say_half(&far);
    hear_half(&near);
    assert_eq!(forwarding.ends()["failed"], 2);
    is_reset(near);
    is_reset(far);
}

#[test]
fn a_peer_that_was_lost_is_connected_to_again_and_its_paths_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let service = backwards();
    let first = Daemon::start::<&str>(&[]);
    let arguments = [
        format!("--data={}", dir.path().display()),
        format!("--bootstrap={}", first.address),
        format!("--allow-forward={service}"),
    ];
    let daemon = Daemon::start(&arguments);
    let (id, address) = (daemon.id.clone(), daemon.address.clone());
    let forwarding = Forwarding::start(&first, &id, service);
    assert_eq!(ask(&forwarding.at, b"drawer"), b"reward");
    assert_eq!(daemon.stop(Signal::SIGTERM).0, Some(0));
    let mut daemon = Daemon::start_at(&address, &arguments);
    assert_eq!(daemon.id, id);
    // The first one to ask is the one that finds out that the peer was lost.
    assert_eq!(ask(&forwarding.at, b"reviled"), b"deliver");
    // And that it does not even know that it was.
    daemon.kill();
    let _daemon = Daemon::start_at(&address, &arguments);
    assert_eq!(ask(&forwarding.at, b"stressed"), b"desserts");
    let told = forwarding.ends();
    assert_eq!(
        (&told["connections"], &told["failed"]),
        (&3.into(), &0.into()),
        "{told}"
    );
    let paths = told["paths"].as_array().unwrap();
    let found = paths.iter().filter(|path| path["kind"].is_string()).count();
    assert!(found >= 2 && paths.last().unwrap()["kind"].is_string(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_opens_nothing_does_not_keep_a_listener_from_others() {
    let daemon = Daemon::start::<&str>(&[]);
    let mut listening = Listening::start(&daemon, &[]);
    let stranger = Node::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .bootstrap(daemon.address.parse::<Peer>().unwrap())
        .spawn()
        .await
        .unwrap();
    stranger.joined().await.unwrap();
    let id = listening.id.parse().unwrap();
    let protocol: Protocol = "nautilus-kad/pipe/1".parse().unwrap();
    // A card is out some time after its node has said its id.
    let silent = loop {
        match stranger.connect(id, protocol.clone()).await {
            Err(ConnectError::NotFound { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            connected => break connected.unwrap(),
        }
    };
    // It is the first in the queue.
    let at = format!("--bootstrap={}", daemon.address);
    let arguments = ["connect".to_owned(), listening.id.clone(), at];
    drop(listening.stdin.take());
    let friend = tokio::task::spawn_blocking(move || run_with_input(&arguments, b"drawer"));
    assert_eq!(listening.reads(6), b"drawer");
    let friend = friend.await.unwrap();
    assert_eq!(friend.status.code(), Some(0), "{}", friend.stderr);
    assert_eq!(listening.ends(), Some(0));
    drop(silent);
}

#[test]
fn who_cannot_be_connected_to_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("own.key");
    let own = text(&run(&["key", "new", "--out", path(&key), "--json"]).json()["id"]);
    let daemon = Daemon::start::<&str>(&[]);
    let at = format!("--bootstrap={}", daemon.address);
    let nobody = run_with_input(&["connect", &"ab".repeat(32), &at], b"");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        nobody.stderr.contains("not found") && nobody.stderr.contains("check the id"),
        "{}",
        nobody.stderr
    );
    let itself = run_with_input(&["connect", &own, &at, "--key", path(&key)], b"");
    assert_eq!(itself.status.code(), Some(2), "{}", itself.stderr);
    let deaf = run_with_input(&["connect", &daemon.id, &at], b"");
    assert_eq!(deaf.status.code(), Some(1));
    assert!(deaf.stderr.contains("listens for"), "{}", deaf.stderr);
    for (arguments, why) in [
        (vec!["run", "--from", own.as_str()], "--allow-forward"),
        (vec!["run", "--allow-forward", "ssh"], "port"),
        (vec!["forward", own.as_str(), "22"], "LOCAL_PORT:REMOTE_PORT"),
        (vec!["connect", own.as_str(), ""], "1 to 64"),
    ] {
        let refused = run(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = format!("{}:22", taken.local_addr().unwrap().port());
    let busy = run(&["forward", &daemon.id, &spec, &at]);
    assert_eq!(busy.status.code(), Some(2));
    assert!(busy.stderr.contains("another local port"), "{}", busy.stderr);
}

#[test]
fn nodes_of_one_network_find_each_other_without_a_bootstrap_node() {
    // Others may run this test on the same machine.
    let network = format!("neighbours of {}", std::process::id());
    let arguments = ["--mdns", "--network", &network];
    let mut first = Daemon::start(&arguments);
    let second = Daemon::start(&arguments);
    first.knows(&second.id);
    let mut other = Daemon::start(&["--mdns", "--network", &format!("not {network}")]);
    other.logs("no bootstrap node is known, and none was heard");
    let mut deaf = Daemon::start(&["--no-mdns", "--network", &network]);
    deaf.logs("no bootstrap node is known, and none was heard");
}
