//! `find-node`, `closest` and `ping`: questions about the network itself.

use clap::Args;
use comfy_table::Table;
use kad_core::{Key, NodeId, UnixTime};
use kad_net::WireAddress as _;
use kad_net::nat::candidates::CandidateKind;
use kad_net::nat::observation::NatClass;
use kad_net::quic::QuicAddress;
use kad_node::{Peer, Whereabouts};
use serde_json::json;

use super::arguments::{ClientArgs, NetworkArgs, now, parse_key, parse_node_id};
use super::client::{with_lone_node, with_node};
use super::reply::{Answer, Failure};
use super::values::{addresses, contact_json};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kad-node find-node ID --bootstrap 192.0.2.7:4000")]
pub(crate) struct FindNodeArgs {
    /// Whom to find: 64 hexadecimal digits
    #[arg(value_parser = parse_node_id)]
    id: NodeId,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn find_node(args: FindNodeArgs, json: bool) -> Result<Answer, Failure> {
    let FindNodeArgs { id, client } = args;
    with_node(
        &client.network,
        client.key.as_deref(),
        json,
        async move |node| match node.find_node(id).await? {
            Some(found)
                if found.contact.is_some() || found.card.as_ref().is_some_and(|card| !card.is_nowhere()) =>
            {
                Ok(whereabouts(id, &found))
            }
            Some(_) => Err(Failure::negative(format!(
                "the node {id} has stopped: its card says that it is nowhere"
            ))),
            None => Err(Failure::negative(format!(
                "the node {id} was not found: it does not answer, and no card of it is there"
            ))),
        },
    )
    .await
}

/// Where a node is, as its contact and its card say.
fn whereabouts(id: NodeId, found: &Whereabouts<QuicAddress>) -> Answer {
    let (contact, card) = (found.contact.as_ref(), found.card.as_ref());
    // Who answers serves, whatever an older card says.
    let serves = contact.is_some() || card.is_some_and(|card| card.serves);
    let role = if serves { "server" } else { "client" };
    let kind = |kind| match kind {
        CandidateKind::Lan => "lan",
        CandidateKind::Verified => "verified",
        CandidateKind::Mapped => "mapped",
        CandidateKind::Observed => "observed",
        CandidateKind::Relayed => "relayed",
    };
    let nat = card.map(|card| match card.class {
        NatClass::Unknown => "unknown",
        NatClass::EndpointIndependent => "endpoint-independent",
        NatClass::EndpointDependent => "endpoint-dependent",
    });
    let candidates = card.map_or(&[][..], |card| &card.candidates);
    let relays = card.map_or(&[][..], |card| &card.relays);
    let mut fields = json!({
        "id": id.to_string(),
        "role": role,
        "addresses": contact.map_or_else(Vec::new, |contact| addresses(&contact.address)),
        "candidates": candidates
            .iter()
            .map(|candidate| json!({ "address": candidate.address.to_string(), "kind": kind(candidate.kind) }))
            .collect::<Vec<_>>(),
        "relays": relays.iter().map(contact_json).collect::<Vec<_>>(),
    });
    fields["nat"] = json!(nat);
    fields["expires"] = json!(found.expires.map(UnixTime::as_secs));
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.add_row(["role".to_owned(), role.to_owned(), String::new()]);
    for socket in contact.iter().flat_map(|contact| contact.address.sockets()) {
        table.add_row([
            "address".to_owned(),
            socket.to_string(),
            "it answers there".to_owned(),
        ]);
    }
    for candidate in candidates {
        table.add_row([
            "card".to_owned(),
            candidate.address.to_string(),
            kind(candidate.kind).to_owned(),
        ]);
    }
    for relay in relays {
        table.add_row([
            "relay".to_owned(),
            relay.address.to_string(),
            relay.id.to_string(),
        ]);
    }
    Answer::new(fields, table.trim_fmt())
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kad-node closest KEY --bootstrap 192.0.2.7:4000")]
pub(crate) struct ClosestArgs {
    /// The point to look around: 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_key)]
    target: Key,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn closest(args: ClosestArgs, json: bool) -> Result<Answer, Failure> {
    let ClosestArgs { target, client } = args;
    with_node(&client.network, client.key.as_deref(), json, async move |node| {
        let closest = node.closest(target).await?;
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["bits in common", "node id", "addresses"]);
        let mut all = Vec::new();
        for contact in &closest.contacts {
            let bits = target.distance(contact.id.to_key()).leading_zeros();
            table.add_row([
                bits.to_string(),
                contact.id.to_string(),
                contact.address.to_string(),
            ]);
            let mut fields = contact_json(contact);
            fields["prefix_bits"] = json!(bits);
            all.push(fields);
        }
        let fields = json!({
            "key": target.to_string(),
            "closest": all,
            "requests": closest.effort.requests,
            "took_ms": closest.effort.took.as_millis() as u64,
        });
        Ok(Answer::new(fields, table.trim_fmt()))
    })
    .await
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kad-node ping 192.0.2.7:4000")]
pub(crate) struct PingArgs {
    /// Whom to ask
    #[arg(value_name = "[ID@]HOST:PORT")]
    peer: Peer,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(crate) async fn ping(args: PingArgs) -> Result<Answer, Failure> {
    let PingArgs { peer, network } = args;
    with_lone_node(&network, &peer, async |node| {
        // Who is there is learnt by a handshake, so the question itself takes one round trip.
        let contact = node.identify(&peer).await?;
        let pong = node.ping(contact.clone()).await?;
        let ahead = i128::from(pong.unix.as_secs()) - i128::from(now().as_secs());
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        let millis = pong.took.as_secs_f64() * 1e3;
        let fields = json!({
            "id": contact.id.to_string(),
            "addresses": addresses(&contact.address),
            "round_trip_ms": millis,
            "observed": addresses(&pong.observed),
            "clock_difference_s": ahead,
        });
        let text = format!(
            "node id     {}\naddress     {}\nround trip  {millis:.3} ms\nobserved    {}\nclock       {ahead:+} s",
            contact.id, contact.address, pong.observed
        );
        Ok(Answer::new(fields, text))
    })
    .await
}
