//! What is wrong with a scenario file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A scenario file that cannot be used. Says which file, and where it can, which line and which field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScenarioError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The field with the tables that it is in, such as `links.loss`.
    pub field: Option<String>,
    what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the scenario {} cannot be used: ", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for ScenarioError {}

impl ScenarioError {
    /// Something that is wrong with the file as a whole.
    pub(super) fn new(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            field: None,
            what: what.into(),
        }
    }

    /// Something that is wrong at a place of the text.
    pub(super) fn at(file: &Path, text: &str, offset: usize, what: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        Self {
            line: Some(before.bytes().filter(|&byte| byte == b'\n').count() + 1),
            field: field(text, before.len()),
            ..Self::new(file, what)
        }
    }
}

impl ScenarioError {
    /// What the parser says, in one line where it would draw.
    pub(super) fn parsing(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let words: Vec<&str> = error.message().split_whitespace().collect();
        let what = words.join(" ");
        // A table that is missing is missing nowhere in particular.
        let is_nowhere = |start: usize| start == 0 && what.starts_with("missing field");
        match error.span() {
            Some(span) if !is_nowhere(span.start) => Self::at(file, text, span.start, what),
            _ => Self::new(file, what),
        }
    }
}

/// The field that a place of the text belongs to: the last one that begins on its line or before, below its table.
/// Values of several lines and inline tables count to the field that holds them.
fn field(text: &str, offset: usize) -> Option<String> {
    let end = text[offset..].find('\n').map_or(text.len(), |end| offset + end);
    let (mut table, mut name) = (String::new(), None);
    for line in text[..end].lines() {
        let bare = line.split('#').next().unwrap_or(line).trim();
        if bare.starts_with('[') && bare.ends_with(']') && !bare.contains(['=', ',']) {
            table = bare.replace(['[', ']'], "");
            name = None;
        } else if let Some((key, _)) = line.split_once('=')
            && is_key(key.trim())
        {
            name = Some(key.trim());
        }
    }
    match (table.as_str(), name) {
        ("", None) => None,
        ("", Some(name)) => Some(name.to_owned()),
        (table, None) => Some(table.to_owned()),
        (table, Some(name)) => Some(format!("{table}.{name}")),
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_with_their_tables() {
        let text = "title = \"x\" # = y\n\n[network] # a = b\nnodes = 5\n[[adversaries]]\nkind = { a = 1,\n  b = 2 }\n";
        let named = |what: &str| {
            let error = ScenarioError::at(Path::new("f"), text, text.find(what).expect(what), "w");
            (error.line.expect("a line"), error.field)
        };
        assert_eq!(named("x"), (1, Some("title".into())));
        assert_eq!(named("[network]"), (3, Some("network".into())));
        assert_eq!(named("5"), (4, Some("network.nodes".into())));
        assert_eq!(named("[[adv"), (5, Some("adversaries".into())));
        assert_eq!(named("1,"), (6, Some("adversaries.kind".into())));
    }
}
