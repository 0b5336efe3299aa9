//! Who is at the other end is proven, or nothing happens.

use std::net::SocketAddr;

use kad_core::{Contact, Failure, NetworkId, Parameters};
use kad_net::quic::{BindError, QuicConfig, QuicError, QuicTransport};
use kad_net::{Reply, Transport, TransportError, WireAddress};

use crate::nodes::*;

#[tokio::test]
async fn both_sides_learn_the_id_of_the_other() {
    let (a, b) = (node(1), node(2));
    let asking = {
        let (a, to) = (a.clone(), b.local());
        tokio::spawn(async move { ask(&a, &to, b"who are you").await })
    };
    let inbound = soon(b.accept()).await.unwrap();
    assert_eq!(inbound.from, a.local());
    assert_eq!(inbound.frame, "who are you");
    inbound.reply.send("b".into()).await;
    let answer = asking.await.unwrap().unwrap();
    assert_eq!(answer.frame, "b");
    assert!(!answer.warm);
    assert_eq!(soon(a.identify(&b.local().address)).await.unwrap(), b.local());
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_asked() {
    let (a, b) = (node(1), echo(2));
    let to = Contact::new(key(3).node_id(), b.local().address);
    let error = ask(&a, &to, b"x").await.unwrap_err();
    let found = key(2).node_id();
    assert_eq!(
        error,
        QuicError::WrongIdentity {
            expected: to.id,
            found
        }
    );
    assert_eq!(error.failure(), Failure::WrongIdentity);
    assert_eq!(a.stats().wrong_identity, 1);
    assert_eq!(b.stats().bytes_received, 0);
}

#[tokio::test]
async fn member_of_another_network_is_told_apart() {
    let a = node(1);
    let other = NetworkId::new("other", &Parameters::default());
    let b = bind(QuicConfig {
        network: other,
        ..config(2)
    });
    let error = ask(&a, &b.local(), b"x").await.unwrap_err();
    assert_eq!(error, QuicError::OtherNetwork);
    assert_eq!(error.failure(), Failure::WrongIdentity);
    assert_eq!(
        soon(a.identify(&b.local().address)).await,
        Err(QuicError::OtherNetwork)
    );
    eventually("both handshakes are counted", || b.stats().refused == 2).await;
    assert_eq!(b.stats().accepted, 0);
}

#[tokio::test]
async fn client_without_certificate_is_refused() {
    let a = node(1);
    let plain = Plain::new(None, &format!("nkad/1/{}", network()));
    // In TLS 1.3 the client is done first, and hears of its refusal a moment later.
    if let Ok(connection) = plain.try_connect(&a).await {
        let reason = soon(connection.closed()).await;
        assert!(
            matches!(reason, quinn::ConnectionError::ConnectionClosed(_)),
            "{reason}"
        );
    }
    eventually("it is counted", || a.stats().refused == 1).await;
    assert_eq!((a.stats().accepted, a.stats().connections), (0, 0));
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let a = node(1);
    let error = Plain::new(Some(&key(2)), "h3").try_connect(&a).await.unwrap_err();
    assert!(
        matches!(error, quinn::ConnectionError::ConnectionClosed(_)),
        "{error}"
    );
    eventually("it is counted", || a.stats().refused == 1).await;
}

#[tokio::test]
async fn own_address_is_not_dialled_into_a_loop() {
    let a = node(1);
    assert_eq!(ask(&a, &a.local(), b"x").await.unwrap_err(), QuicError::Ourselves);
    assert_eq!(
        soon(a.identify(&a.local().address)).await,
        Err(QuicError::Ourselves)
    );
    eventually("the connection is gone", || a.stats().connections == 0).await;
}

#[tokio::test]
async fn ipv6_and_ipv4_nodes_meet_on_the_family_that_both_have() {
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0));
    let both = bind(QuicConfig {
        listen: vec![config(1).listen[0], v6],
        ..config(1)
    });
    let only6 = bind(QuicConfig {
        listen: vec![v6],
        ..config(2)
    });
    let only4 = node(3);
    for node in [&both, &only6, &only4] {
        serve_echo(node);
    }
    assert_eq!(both.local().address.sockets().len(), 2);
    for (from, to) in [(&only4, &both), (&only6, &both), (&both, &only6), (&both, &only4)] {
        assert_eq!(ask(from, &to.local(), b"x").await.unwrap().frame, "x");
    }
    let error = ask(&only4, &only6.local(), b"x").await.unwrap_err();
    assert_eq!((error.failure(), error), (Failure::Local, QuicError::NoSocket));
}

#[tokio::test]
async fn binding_says_in_words_what_is_wrong() {
    let a = node(1);
    let taken = a.local().address.sockets()[0];
    let try_bind =
        |listen: Vec<SocketAddr>| QuicTransport::bind(QuicConfig { listen, ..config(2) }).unwrap_err();
    assert!(matches!(try_bind(vec![taken]), BindError::PortInUse { address } if address == taken));
    let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
    assert!(matches!(
        try_bind(vec![foreign]),
        BindError::AddressNotAvailable { .. }
    ));
    assert!(matches!(try_bind(vec![]), BindError::NoAddress));
    assert!(matches!(
        try_bind(vec![foreign, taken]),
        BindError::TwoOfAFamily { .. }
    ));
    assert_eq!(
        try_bind(vec![taken]).to_string(),
        format!("the port of {taken} is already in use")
    );
}

#[test]
fn binding_outside_of_a_runtime_is_an_error() {
    assert!(matches!(
        QuicTransport::bind(config(1)),
        Err(BindError::NoRuntime)
    ));
}
