//! Lists: what a command is given line by line, and one line of output for each.
//!
//! A list is read whole and judged line by line before anybody is asked anything: a mistake in the last line is told
//! before the first is done.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use kad_core::Key;
use kad_node::file::Reference;
use serde_json::Value;
use zeroize::Zeroizing;

use super::progress::Progress;
use super::reply::{self, Answer, Failure};
use super::streams::Source;

/// The most bytes of a list: half a million names of files, or close to a million keys.
const MAX_LIST: usize = 64 << 20;

/// A line that says something, and which it is, from 1.
#[derive(Debug)]
pub(crate) struct Line<T> {
    pub(crate) number: usize,
    pub(crate) item: T,
}

/// What a line of a list of files to fetch says.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) file: Reference,
    /// Where it goes, below the directory.
    pub(crate) path: PathBuf,
}

/// Reads a list, or standard input for `-`. Empty lines say nothing.
///
/// # Errors
/// Which line is wrong, and why, or that the list cannot be read or is empty.
pub(crate) async fn read<T>(
    path: &Path,
    mut item: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<Line<T>>, Failure> {
    let mut source = Source::open(path).await?;
    // It may have secrets.
    let bytes = Zeroizing::new(source.read_all(MAX_LIST).await?);
    let name = match path == Path::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let wrong = |number: usize, why: &str| {
        Failure::usage(format!("line {number} of {name}: {why}; nothing was done"))
    };
    let mut lines = Vec::new();
    for (bytes, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(number, "it is not UTF-8"))?;
        let text = text.strip_suffix('\r').unwrap_or(text);
        if !text.trim().is_empty() {
            let item = item(text).map_err(|why| wrong(number, &why))?;
            lines.push(Line { number, item });
        }
    }
    match lines.is_empty() {
        true => Err(Failure::usage(format!("{name} has no line that says anything"))),
        false => Ok(lines),
    }
}

/// The key that a line begins with. What follows a blank is a name for people.
pub(crate) fn key(line: &str) -> Result<Key, String> {
    let (reference, _) = split(line);
    super::arguments::parse_key(reference)
}

/// The file that a line begins with, and what to call it: what follows the blanks, or else its key.
pub(crate) fn wanted(line: &str) -> Result<Wanted, String> {
    let (reference, name) = split(line);
    // The text may be most of a secret, and the error does not repeat it.
    let file: Reference = reference
        .parse()
        .map_err(|error: kad_node::file::ReferenceError| error.to_string())?;
    let path = match name {
        "" => PathBuf::from(file.key.to_string()),
        name => inside(name)?,
    };
    Ok(Wanted { file, path })
}

/// No two lines may be written to one place.
pub(crate) fn all_apart(name: &Path, lines: &[Line<Wanted>]) -> Result<(), Failure> {
    let mut places: BTreeMap<&Path, usize> = BTreeMap::new();
    for Line { number, item } in lines {
        if let Some(earlier) = places.insert(&item.path, *number) {
            return Err(Failure::usage(format!(
                "line {number} of {} names the same place as line {earlier}, {}; nothing was done",
                name.display(),
                item.path.display()
            )));
        }
    }
    Ok(())
}

fn split(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    line.split_once([' ', '\t']).map_or_else(
        || (line.trim_end(), ""),
        |(first, rest)| (first, rest.trim_start()),
    )
}

/// A place below the directory: without the root, as `tar` does it, and never above.
fn inside(name: &str) -> Result<PathBuf, String> {
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                return Err(format!(
                    "{name} leads out of the directory; give a name without .."
                ));
            }
        }
    }
    match path.as_os_str().is_empty() {
        true => Err(format!("{name} is no name of a file")),
        false => Ok(path),
    }
}

/// What is told of each of many, as it becomes known.
pub(crate) struct Ledger {
    json: bool,
    progress: Progress,
    total: usize,
    done: usize,
    failed: usize,
    /// Only what could not be done is told.
    is_hushed: bool,
}

impl Ledger {
    pub(crate) fn new(what: &'static str, total: usize, json: bool) -> Self {
        let progress = Progress::items(what, total, json);
        Self {
            json,
            progress,
            total,
            done: 0,
            failed: 0,
            is_hushed: false,
        }
    }

    /// The same for what was told of before: only what could not be done is told.
    pub(crate) fn hushed(what: &'static str, total: usize, json: bool) -> Self {
        Self {
            is_hushed: true,
            ..Self::new(what, total, json)
        }
    }

    /// One is done: a line, or an object.
    pub(crate) fn good(&mut self, fields: &Value, text: &str) {
        if !self.is_hushed {
            let line = if self.json { &fields.to_string() } else { text };
            self.progress.aside(|| reply::line(line));
        }
        self.count();
    }

    /// One could not be done. People read of it beside the output, so that this is a list of what is.
    pub(crate) fn bad(&mut self, mut fields: Value, name: &str, why: &Failure) {
        fields["error"] = why.sentence().into();
        let json = self.json;
        self.progress.aside(|| match json {
            true => reply::line(&fields.to_string()),
            false => reply::aside(&format!("{name}: {}", why.sentence())),
        });
        self.failed += 1;
        self.count();
    }

    fn count(&mut self) {
        self.done += 1;
        self.progress.count(self.done, self.total);
    }

    /// The end: what all of it came to. `what` is the plural, `verb` what was to be done with them.
    pub(crate) fn end(self, mut fields: Value, what: &str, verb: &str) -> Result<Answer, Failure> {
        drop(self.progress);
        match self.failed {
            0 => {
                fields[what] = self.done.into();
                Ok(Answer::new(fields, String::new()))
            }
            failed => Err(Failure::negative(format!(
                "{failed} of {} {what} could not be {verb}; what was told of each says why, so give these once more",
                self.total
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_key_and_a_name() {
        let (key, secret) = ("ab".repeat(32), "5e".repeat(32));
        let named = |line: &str| wanted(line).map(|wanted| wanted.path.display().to_string());
        assert_eq!(named(&key), Ok(key.clone()));
        assert_eq!(named(&format!("{key}  notes.txt")), Ok("notes.txt".to_owned()));
        assert_eq!(named(&format!(" {key}#{secret}\ta b ")), Ok("a b ".to_owned()));
        assert_eq!(named(&format!("{key} /var//x/./y")), Ok("var/x/y".to_owned()));
        assert!(named(&format!("{key} a/../../b")).unwrap_err().contains(".."));
        assert!(named(&format!("{key} /")).unwrap_err().contains("no name"));
        let sentence = named(&format!("{key}#{} x", &secret[1..])).unwrap_err();
        assert!(!sentence.contains("5e5e"), "{sentence}");
        assert_eq!(super::key(&format!("{key} x")).unwrap().to_string(), key);
        assert!(super::key("notes.txt").is_err());
    }

    #[tokio::test]
    async fn a_mistake_is_told_with_its_line_and_the_name_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        let key = "ab".repeat(32);
        std::fs::write(&list, format!("{key}\r\n\n  \n{key} x\nnonsense\n")).unwrap();
        let failure = read(&list, super::key).await.unwrap_err();
        assert!(
            failure
                .sentence()
                .starts_with(&format!("line 5 of {}: ", list.display()))
        );
        std::fs::write(&list, format!("\n{key}\r\n{key} a\n{key} ./a")).unwrap();
        assert_eq!(read(&list, super::key).await.unwrap().len(), 3);
        let lines = read(&list, wanted).await.unwrap();
        let sentence = all_apart(&list, &lines).unwrap_err();
        assert!(sentence.sentence().contains("line 4") && sentence.sentence().contains("line 3"));
        std::fs::write(&list, " \n\n").unwrap();
        assert!(
            read(&list, wanted)
                .await
                .unwrap_err()
                .sentence()
                .contains("no line")
        );
        std::fs::write(&list, [0xff, b'\n']).unwrap();
        assert!(
            read(&list, wanted)
                .await
                .unwrap_err()
                .sentence()
                .contains("UTF-8")
        );
    }
}
