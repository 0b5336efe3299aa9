//! The contacts of a node on disk, so that a restart needs no bootstrap node.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use kad_core::{Contact, NetworkId, NodeId};
use kad_net::WireAddress;
use serde::{Deserialize, Serialize};

/// Contacts kept: more than the best-filled table of a large network has, and half a megabyte at most.
const MAX_CONTACTS: usize = 1024;

/// A file larger than this is none of ours.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    version: u32,
    network: String,
    contacts: Vec<Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    id: String,
    addresses: Vec<std::net::SocketAddr>,
}

const VERSION: u32 = 1;

/// Writes the contacts beside the file and renames, so that a crash leaves the old or the new.
pub(crate) fn write<A: WireAddress>(
    path: &Path,
    network: &NetworkId,
    contacts: &[Contact<A>],
) -> io::Result<()> {
    let saved = |contact: &Contact<A>| Saved {
        id: contact.id.to_string(),
        addresses: contact.address.sockets().to_vec(),
    };
    let snapshot = Snapshot {
        version: VERSION,
        network: network.to_string(),
        contacts: contacts.iter().take(MAX_CONTACTS).map(saved).collect(),
    };
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    serde_json::to_writer_pretty(&mut file, &snapshot)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Reads the contacts. What cannot be read costs a warning and the convenience of not needing a bootstrap node.
pub(crate) fn read<A: WireAddress>(path: &Path, network: &NetworkId) -> Vec<Contact<A>> {
    match try_read(path, network) {
        Ok(contacts) => contacts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved contacts cannot be used");
            Vec::new()
        }
    }
}

fn try_read<A: WireAddress>(path: &Path, network: &NetworkId) -> io::Result<Vec<Contact<A>>> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(io::Error::other("the file is too large"));
    }
    let snapshot: Snapshot = serde_json::from_slice(&fs::read(path)?)?;
    if snapshot.version != VERSION || snapshot.network != network.to_string() {
        return Err(io::Error::other(
            "it was written by another version or for another network",
        ));
    }
    let contact = |saved: Saved| {
        let id: NodeId = saved.id.parse().ok()?;
        Some(Contact {
            id,
            address: A::from_sockets(&saved.addresses)?,
        })
    };
    Ok(snapshot
        .contacts
        .into_iter()
        .take(MAX_CONTACTS)
        .filter_map(contact)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kad_core::Parameters;

    use super::*;

    #[test]
    fn contacts_come_back_and_damage_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contacts.json");
        let network = NetworkId::new("test", &Parameters::default());
        let contacts: Vec<Contact<SocketAddr>> = (1..=3u16)
            .map(|n| {
                Contact::new(
                    NodeId::from_bytes([n as u8; 32]),
                    SocketAddr::from(([127, 0, 0, 1], n)),
                )
            })
            .collect();
        assert!(read::<SocketAddr>(&path, &network).is_empty());
        write(&path, &network, &contacts).unwrap();
        assert_eq!(read::<SocketAddr>(&path, &network), contacts);
        let other = NetworkId::new("other", &Parameters::default());
        assert!(read::<SocketAddr>(&path, &other).is_empty());
        fs::write(&path, b"{\"version\":1").unwrap();
        assert!(read::<SocketAddr>(&path, &network).is_empty());
    }
}
