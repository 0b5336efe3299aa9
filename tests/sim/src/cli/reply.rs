//! What a command says at its end: an answer on standard output, or one sentence on standard error.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

/// Exit status: a target is lost, or something is out of date.
const NEGATIVE: u8 = 1;
/// Exit status: it could not even be tried.
pub(crate) const USAGE: u8 = 2;

/// The outcome of a command that did what it was told.
#[derive(Debug)]
pub(crate) struct Answer {
    code: u8,
    json: Value,
    text: String,
    sentences: Vec<String>,
}

impl Answer {
    /// The same thing for a program and for a person; an empty text prints nothing.
    pub(crate) const fn new(json: Value, text: String) -> Self {
        Self {
            code: 0,
            json,
            text,
            sentences: Vec::new(),
        }
    }

    /// The same, of something that did not hold: these sentences, on standard error, say what. As it is if there is
    /// none.
    pub(crate) fn negative(self, sentences: Vec<String>) -> Self {
        let code = if sentences.is_empty() { self.code } else { NEGATIVE };
        Self {
            code,
            sentences,
            ..self
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            line(&self.json.to_string());
        } else if !self.text.is_empty() {
            line(&self.text);
        }
        for sentence in &self.sentences {
            error(sentence);
        }
    }
}

/// One line, or several, on standard output. A reader that has gone away wants no more, which is no error.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Nobody is left to be told if this fails.
fn error(sentence: &str) {
    let _ = writeln!(io::stderr(), "error: {sentence}");
}

/// Why a command failed: one sentence that says what was wrong and what to do, and an exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// It was tried and did not hold.
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

    pub(crate) fn print(&self, json: bool) {
        if json {
            line(&json!({ "error": self.sentence }).to_string());
        }
        error(&self.sentence);
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}
