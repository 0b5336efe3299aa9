//! What a command left behind, and what every outcome must look like.

use std::process::ExitStatus;

use serde_json::Value;

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Standard output of a command that succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        String::from_utf8(self.stdout).unwrap()
    }

    /// The object on the last line of a command that succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.text();
        let last = text
            .lines()
            .last()
            .unwrap_or_else(|| panic!("nothing was printed"));
        let value: Value = serde_json::from_str(last).unwrap();
        assert!(value.is_object(), "{last}");
        value
    }

    /// The sentence of a command that failed with this exit status, after checking that it is one sentence. With
    /// `--json`, standard output must say the same.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        let sentences: Vec<&str> = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "))
            .collect();
        let &[sentence] = sentences.as_slice() else {
            panic!("not one sentence: {self:?}");
        };
        if !self.stdout.is_empty() {
            let stdout = std::str::from_utf8(&self.stdout).unwrap();
            let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
            assert_eq!(last["error"], sentence);
            assert_eq!(last.as_object().unwrap().len(), 1);
        }
        sentence.to_owned()
    }
}
