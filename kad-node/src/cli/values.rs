//! `put` and `get`: content under its hash.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kad_core::{Contact, UnixTime};
use kad_net::WireAddress as _;
use kad_net::quic::QuicAddress;
use kad_node::file::{
    Code, DEFAULT_COPIES, FetchOptions, FileOptions, Reference, ReferenceError, Repair, Repaired,
};
use kad_node::{PutOptions, Stored};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::arguments::{ClientArgs, StoreArgs, date, parse_span, until};
use super::client::with_node;
use super::lists::Ledger;
use super::progress::Progress;
use super::reply::{Answer, Failure};
use super::streams::{Sink, Source};
use super::{get_many, put_many, transfer};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node put --bootstrap 192.0.2.7:4000 notes.txt\n  \
                        date | kad-node put --bootstrap 192.0.2.7:4000 --ttl 1h --json -\n  \
                        kad-node put --bootstrap 192.0.2.7:4000 --encrypt --code 10+6 film.mkv\n  \
                        kad-node put --bootstrap 192.0.2.7:4000 *.jpg > keys\n  \
                        find photos -type f | kad-node put --bootstrap 192.0.2.7:4000 --list - > keys\n\n\
                        Of several files one line is printed for each that is stored, its key and its name, which 'get --list' reads. \
                        With --json it is one object for each, and one at the end.\n\n\
                        The key of an encrypted file has a secret behind a #. Whoever has all of it can read the file, \
                        nobody else can, and nobody can tell it again: keep it. Holders see how many chunks of 60 KiB it \
                        has."
)]
pub(crate) struct PutArgs {
    /// What to store; - is standard input
    #[arg(value_name = "FILE|-", required_unless_present = "list")]
    files: Vec<PathBuf>,
    /// Store the files that this file names, one on each line; - is standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "files")]
    list: Option<PathBuf>,
    /// Encrypt it under a secret of its own, which becomes a part of the key that is printed
    #[arg(long)]
    encrypt: bool,
    /// Add so many parity chunks to each so many chunks, such as 10+6: any 10 of these 16 restore the rest
    #[arg(long, value_name = "DATA+PARITY")]
    code: Option<Code>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn put(args: PutArgs, json: bool) -> Result<Answer, Failure> {
    let PutArgs {
        files,
        list,
        encrypt,
        code,
        store,
        client,
    } = args;
    let options = FileOptions::default()
        .put(store.options())
        .encrypt(encrypt)
        .code(code);
    if let ([file], None) = (&files[..], &list) {
        let source = Source::open(file).await?;
        return put_one(source, options, &client, json).await;
    }
    let files = put_many::files(files, list.as_deref()).await?;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let mut ledger = Ledger::new("storing", files.len(), json);
        put_many::put(node, files, options, &mut ledger).await?;
        ledger.end(json!({}), "files", "stored")
    })
    .await
}

async fn put_one(
    source: Source,
    options: FileOptions,
    client: &ClientArgs,
    json: bool,
) -> Result<Answer, Failure> {
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let progress = Progress::bytes("storing", source.size(), json);
        let stored = transfer::put(node, source, options, &progress).await?;
        drop(progress);
        let reference = stored.reference().reveal();
        let fields = json!({
            "key": stored.key.to_string(),
            "reference": reference.as_str(),
            "encrypted": stored.secret.is_some(),
            "bytes": stored.bytes,
            "chunks": stored.chunks,
            "parity": stored.parity,
            "indexes": stored.indexes,
            "copies": stored.copies_min,
            "copies_mean": stored.copies_mean,
            "stored_at": stored.holders_of_root.iter().map(contact_json).collect::<Vec<_>>(),
            "requests": stored.rpcs,
            "expires": date(stored.expires),
            "expires_unix": stored.expires.as_secs(),
        });
        let text = format!(
            "key     {}\nbytes   {}\nchunks  {}\n{}{}",
            reference.as_str(),
            stored.bytes,
            stored.chunks,
            match stored.parity {
                0 => String::new(),
                parity => format!("parity  {parity}\n"),
            },
            places(stored.expires, stored.copies_min, &stored.holders_of_root)
        );
        Ok(Answer::new(fields, text))
    })
    .await
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node get --bootstrap 192.0.2.7:4000 KEY -o notes.txt\n  \
                        kad-node get --bootstrap 192.0.2.7:4000 KEY | less\n  \
                        kad-node get --bootstrap 192.0.2.7:4000 KEY --repair -o notes.txt\n  \
                        kad-node get --bootstrap 192.0.2.7:4000 - -o notes.txt < key-and-secret\n  \
                        kad-node get --bootstrap 192.0.2.7:4000 --list keys -o photos\n\n\
                        Lines of a list are a key and, behind blanks, a name below the directory, as 'put' prints them. \
                        Every byte is verified. A file that exists is replaced once the new one is whole, and not before. \
                        The other users of a machine can see what is on its command lines: a key with a secret is better \
                        read from standard input, with -."
)]
pub(crate) struct GetArgs {
    /// What to fetch: 64 hexadecimal digits, and if it is encrypted # and 64 more; - is standard input
    #[arg(value_name = "KEY", value_parser = parse_name, required_unless_present = "list")]
    name: Option<Name>,
    /// Fetch the files that this file names, one on each line; - is standard input
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["name", "repair"], requires = "output")]
    list: Option<PathBuf>,
    /// Where to write it [default: standard output]; with --list a directory
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Store again what fewer nodes hold than should, restored from parity if need be
    #[arg(long)]
    repair: bool,
    /// With --repair: how many copies of each chunk are enough
    #[arg(
        long,
        value_name = "N",
        requires = "repair",
        default_value_t = DEFAULT_COPIES as u16,
        value_parser = clap::value_parser!(u16).range(1..=32)
    )]
    copies: u16,
    /// With --repair: the life of what is stored again
    #[arg(long, value_name = "SPAN", requires = "repair", value_parser = parse_span, default_value = "24h")]
    ttl: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

/// The name of a file as it was given. What clap refuses it repeats, and this may be most of a secret: so it refuses
/// nothing.
#[derive(Debug, Clone)]
enum Name {
    Given(Reference),
    StandardInput,
    Wrong(ReferenceError),
}

/// The most bytes of a name on standard input: two times 64 digits with a mark between them, and blanks that an editor
/// may have added.
const MAX_REFERENCE: usize = 256;

fn parse_name(text: &str) -> Result<Name, std::convert::Infallible> {
    Ok(match text {
        "-" => Name::StandardInput,
        text => text.parse().map_or_else(Name::Wrong, Name::Given),
    })
}

impl Name {
    async fn reference(self) -> Result<Reference, Failure> {
        let read = match self {
            Self::Given(reference) => return Ok(reference),
            Self::Wrong(error) => Err(error),
            Self::StandardInput => {
                let mut source = Source::open(Path::new("-")).await?;
                let bytes = Zeroizing::new(source.read_all(MAX_REFERENCE).await?);
                let text = std::str::from_utf8(&bytes).map_err(|_| ReferenceError::Key);
                text.and_then(|text| text.trim().parse())
            }
        };
        read.map_err(|error| Failure::usage(error.to_string()))
    }
}

pub(crate) async fn get(args: GetArgs, json: bool) -> Result<Answer, Failure> {
    let GetArgs {
        name,
        list,
        output,
        repair,
        copies,
        ttl,
        client,
    } = args;
    if let (Some(list), Some(directory)) = (&list, &output) {
        let wanted = get_many::wanted(list, directory).await?;
        return with_node(&client.network, client.key.as_deref(), json, async move |node| {
            let mut ledger = Ledger::new("fetching", wanted.len(), json);
            get_many::get(node, wanted, directory, &mut ledger).await;
            ledger.end(json!({}), "files", "fetched")
        })
        .await;
    }
    let Some(name) = name else {
        return Err(Failure::usage(
            "nothing is named; give a KEY, or a list of them with --list",
        ));
    };
    let file = name.reference().await?;
    let mut options = FetchOptions::default();
    if repair {
        let put = PutOptions::default().settle(true).ttl(ttl);
        options.repair = Some(Repair::default().copies(usize::from(copies)).put(put));
    }
    let mut sink = open_sink(output.as_ref(), json).await?;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let progress = Progress::bytes("fetching", None, json);
        let fetched = transfer::get(node, &file, options, &mut sink, &progress).await?;
        drop(progress);
        sink.keep().await?;
        let mut fields = json!({
            "key": file.key.to_string(),
            "bytes": fetched.bytes,
            "chunks": fetched.chunks,
            "restored": fetched.restored,
            "requests": fetched.rpcs,
            "output": output.as_ref().map(|path| path.display().to_string()),
            "expires": date(fetched.expires),
            "expires_unix": fetched.expires.as_secs(),
        });
        let mut text = written(output.as_ref(), fetched.bytes);
        if repair {
            let Repaired {
                checked,
                stored,
                failed,
                ..
            } = fetched.repair;
            fields["repair"] = json!({ "checked": checked, "stored": stored, "failed": failed });
            if output.is_some() {
                text = format!("{text}\n{}", mended(fetched.repair, fetched.restored));
            }
        }
        let answer = Answer::new(fields, text);
        Ok(match fetched.repair.failed {
            0 => answer,
            _ => answer.negative(),
        })
    })
    .await
}

/// What a repair came to, for people.
pub(crate) fn mended(repair: Repaired, restored: u64) -> String {
    let Repaired {
        checked,
        stored,
        failed,
        ..
    } = repair;
    let mut text = format!("{stored} of {checked} records had too few copies and were stored again");
    if restored > 0 {
        text = format!("{text}, {restored} restored from parity");
    }
    if failed > 0 {
        text = format!("{text}; {failed} could not be repaired, try again");
    }
    text
}

/// The sink of a command that fetches. Bytes and JSON do not go to the same place.
pub(crate) async fn open_sink(output: Option<&PathBuf>, json: bool) -> Result<Sink, Failure> {
    if json && output.is_none() {
        return Err(Failure::usage(
            "with --json standard output is for the JSON object; give a file with -o FILE",
        ));
    }
    Sink::open(output.map(PathBuf::as_path)).await
}

/// What to say of what was written; nothing if it was written where this would be said.
pub(crate) fn written(output: Option<&PathBuf>, bytes: u64) -> String {
    output.map_or_else(String::new, |path| {
        format!("{bytes} bytes written to {}", path.display())
    })
}

/// A contact, for programs.
pub(crate) fn contact_json(contact: &Contact<QuicAddress>) -> Value {
    json!({ "id": contact.id.to_string(), "addresses": addresses(&contact.address) })
}

/// The socket addresses, as text.
pub(crate) fn addresses(address: &QuicAddress) -> Vec<String> {
    address.sockets().iter().map(ToString::to_string).collect()
}

/// Where something was stored, for programs.
pub(crate) fn stored_json(stored: &Stored<QuicAddress>) -> Value {
    json!({
        "key": stored.key.to_string(),
        "copies": stored.copies(),
        "stored_at": stored.holders.iter().map(contact_json).collect::<Vec<_>>(),
        "refused": stored.refused,
        "expires": date(stored.expires),
        "expires_unix": stored.expires.as_secs(),
    })
}

/// Where something was stored, for people.
pub(crate) fn stored_text(stored: &Stored<QuicAddress>) -> String {
    places(stored.expires, stored.copies(), &stored.holders)
}

fn places(expires: UnixTime, copies: usize, holders: &[Contact<QuicAddress>]) -> String {
    let mut text = format!("until   {}\ncopies  {copies}", until(expires));
    for holder in holders {
        text = format!("{text}\n        {} at {}", holder.id, holder.address);
    }
    text
}
