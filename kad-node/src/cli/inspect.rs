//! `find-node`, `closest` and `ping`: questions about the network itself.

use clap::Args;
use comfy_table::Table;
use kad_core::{Key, NodeId};
use kad_node::Peer;
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
            Some(contact) => Ok(Answer::new(contact_json(&contact), contact.address.to_string())),
            None => Err(Failure::negative(format!("the node {id} was not found"))),
        },
    )
    .await
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
