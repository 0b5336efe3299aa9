//! Daemons and commands as child processes, all ended when their test ends.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::outcome::Outcome;

/// No step of any test takes so long, even on a busy machine: the longest is a dial that nobody answers, 6 seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The command under test, with nothing of the caller's environment that it would read.
pub(crate) fn kad_node() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kad-node"));
    command
        .env_remove("KAD_BOOTSTRAP")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Outcome {
    finish(kad_node().args(arguments))
}

/// Runs a command to its end, with something on its standard input.
pub(crate) fn run_with_input<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Outcome {
    let mut command = kad_node();
    let mut child = command.args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    outcome(child)
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command) -> Outcome {
    outcome(command.spawn().unwrap())
}

/// Waits for a child, and for no longer than the deadline.
pub(crate) fn outcome(mut child: Child) -> Outcome {
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(DEADLINE), stderr.recv_timeout(DEADLINE)) else {
        child.kill().unwrap();
        panic!("the command did not end in {DEADLINE:?}");
    };
    let status = child.wait().unwrap();
    Outcome {
        status,
        stdout,
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Looks again until something holds, and for no longer than the deadline.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
    }
}

/// Lines that nobody has asked for yet; no test lets a daemon log as much.
const MAX_UNREAD_LINES: usize = 100_000;

fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let _ = sender.send(bytes);
    });
    receiver
}

fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(MAX_UNREAD_LINES);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What a field of an answer says.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes without repetition, others for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A `kad-node run` that has said who it is. Killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// Everything logged so far, for the message of a failing test.
    log: Vec<String>,
    pub(crate) id: String,
    /// Where it listens.
    pub(crate) address: String,
    pub(crate) network: String,
}

impl Daemon {
    /// Starts one on a free port of loopback.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: &[S]) -> Self {
        Self::start_at("127.0.0.1:0", arguments)
    }

    /// Starts one with a directory for its data.
    pub(crate) fn with_data(data: &Path, bootstrap: Option<&Self>) -> Self {
        let mut arguments = vec!["--data".to_owned(), data.display().to_string()];
        arguments.extend(bootstrap.map(|daemon| format!("--bootstrap={}", daemon.address)));
        Self::start(&arguments)
    }

    pub(crate) fn start_at<S: AsRef<OsStr>>(listen: &str, arguments: &[S]) -> Self {
        Self::command("run", listen, arguments)
    }

    /// Starts one by another command than `run`.
    pub(crate) fn command<S: AsRef<OsStr>>(command: &str, listen: &str, arguments: &[S]) -> Self {
        let mut child = kad_node()
            .args([command, "--json", "--listen", listen])
            .args(arguments)
            .env("RUST_LOG", "info,kad_node=debug")
            .spawn()
            .unwrap();
        let stdout = read_lines(child.stdout.take().unwrap());
        let stderr = read_lines(child.stderr.take().unwrap());
        let Ok(first) = stdout.recv_timeout(DEADLINE) else {
            child.kill().unwrap();
            panic!("no first line: {:?}", stderr.iter().collect::<Vec<_>>());
        };
        let fields: Value = serde_json::from_str(&first).unwrap();
        let text = |value: &Value| {
            value
                .as_str()
                .unwrap_or_else(|| panic!("{first} lacks a field"))
                .to_owned()
        };
        Self {
            child,
            stdout,
            stderr,
            log: Vec::new(),
            id: text(&fields["id"]),
            address: text(&fields["addresses"][0]),
            network: text(&fields["network"]),
        }
    }

    /// As many daemons as asked for, of which each knows the first, and the first knows all.
    pub(crate) fn network(count: usize) -> Vec<Self> {
        let mut daemons = vec![Self::start::<&str>(&[])];
        for _ in 1..count {
            let daemon = Self::start(&["--bootstrap", daemons[0].address.as_str()]);
            daemons[0].knows(&daemon.id);
            daemons.push(daemon);
        }
        for daemon in &mut daemons[1..] {
            daemon.logs("joined the network");
        }
        daemons
    }

    /// Waits until a line of the log contains this.
    pub(crate) fn logs(&mut self, what: &str) {
        if self.log.iter().any(|line| line.contains(what)) {
            return;
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(what);
                    self.log.push(line);
                    if found {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{what:?} was never logged:\n{}", self.log.join("\n"));
                }
            }
        }
    }

    /// The last of the reports that it has printed and nobody has read yet.
    pub(crate) fn last_report(&mut self) -> Option<Value> {
        let last = self.stdout.try_iter().last()?;
        let mut line: Value = serde_json::from_str(&last).unwrap();
        Some(line["report"].take())
    }

    /// The next report that it prints.
    pub(crate) fn next_report(&mut self) -> Value {
        self.stdout.try_iter().for_each(drop);
        self.says()["report"].take()
    }

    /// Waits for the next line of its output.
    pub(crate) fn says(&self) -> Value {
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(error) => panic!("it says nothing: {error}"),
        }
    }

    /// Waits until it has a contact in its table.
    pub(crate) fn knows(&mut self, id: &str) {
        self.logs(&format!("contact added id={id}"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Asks it to stop and returns its exit status and its last line.
    pub(crate) fn stop(mut self, signal: Signal) -> (Option<i32>, Value) {
        self.signal(signal);
        let mut last = None;
        loop {
            match self.stdout.recv_timeout(DEADLINE) {
                Ok(line) => last = Some(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not stop:\n{}", self.log.join("\n")),
            }
        }
        let status = self.child.wait().unwrap();
        let last = last.map_or(Value::Null, |line| serde_json::from_str(&line).unwrap());
        (status.code(), last)
    }

    /// A figure of its process in KiB, as the system names it, such as `VmRSS`.
    pub(crate) fn kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let figure = line.and_then(|line| line.split_whitespace().next());
        figure
            .unwrap_or_else(|| panic!("no {name} of a daemon that runs"))
            .parse()
            .unwrap()
    }

    /// Ends it as a power cut would end its process.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
