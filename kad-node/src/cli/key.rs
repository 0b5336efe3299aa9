//! `key new` and `key show`: identities on disk. The secret is never printed.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kad_core::Keypair;
use kad_node::identity;
use serde_json::json;

use super::arguments::read_key;
use super::reply::{Answer, Failure};

/// The name that a key file has unless another one is given.
const DEFAULT_FILE: &str = "kad.key";

/// More bits than this take a machine more than a day: 2^32 tries of 12 µs.
const MAX_PUZZLE_BITS: i64 = 32;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new Ed25519 key; a file that exists is never overwritten
    #[command(
        after_help = "Examples:\n  kad-node key new\n  kad-node key new --out owner.key\n  \
                            kad-node key new --out server.key --puzzle-bits 16"
    )]
    New {
        /// Where to write it, readable by you only
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        out: PathBuf,
        /// Solve the puzzle that the network asks of servers: 2^N tries of about 12 microseconds
        #[arg(long, value_name = "N", default_value_t = 0,
              value_parser = clap::value_parser!(u32).range(0..=MAX_PUZZLE_BITS))]
        puzzle_bits: u32,
    },
    /// Show the node id and the public key of a key file
    #[command(after_help = "Example:\n  kad-node key show owner.key")]
    Show {
        /// The key file
        #[arg(value_name = "FILE", default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
}

pub(crate) fn execute(command: Command) -> Result<Answer, Failure> {
    match command {
        Command::New { out, puzzle_bits } => {
            // Looked at twice, so that nobody solves a puzzle for nothing.
            if out.symlink_metadata().is_ok() {
                return Err(refused(&identity::KeyFileError::Exists { path: out }));
            }
            let keypair = identity::generate(puzzle_bits).map_err(|e| refused(&e))?;
            identity::write_new(&out, &keypair).map_err(|e| refused(&e))?;
            Ok(describe(&out, &keypair))
        }
        Command::Show { file } => Ok(describe(&file, &read_key(&file)?)),
    }
}

fn refused(error: &identity::KeyFileError) -> Failure {
    Failure::usage(format!("{error}; give another name with --out"))
}

fn describe(file: &Path, keypair: &Keypair) -> Answer {
    let (id, public) = (keypair.node_id(), keypair.public());
    let file = file.display().to_string();
    Answer::new(
        json!({
            "file": file,
            "id": id.to_string(),
            "public_key": public.to_string(),
            "puzzle_bits": id.puzzle_bits(),
        }),
        format!("file        {file}\nnode id     {id}\npublic key  {public}"),
    )
}
