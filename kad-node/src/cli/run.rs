//! `run`: a node that goes on until it is told to stop.

mod report;

use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::ValueEnum;
use kad_core::{Key, NetworkId};
use kad_net::WireAddress as _;
use kad_node::kept::KeptFiles;
use kad_node::{DenyList, JoinError, Mdns, Node, Role, RoleChoice, TableMode};
use serde_json::{Map, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use super::arguments::{NetworkArgs, PathArgs, now, parse_span, read_key};
use super::control::{self, Shared};
use super::forward::ForwardArgs;
use super::keep::Keeper;
use super::reply::{self, Answer, Failure};
use super::values::addresses;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kad-node run --listen 0.0.0.0:4000 --data /var/lib/kad-node\n  \
                  kad-node run --listen 0.0.0.0:0 --bootstrap 192.0.2.7:4000\n  \
                  kad-node run --config /etc/kad-node.toml --log-format json\n\n\
                  SIGINT or SIGTERM stops it in order; a second one stops it at once. With --json the first line of \
                  standard output is an object with id, addresses, listen, network, network_id and role, and the last one says what was \
                  saved, how many records were stored for others, how many were refused and why, and by how many seconds \
                  the clocks of others are ahead."
)]
pub(crate) struct Args {
    /// Where to listen, at most one address for each family; port 0 is any free port [default: 0.0.0.0:0 and [::]:0]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// A directory for identity, records and contacts, made if it is not there [default: nothing is kept]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The key file of the node [default: the one in the data directory, made if there is none]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Whether to serve others or only ask: auto serves once others have reached this node from outside, and no longer
    /// when they do not [default: the config file's, then auto]
    #[arg(long, value_enum, value_name = "ROLE", conflicts_with = "read_only")]
    role: Option<AskedRole>,
    /// Only ask: the same as --role client
    #[arg(long)]
    read_only: bool,
    /// Leave no card with others: this node is found only while it serves
    #[arg(long)]
    no_card: bool,
    /// Relay nothing for peers that nobody can dial
    #[arg(long)]
    no_relay: bool,
    /// Store nothing for others, and still route and keep what is this node's own
    #[arg(long)]
    store_nothing: bool,
    /// A file of keys and publishers that this node does not serve, one on each line; read again on SIGHUP [default:
    /// the config file's, then none]
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
    /// Whom to know: many nearby and few far away, or everybody, so that lookups take one hop [default: the config
    /// file's, then kademlia]
    #[arg(long, value_enum, value_name = "MODE")]
    table: Option<Table>,
    /// Announce this node over mDNS, and hear others, on loopback as well [default: unless it is for this machine only]
    #[arg(long, conflicts_with = "no_mdns")]
    mdns: bool,
    /// Do not ask the router of this network to forward a port
    #[arg(long)]
    no_port_mapping: bool,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    forward: ForwardArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print what the node has counted so often, such as every 60s [default: never]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    report: Option<Duration>,
    /// How to log, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Args {
    /// The data directory, if there is one.
    pub(crate) fn data(&self) -> Result<Option<PathBuf>, Failure> {
        match &self.data {
            Some(data) => Ok(Some(data.clone())),
            None => Ok(self.network.config()?.data),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AskedRole {
    /// What is proven decides
    Auto,
    /// Serve, whether or not others can reach this node
    Server,
    /// Only ask: store nothing for others, and let nobody route through this node
    Client,
}

impl From<AskedRole> for RoleChoice {
    fn from(asked: AskedRole) -> Self {
        match asked {
            AskedRole::Auto => Self::Auto,
            AskedRole::Server => Self::Server,
            AskedRole::Client => Self::Client,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// About k contacts for each doubling of the network
    Kademlia,
    /// Everybody, as far as the table has room; it walks over the network now and then
    Full,
}

/// What is logged unless somebody says otherwise.
const DEFAULT_LOG: &str = "info";

/// Runs a node that keeps these files as well as those that it kept before.
pub(crate) async fn execute(args: Args, json: bool, keep: Vec<Key>) -> Result<Answer, Failure> {
    let file = args.network.config()?;
    log(args.log_format, file.log.as_deref().unwrap_or(DEFAULT_LOG))?;
    // From here on a signal is not lost, whatever is under way.
    let mut stop = Stop::new()?;

    let data = args.data.or_else(|| file.data.clone());
    if data.is_none() && !keep.is_empty() {
        return Err(Failure::usage(
            "what is kept lies in a data directory; give one with --data DIR",
        ));
    }
    let listen = match args.listen.is_empty() {
        true => file.listen.clone(),
        false => args.listen,
    };
    let network = args.network.name(&file);
    if let Some(directory) = &data
        && !keep.is_empty()
    {
        // A list that cannot be kept as a whole is refused before anything is done.
        let network = NetworkId::new(&network, &file.parameters());
        let listed = KeptFiles::open(directory, network).and_then(|files| files.new_of(keep.iter().copied()));
        listed.map_err(|error| Failure::usage(error.to_string()))?;
    }
    let (hand_over, limits) = (file.hand_over(), file.limits());
    args.forward.check()?;
    let mut builder = Node::builder()
        .network(&network)
        .parameters(file.parameters())
        .config(file.core())
        .limits(limits)
        .quic_limits(file.quic())
        .role(match (args.role, args.read_only) {
            (Some(role), _) => role.into(),
            (None, true) => RoleChoice::Client,
            (None, false) => file.role(),
        })
        .card(file.card() && !args.no_card)
        .relay(file.relay() && !args.no_relay)
        .birthday_punching(args.paths.birthday_punching(&file))
        .stores(!args.store_nothing)
        .port_mapping(file.port_mapping() && !args.no_port_mapping)
        .mdns(
            args.network
                .mdns(&file, if args.mdns { Mdns::Always } else { Mdns::Auto }),
        )
        .table(match args.table {
            Some(Table::Kademlia) => TableMode::Kademlia,
            Some(Table::Full) => TableMode::Full(file.full_table()),
            None => file.table(),
        });
    for address in &listen {
        builder = builder.listen(*address);
    }
    for peer in args.network.bootstrap(&file)? {
        builder = builder.bootstrap(peer);
    }
    if let Some(path) = args.key.or_else(|| file.key.clone()) {
        builder = builder.keypair(read_key(&path)?);
    }
    let deny = match args.deny.or_else(|| file.deny.clone()) {
        Some(path) => {
            let hangup = listen_to(SignalKind::hangup())?;
            builder = builder.deny(DenyList::read(&path)?);
            Some((path, hangup))
        }
        None => None,
    };
    match &data {
        Some(directory) => builder = builder.data(directory),
        None => tracing::info!("no data directory is given: identity, records and contacts are not kept"),
    }
    let node = tokio::select! {
        spawned = builder.spawn() => spawned?,
        () = stop.wait() => return Err(Failure::interrupted()),
    };
    if let Err(failure) = args.forward.serve(&node) {
        node.shutdown().await?;
        return Err(failure);
    }
    announce(&node, &network, &listen, json);
    let watching = tokio::spawn(watch_joining(node.clone()));
    let reloading = deny.map(|(path, hangup)| tokio::spawn(reload(node.clone(), path, hangup)));
    let reporting = args
        .report
        .map(|every| tokio::spawn(report::report(node.clone(), every, json)));
    let keeping = match &data {
        Some(directory) => match keep_files(&node, directory, keep, limits.max_own_bytes, json) {
            Ok(keeping) => keeping,
            Err(failure) => {
                watching.abort();
                node.shutdown().await?;
                return Err(failure);
            }
        },
        None => None,
    };
    stop.wait().await;
    watching.abort();
    for task in reloading.iter().chain(keeping.iter().flatten()) {
        task.abort();
    }
    // The last line is that of the end.
    if let Some(reporting) = reporting {
        reporting.abort();
        let _ = reporting.await;
    }
    tracing::info!("stopping; a second signal ends this at once");
    let handed_over = tokio::select! {
        handed_over = node.hand_over(hand_over) => handed_over.unwrap_or_default(),
        () = stop.wait() => return Err(Failure::interrupted()),
    };
    let stats = node.stats().await?.core;
    let refused: Map<_, _> = (stats.refused.by_name().into_iter())
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    let report = tokio::select! {
        report = node.shutdown() => report?,
        () = stop.wait() => return Err(Failure::interrupted()),
    };
    let text = match data {
        Some(directory) => format!(
            "stopped; {} contacts and {} records are saved in {}",
            report.contacts,
            report.records,
            directory.display()
        ),
        None => format!(
            "stopped; {} contacts and {} records are gone",
            report.contacts, report.records
        ),
    };
    Ok(Answer::new(
        json!({
            "stopped": true,
            "contacts": report.contacts,
            "records": report.records,
            "handed_over": handed_over,
            "stored": stats.records_stored,
            "refused": refused,
            "misfits": stats.misfits,
            "clock_offset": stats.clock_offset,
        }),
        text,
    ))
}

/// Goes on with the files that the data directory keeps, and begins with these; commands may ask for more of them.
fn keep_files(
    node: &Node,
    data: &Path,
    keep: Vec<Key>,
    max_bytes: u64,
    json: bool,
) -> Result<Option<[JoinHandle<()>; 2]>, Failure> {
    let is_asked = !keep.is_empty();
    let files = KeptFiles::open(data, node.network()).and_then(|mut files| {
        files.add(keep, now())?;
        Ok(files)
    });
    let files = match files {
        Ok(files) => files,
        Err(error) if is_asked => return Err(Failure::usage(error.to_string())),
        // A node is of use without.
        Err(error) => {
            tracing::error!(%error, "files that are to be kept are not looked after");
            return Ok(None);
        }
    };
    let shared = Arc::new(Shared {
        files: Mutex::new(files),
        more: Notify::new(),
    });
    let serving = control::serve(node.clone(), data.to_owned(), Arc::clone(&shared));
    let keeper = Keeper::new(node.clone(), shared, max_bytes, json);
    Ok(Some([tokio::spawn(keeper.run()), tokio::spawn(serving)]))
}

/// The first lines of standard output: who, where, in which network. A node that listens everywhere has a loopback
/// address here, which is good for clients on this machine; what others dial is for its owner to know.
fn announce(node: &Node, network: &str, listen: &[SocketAddr], json: bool) {
    let (id, address) = (node.id(), &node.local().address);
    let anywhere = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    ];
    let has = |asked: &&SocketAddr| {
        let mut sockets = address.sockets().iter();
        sockets.any(|socket| socket.is_ipv4() == asked.is_ipv4())
    };
    // Without being told, the node listens in all families that the machine has.
    let asked = if listen.is_empty() { &anywhere[..] } else { listen };
    let listen: Vec<String> = asked
        .iter()
        .filter(has)
        .map(|asked| bound(*asked, address.sockets()).to_string())
        .collect();
    let addresses = addresses(address);
    if json {
        let fields = json!({
            "id": id.to_string(),
            "addresses": addresses,
            "listen": listen,
            "network": network,
            "network_id": node.network().to_string(),
            "role": role_name(*node.role().borrow()),
        });
        reply::line(&fields.to_string());
    } else {
        reply::line(&format!(
            "node id  {id}\naddress  {}\nlistens  {}\nnetwork  {network} ({})",
            addresses.join(", "),
            listen.join(", "),
            node.network()
        ));
    }
}

/// What a role is called.
const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

/// What was asked for, with the port that the system chose if the choice was its own.
fn bound(asked: SocketAddr, sockets: &[SocketAddr]) -> SocketAddr {
    let same = sockets.iter().find(|socket| socket.is_ipv4() == asked.is_ipv4());
    match same {
        Some(socket) if asked.port() == 0 => SocketAddr::new(asked.ip(), socket.port()),
        _ => asked,
    }
}

/// Says once if there is nobody to join. Everything else is logged by the node itself.
async fn watch_joining(node: Node) {
    if node.joined().await == Err(JoinError::NobodyKnown) {
        tracing::info!("no bootstrap node is known, and none was heard in this network: waiting for others");
    }
}

/// Reads the deny-list again whenever that is asked for. One that cannot be used changes nothing.
async fn reload(node: Node, path: PathBuf, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let list = match DenyList::read(&path) {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!("{}; the list from before stays", reply::chain(&error));
                continue;
            }
        };
        let entries = list.len();
        match node.deny(list).await {
            Ok(removed) => tracing::info!(entries, removed, "the deny-list was read again"),
            Err(error) => {
                tracing::error!(entries, %error, "the deny-list counts; what it denies may still be on the disk");
            }
        }
    }
}

fn listen_to(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::usage(format!("the system does not deliver signals: {error}")))
}

/// The signals that ask a daemon to stop.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: listen_to(SignalKind::interrupt())?,
            terminate: listen_to(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Logs what RUST_LOG asks for, else what `default` does.
fn log(format: LogFormat, default: &str) -> Result<(), Failure> {
    let (filter, from) = match asked() {
        Some(filter) => (filter, "RUST_LOG"),
        None => (default.to_owned(), "log in the config file"),
    };
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| Failure::usage(format!("{from} is not a log filter such as info: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// A client says what it has to say by itself, and logs only on demand.
pub(crate) fn log_if_asked() -> Result<(), Failure> {
    match asked() {
        Some(_) => log(LogFormat::Text, DEFAULT_LOG),
        None => Ok(()),
    }
}

fn asked() -> Option<String> {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_the_system_chose_is_told() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let sockets = [at("127.0.0.1:5000"), at("[::1]:6000")];
        assert_eq!(bound(at("0.0.0.0:0"), &sockets), at("0.0.0.0:5000"));
        assert_eq!(bound(at("[::]:0"), &sockets), at("[::]:6000"));
        assert_eq!(bound(at("0.0.0.0:4000"), &sockets), at("0.0.0.0:4000"));
    }
}
