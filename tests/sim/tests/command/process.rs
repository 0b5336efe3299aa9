//! The command as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the command in an empty folder of its own, so that it finds no checkout but the one it was built from.
pub(crate) fn kad_sim(arguments: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder for files");
    run_in(folder.path(), arguments)
}

/// Runs the command in this folder.
pub(crate) fn run_in(folder: &Path, arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_kad-sim"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the command can be started");
    Outcome(output)
}

/// A file of the checkout.
pub(crate) fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The experiment with which the tests run the command, and as few nodes as it takes.
pub(crate) const EXPERIMENT: &str = "hop-law";
pub(crate) const NODES: &str = "200";

/// What the command said.
#[derive(Debug)]
pub(crate) struct Outcome(Output);

impl Outcome {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().expect("nobody ends it with a signal")
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).expect("it prints text")
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).expect("it prints text")
    }

    /// The object on the last line.
    pub(crate) fn json(&self) -> Value {
        let out = self.out();
        let last = out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, of a command that did what it was told and said nothing else.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!((self.code(), self.err()), (0, String::new()), "{}", self.out());
        self
    }
}
