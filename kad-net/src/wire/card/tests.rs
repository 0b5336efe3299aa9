use proptest::prelude::*;

use super::CandidateKind::{Lan, Mapped, Observed, Relayed, Verified};
use super::*;

fn candidate(kind: CandidateKind, address: &str) -> Candidate {
    Candidate {
        address: address.parse().unwrap(),
        kind,
    }
}

fn relay(first: u8, address: &str) -> Contact<SocketAddr> {
    Contact::new(NodeId::from_bytes([first; ID_BYTES]), address.parse().unwrap())
}

/// A card that has something of everything.
fn whole() -> Card<SocketAddr> {
    Card {
        candidates: vec![
            candidate(Verified, "[2001:db8::1]:4001"),
            candidate(Mapped, "203.0.113.7:4001"),
            candidate(Observed, "203.0.113.7:5000"),
            candidate(Lan, "192.168.0.7:4001"),
        ],
        class: NatClass::EndpointIndependent,
        relays: vec![relay(7, "198.51.100.1:4001"), relay(8, "198.51.100.2:4001")],
        serves: false,
    }
}

#[test]
fn a_relayed_candidate_and_what_is_beyond_the_bounds_are_left_out() {
    let mut card = whole();
    card.candidates.insert(0, candidate(Relayed, "198.51.100.1:4001"));
    let value = card.encode().unwrap();
    assert_eq!(Card::decode(&value, Scope::Global), Ok(whole()));

    let many = Card {
        candidates: (0..20)
            .map(|port| candidate(Observed, &format!("203.0.113.7:{}", 4000 + port)))
            .collect(),
        relays: (0..9).map(|first| relay(first, "198.51.100.1:4001")).collect(),
        ..Card::default()
    };
    let read = Card::<SocketAddr>::decode(&many.encode().unwrap(), Scope::Global).unwrap();
    assert_eq!(read.candidates, many.candidates[..MAX_CANDIDATES]);
    assert_eq!(read.relays, many.relays[..MAX_RESERVED]);
}

#[test]
fn nobody_can_have_addresses_dialled_that_are_outside_of_the_scope() {
    let card = Card {
        candidates: vec![
            candidate(Verified, "192.168.0.1:4001"),
            candidate(Observed, "8.8.8.8:53"),
            candidate(Lan, "224.0.0.1:4001"),
            candidate(Lan, "10.0.0.1:4001"),
        ],
        relays: vec![relay(1, "127.0.0.1:4001")],
        ..Card::default()
    };
    let value = card.encode().unwrap();
    let read = Card::<SocketAddr>::decode(&value, Scope::Global).unwrap();
    assert_eq!(read.candidates, [candidate(Lan, "10.0.0.1:4001")]);
    assert_eq!(read.relays, []);
    let read = Card::<SocketAddr>::decode(&value, Scope::Any).unwrap();
    assert_eq!((read.candidates.len(), read.relays.len()), (3, 1));
}

#[test]
fn what_is_no_card_is_refused_by_name() {
    let value = whole().encode().unwrap();
    let read = |value: &[u8]| Card::<SocketAddr>::decode(value, Scope::Any);
    assert_eq!(read(b"card"), Err(DecodeError::NoCard));
    assert_eq!(read(b""), Err(DecodeError::NoCard));
    for end in MARKER.len()..value.len() {
        assert!(read(&value[..end]).is_err(), "cut at {end}");
    }
    let changed = |at: usize, byte: u8| {
        let mut value = value.clone();
        value[at] = byte;
        read(&value)
    };
    assert_eq!(changed(8, 2), Err(DecodeError::UnknownVersion(2)));
    let candidates = Err(DecodeError::TooManyElements("candidates"));
    assert_eq!(changed(11, MAX_CANDIDATES as u8 + 1), candidates);
    assert_eq!(
        read(&[&value[..], b"x"].concat()),
        Err(DecodeError::TrailingBytes)
    );
    assert_eq!(
        read(&[&value[..], &[0; MAX_CARD_BYTES]].concat()),
        Err(DecodeError::TooLarge)
    );

    let no_candidates = [&MARKER[..], &[VERSION, 0, 0, 0]].concat();
    let many_relays = [&no_candidates[..], &[MAX_RESERVED as u8 + 1], &[0; 400]].concat();
    assert_eq!(read(&many_relays), Err(DecodeError::TooManyElements("relays")));
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    // A class, a kind of candidate, a flag and an extension that are not known here.
    let value = b"kad-card\x01\x83\x09\x02\x09\x00\xcb\x00\x71\x07\xfb\xa1\x0f\x03\x00\xcb\x00\x71\x07\xfb\xa1\x0f\x00\
        \x01\x05\x02hi";
    let card = Card::<SocketAddr>::decode(value, Scope::Global).unwrap();
    assert_eq!(card.candidates, [candidate(Observed, "203.0.113.7:4001")]);
    assert_eq!((card.class, card.serves), (NatClass::Unknown, true));
}

#[test]
fn the_largest_card_is_well_below_the_bound() {
    let socket: SocketAddr = "[2001:db8:1:2:3:4:5:6]:65535".parse().unwrap();
    let address = vec![socket; 4];
    let one = Candidate {
        address: socket,
        kind: Mapped,
    };
    let value = Card {
        candidates: vec![one; MAX_CANDIDATES],
        class: NatClass::EndpointDependent,
        relays: (0..MAX_RESERVED).map(|_| relay(1, "1.1.1.1:4001")).collect(),
        serves: true,
    };
    // Three more sockets for each relay than an address of this test can have.
    let missing = MAX_RESERVED * (address.len() * 20 - 8);
    assert!(value.encode().unwrap().len() + missing < MAX_CARD_BYTES / 3);
}

proptest! {
    #[test]
    fn every_card_comes_back(
        candidates in prop::collection::vec((0usize..4, any::<SocketAddr>()), 0..=MAX_CANDIDATES),
        relays in prop::collection::vec((any::<[u8; ID_BYTES]>(), any::<SocketAddr>()), 0..=MAX_RESERVED),
        class in 0u8..3,
        serves: bool,
    ) {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let candidates: Vec<_> = candidates
            .into_iter()
            .map(|(kind, address)| Candidate { address: canonical(address), kind: [Lan, Verified, Mapped, Observed][kind] })
            .filter(|candidate| Scope::Any.admits(candidate.address))
            .collect();
        let relays = relays.into_iter().map(|(id, address)| Contact::new(NodeId::from_bytes(id), canonical(address)));
        let card = Card { candidates, class: class_from_number(class), relays: relays.collect(), serves };
        prop_assert_eq!(Card::decode(&card.encode().unwrap(), Scope::Any), Ok(card));
    }

    #[test]
    fn no_bytes_are_too_hostile(bytes in prop::collection::vec(any::<u8>(), 0..200), as_card: bool) {
        let value = if as_card { [&MARKER[..], &[VERSION], &bytes].concat() } else { bytes };
        if let Ok(card) = Card::<SocketAddr>::decode(&value, Scope::Global) {
            prop_assert!(card.candidates.len() <= MAX_CANDIDATES && card.relays.len() <= MAX_RESERVED);
            let again = Card::decode(&card.encode().unwrap(), Scope::Global);
            prop_assert_eq!(again, Ok(card));
        }
    }
}
