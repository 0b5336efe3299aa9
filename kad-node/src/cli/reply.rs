//! What a command says at its end: an answer on standard output, or one sentence on standard error.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use kad_net::quic;
use kad_node::{ConnectError, DenyFileError, JoinError, NodeError, SpawnError};
use serde_json::{Value, json};

/// Exit status: what was asked for is not to be had.
pub(crate) const NEGATIVE: u8 = 1;
/// Exit status: it could not even be tried.
pub(crate) const USAGE: u8 = 2;
/// Exit status: Ctrl-C, as shells count it (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// The outcome of a command that did what it was told.
#[derive(Debug)]
pub(crate) struct Answer {
    code: u8,
    told: bool,
    json: Value,
    text: String,
}

impl Answer {
    /// The same thing for a program and for a person; an empty text prints nothing.
    pub(crate) fn new(json: Value, text: String) -> Self {
        Self {
            code: 0,
            told: false,
            json,
            text,
        }
    }

    /// The same, of something that did not hold.
    pub(crate) fn negative(self) -> Self {
        Self {
            code: NEGATIVE,
            ..self
        }
    }

    /// The same, of something that was interrupted and got so far.
    pub(crate) fn interrupted(self) -> Self {
        Self {
            code: INTERRUPTED,
            ..self
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The same, which has been printed already.
    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    pub(crate) fn print(&self, json: bool) {
        if self.told {
            return;
        }
        if json {
            line(&self.json.to_string());
        } else if !self.text.is_empty() {
            line(&self.text);
        }
    }
}

impl Answer {
    /// The object as a line on standard error, for a command whose output is not its own.
    pub(crate) fn print_aside(&self) {
        if !self.told {
            aside(&self.json.to_string());
        }
    }
}

/// One line, or several, on standard output. A reader that has gone away wants no more, which is no error.
pub(crate) fn line(text: &str) {
    let _ = try_line(text);
}

/// The same, for a command that goes on: says whether anybody still reads.
pub(crate) fn try_line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|_| Failure::unwanted())
}

/// One line on standard error, of one thing of many. Nobody is left to be told if this fails.
pub(crate) fn aside(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Why a command failed: one sentence that says what was wrong and what to do, and an exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// Not found, not enough copies, no answer.
    pub(crate) fn negative(sentence: impl Into<String>) -> Self {
        Self {
            code: NEGATIVE,
            sentence: sentence.into(),
        }
    }

    /// Wrong usage or input.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            sentence: sentence.into(),
        }
    }

    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The same, told by the sentence that says what it was about, and by its own if that says what to do.
    pub(crate) fn about(self, sentence: &str) -> Self {
        let advice = self.sentence.split_once("; ").map(|(_, advice)| advice);
        Self {
            sentence: advice.map_or_else(|| sentence.to_owned(), |advice| format!("{sentence}; {advice}")),
            ..self
        }
    }

    /// The person does not need to be told what they did.
    pub(crate) fn interrupted() -> Self {
        Self {
            code: INTERRUPTED,
            sentence: String::new(),
        }
    }

    /// Whoever read standard output has gone away and wants no more, as `head` does.
    pub(crate) fn unwanted() -> Self {
        Self {
            code: 0,
            sentence: String::new(),
        }
    }

    pub(crate) fn print(&self, json: bool) {
        if self.sentence.is_empty() {
            return;
        }
        if json {
            line(&json!({ "error": self.sentence }).to_string());
        }
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stderr(), "error: {}", self.sentence);
    }

    /// The same, of a command whose output is not its own.
    pub(crate) fn print_aside(&self, json: bool) {
        if self.sentence.is_empty() {
            return;
        }
        aside(&format!("error: {}", self.sentence));
        if json {
            aside(&json!({ "error": self.sentence }).to_string());
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Node(error) => error.into(),
            ConnectError::Listen(_) => Self::usage(error.to_string()),
            ConnectError::Transport(quic::ConnectError::Ourselves) => Self::usage(
                "this is the id of this node itself; give that of the peer, as 'kad-node listen' tells it",
            ),
            other => Self::negative(other.to_string()),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Record(kad_core::RecordError::BadLifetime) => Self::usage(
                "the network does not allow so long or so short a life; give another one with --ttl",
            ),
            NodeError::Record(error) => Self::usage(error.to_string()),
            NodeError::QuorumNotMet { acknowledged, wanted } => Self::negative(format!(
                "only {acknowledged} of the {wanted} nodes that were needed acknowledged, and they keep the record until \
                 it expires; try again, or ask for less with --quorum"
            )),
            NodeError::Denied(refusal) => Self::usage(format!("this node does not want it: {refusal}")),
            NodeError::Conflict { current } => Self::negative(format!(
                "version {current} is there already; read it and write a newer one"
            )),
            other => Self::negative(other.to_string()),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        match &error {
            JoinError::NobodyKnown => Self::usage(
                "no bootstrap node is known, and none was heard in this network; give one with --bootstrap HOST:PORT, in KAD_BOOTSTRAP or in a file with \
                 --config",
            ),
            JoinError::Unreachable(_) => Self::usage(format!(
                "no bootstrap node can be used ({error}); check that it runs there and in the same network, and \
                 that this network lets UDP out"
            )),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        let advice = match &error {
            SpawnError::Bind(_) => "; give another address with --listen (port 0 is any free one)",
            SpawnError::Store(_) => "; move it away, or give another directory with --data",
            SpawnError::Data { .. } => "; give another directory with --data",
            SpawnError::Table(_) => "; give it other limits in the config file",
            SpawnError::Key(_) => "; give a file that 'kad-node key new' wrote",
            _ => "",
        };
        Self::usage(format!("{}{advice}", chain(&error)))
    }
}

impl From<DenyFileError> for Failure {
    fn from(error: DenyFileError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::usage(chain(error.as_ref()))
    }
}

/// An error and its causes, as far as they are not told yet, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let io = io::Error::other("the cable is out");
        let error = SpawnError::Data {
            path: "/data".into(),
            source: io,
        };
        assert_eq!(
            chain(&error),
            "the data directory /data cannot be used: the cable is out"
        );
    }

    #[test]
    fn sentences_say_what_to_do() {
        let lost = Failure::from(JoinError::NobodyKnown);
        assert_eq!(lost.code, USAGE);
        assert!(lost.sentence.contains("--bootstrap"));
        let few = Failure::from(NodeError::QuorumNotMet {
            acknowledged: 1,
            wanted: 3,
        });
        assert_eq!(few.code, NEGATIVE);
        assert!(few.sentence.contains("--quorum"));
    }
}
