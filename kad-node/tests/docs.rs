//! The tables of `docs/bounds.md` and `docs/defaults.md` say what the code does, and those of `docs/guarantees.md` and
//! `docs/nat.md` name tests that there are.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kad_core::{Config, Parameters};
use kad_net::nat::{reachability::ReachabilityConfig, relay::RelayConfig};
use kad_net::quic::{QuicLimits, ReachConfig};
use kad_node::file::{FetchOptions, FileOptions, Repair};
use kad_node::{CrawlOptions, FullTable, MutableOptions, Node, PutOptions};
use kad_store::{Limits, RedbConfig};

const CRATES: [&str; 4] = ["kad-core", "kad-net", "kad-store", "kad-node"];

#[test]
fn every_bound_has_the_value_that_the_table_says() {
    let sources = Sources::read();
    let rows = rows("docs/bounds.md");
    assert!(rows.len() > 50, "the tables could not be read");
    for row in rows {
        let [name, value, file, ..] = row.as_slice() else {
            panic!("a row of bounds.md has too few cells: {row:?}");
        };
        let constant = sources.value(file, name);
        assert_eq!(
            constant,
            Some(number(value).expect(value)),
            "{name} of {file} in bounds.md"
        );
    }
}

#[test]
fn every_constant_that_says_it_is_a_bound_is_in_the_table() {
    let rows = rows("docs/bounds.md");
    for (file, name) in Sources::read().0.keys() {
        let is_bound = name.starts_with("MAX_");
        let is_listed = rows.iter().any(|row| row[0] == *name && row[2] == *file);
        assert!(!is_bound || is_listed, "bounds.md lacks {name} of {file}");
    }
}

#[test]
fn every_default_has_the_value_that_the_table_says() {
    let mut settings = BTreeMap::new();
    flatten(&mut settings, &Parameters::default(), &[]);
    flatten(&mut settings, &Config::default(), &[]);
    flatten(&mut settings, &QuicLimits::default(), &[]);
    flatten(&mut settings, &ReachabilityConfig::default(), &[]);
    // What it relays has a table of its own.
    let reach = ReachConfig {
        relay: None,
        ..ReachConfig::default()
    };
    flatten(&mut settings, &reach, &["reachability"]);
    settings.remove("ReachConfig.relay");
    flatten(&mut settings, &RelayConfig::default(), &[]);
    flatten(&mut settings, &Limits::default(), &[]);
    flatten(&mut settings, &RedbConfig::default(), &["limits"]);
    flatten(&mut settings, &Node::builder(), &["parameters", "limits", "quic"]);
    flatten(&mut settings, &PutOptions::default(), &[]);
    flatten(&mut settings, &MutableOptions::default(), &["put"]);
    flatten(&mut settings, &FileOptions::default(), &["put"]);
    flatten(&mut settings, &FetchOptions::default(), &[]);
    flatten(&mut settings, &Repair::default(), &["put"]);
    flatten(&mut settings, &CrawlOptions::default(), &[]);
    flatten(&mut settings, &FullTable::default(), &[]);
    assert!(settings.len() > 50, "the settings could not be read");
    for row in rows("docs/defaults.md") {
        let (setting, told) = (&row[0], &row[1]);
        if setting.contains(" --") {
            continue; // A flag of the command.
        }
        let Some(actual) = settings.remove(setting) else {
            panic!("defaults.md has {setting}, which there is not");
        };
        let same = match (number(told), number(&actual)) {
            (Some(told), Some(actual)) => told == actual,
            _ => *told == actual,
        };
        assert!(same, "defaults.md says {told} of {setting}, the code {actual}");
    }
    assert!(settings.is_empty(), "defaults.md lacks {settings:?}");
}

#[test]
fn every_flag_has_the_default_that_the_table_says() {
    let rows = rows("docs/defaults.md");
    let flags: Vec<_> = rows
        .iter()
        .filter_map(|row| row[0].split_once(" --").zip(row.get(1)))
        .collect();
    assert!(flags.len() > 10, "the table of flags could not be read");
    for ((command, flag), told) in flags {
        let help = Command::new(env!("CARGO_BIN_EXE_kad-node"))
            .args(command.split(' '))
            .arg("--help")
            .output()
            .expect("the command runs");
        let help = String::from_utf8(help.stdout).expect("help is text");
        let Some(from) = help.find(&format!("--{flag} ")) else {
            panic!("{command} has no --{flag}:\n{help}");
        };
        let about = &help[from..];
        let about = &about[..about.find("\n      --").unwrap_or(about.len())];
        let default = about
            .split_once("[default: ")
            .and_then(|(_, rest)| rest.split_once(']'));
        assert_eq!(
            default.map(|(value, _)| value),
            Some(told.as_str()),
            "{command} --{flag}"
        );
    }
}

#[test]
fn every_reason_to_refuse_a_record_is_told_and_shown_by_a_test() {
    let rows = rows("docs/guarantees.md");
    let told: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    for (reason, _) in kad_core::Refused::default().by_name() {
        assert!(told.contains(&reason), "guarantees.md lacks {reason}");
    }
    rows.iter().for_each(|row| is_shown(&row[3]));
}

#[test]
fn every_attack_on_reaching_is_shown_by_a_test() {
    for (document, heading, least) in [
        ("docs/nat.md", "## Who attacks it", 30),
        ("docs/guarantees.md", "## Being reached", 5),
    ] {
        let text = fs::read_to_string(root().join(document)).expect(document);
        let (_, section) = text.split_once(heading).expect(heading);
        let section = section.split("\n## ").next().unwrap_or(section);
        let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        let shown = rows.filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
        let shown = shown.inspect(|shown| is_shown(shown)).count();
        assert!(shown >= least, "the table of {document} could not be read");
    }
}

/// A cell names a file and a test in it.
fn is_shown(cell: &str) {
    let shown = cell.replace('`', "");
    let (file, test) = shown.split_once(", ").expect("a file and a test");
    let text = fs::read_to_string(root().join(file)).expect(file);
    assert!(text.contains(&format!("fn {test}(")), "{file} has no {test}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of the tables of a document, without the backticks around cells. Only those whose first cell is in
/// backticks count, so heads do not.
fn rows(document: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(document)).expect(document);
    let cells = |line: &str| {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let bare = |cell: &&str| cell.trim_matches('`').to_owned();
        cells[0]
            .starts_with('`')
            .then(|| cells.iter().map(bare).collect())
    };
    text.lines().filter_map(cells).collect()
}

/// A number with its unit, as the documents write it or as `Debug` does: bytes, or microseconds for a time.
fn number(text: &str) -> Option<u128> {
    const SECOND: f64 = 1e6;
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && !",.".contains(c))
        .unwrap_or(text.len());
    let factor = match text[digits..].trim() {
        "" | "bytes" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "ms" => SECOND / 1000.0,
        "s" => SECOND,
        "min" => 60.0 * SECOND,
        "h" => 3600.0 * SECOND,
        "days" => 86_400.0 * SECOND,
        _ => return None,
    };
    let number: f64 = text[..digits].replace(',', "").parse().ok()?;
    Some((number * factor) as u128)
}

/// The fields of a value by what `Debug` prints of it: `Type.field.field`. Some fields have tables of their own.
fn flatten(settings: &mut BTreeMap<String, String>, value: &impl Debug, elsewhere: &[&str]) {
    let mut path: Vec<String> = Vec::new();
    for line in format!("{value:#?}").lines() {
        let line = line.trim().trim_end_matches(',');
        if line == "}" {
            path.pop();
        } else if let Some(opened) = line.strip_suffix(" {") {
            let name = opened.split_once(": ").map_or(opened, |(field, _)| field);
            path.push(name.to_owned());
        } else if let Some((field, value)) = line.split_once(": ") {
            if path
                .get(1)
                .is_some_and(|outer| elsewhere.contains(&outer.as_str()))
            {
                continue;
            }
            let value = match value {
                "true" => "yes",
                "false" => "no",
                "None" | "[]" => "none",
                other => other.trim_matches('"'),
            };
            settings.insert(format!("{}.{field}", path.join(".")), value.to_owned());
        }
    }
}

/// The constants of the crates by file and name, as they are written; those of tests are left out.
struct Sources(BTreeMap<(String, String), String>);

impl Sources {
    fn read() -> Self {
        let mut sources = Self(BTreeMap::new());
        for krate in CRATES {
            sources.read_folder(&root().join(krate).join("src"));
        }
        sources
    }

    fn read_folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("the sources are beside the tests") {
            let path = entry.expect("the sources can be listed").path();
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            if path.is_dir() {
                self.read_folder(&path);
            } else if is_source && !path.ends_with("tests.rs") {
                self.read_file(&path);
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let text = fs::read_to_string(path).expect("sources are text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let file = path.strip_prefix(root()).expect("it is below the root");
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        for statement in code.split("const ").skip(1) {
            if let Some((name, rest)) = statement.split_once(':')
                && name.chars().all(is_name)
                && let Some((_, value)) = rest.split_once('=')
                && let Some((value, _)) = value.split_once(';')
            {
                let key = (file.display().to_string(), name.to_owned());
                self.0.insert(key, value.to_owned());
            }
        }
    }

    fn value(&self, file: &str, name: &str) -> Option<u128> {
        let text = self.0.get(&(file.to_owned(), name.to_owned()))?;
        let tokens = tokens(text);
        let (value, rest) = self.sum(file, &tokens)?;
        rest.is_empty().then_some(value)
    }

    /// A name in an expression: of the same file first, else of any.
    fn named(&self, file: &str, path: &str) -> Option<u128> {
        let name = path.rsplit("::").next()?;
        self.value(file, name).or_else(|| {
            let other = |(other, held): &&(String, String)| held == name && other != file;
            let (elsewhere, _) = self.0.keys().find(other)?;
            self.value(elsewhere, name)
        })
    }

    /// Sums, products and shifts, as far as the constants use them.
    fn sum<'t>(&self, file: &str, tokens: &'t [String]) -> Option<(u128, &'t [String])> {
        let (mut value, mut rest) = self.product(file, tokens)?;
        while let Some((operator, after)) = rest.split_first()
            && ["+", "-", "<<"].contains(&operator.as_str())
        {
            let (operand, after) = self.product(file, after)?;
            value = match operator.as_str() {
                "+" => value + operand,
                "-" => value.checked_sub(operand)?,
                _ => value << operand,
            };
            rest = after;
        }
        Some((value, rest))
    }

    fn product<'t>(&self, file: &str, tokens: &'t [String]) -> Option<(u128, &'t [String])> {
        let (mut value, mut rest) = self.atom(file, tokens)?;
        while let Some((operator, after)) = rest.split_first()
            && ["*", "/"].contains(&operator.as_str())
        {
            let (operand, after) = self.atom(file, after)?;
            value = match operator.as_str() {
                "*" => value * operand,
                _ => value.checked_div(operand)?,
            };
            rest = after;
        }
        Some((value, rest))
    }

    fn atom<'t>(&self, file: &str, tokens: &'t [String]) -> Option<(u128, &'t [String])> {
        let (first, rest) = tokens.split_first()?;
        let micros = match first.as_str() {
            "Duration::from_secs" => 1_000_000,
            "Duration::from_millis" => 1000,
            _ => 1,
        };
        let (value, mut rest) = if first == "(" || micros > 1 {
            let inner = if micros > 1 { rest.get(1..)? } else { rest };
            let (value, rest) = self.sum(file, inner)?;
            (value * micros, rest.strip_prefix(&[")".to_owned()])?)
        } else if first.starts_with(|c: char| c.is_ascii_digit()) {
            (first.replace('_', "").parse().ok()?, rest)
        } else {
            (self.named(file, first)?, rest)
        };
        while rest.first().is_some_and(|token| token == "as") {
            rest = rest.get(2..)?;
        }
        Some((value, rest))
    }
}

/// Names with their paths, numbers, and operators.
fn tokens(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let mut tokens: Vec<String> = Vec::new();
    let mut before = ' ';
    for c in text.chars() {
        let joins = (is_word(before) && is_word(c)) || (before == '<' && c == '<');
        match tokens.last_mut() {
            Some(last) if joins => last.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.into()),
        }
        before = c;
    }
    tokens
}
