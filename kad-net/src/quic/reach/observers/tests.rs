use super::super::tests::{config, dial, eventually, key, node, server};
use super::*;
use crate::Transport as _;
use crate::nat::reachability::RoleChoice;
use crate::quic::QuicTransport;

fn observer(link: &Arc<Link>, serves: bool) -> Observer {
    Observer {
        link: link.clone(),
        ip: link.whereabouts().at.ip(),
        again: Instant::ZERO,
        wake_at: Instant::ZERO,
        serves,
    }
}

#[tokio::test]
async fn callers_that_fill_the_list_make_room_for_who_was_dialled_and_for_nobody_else() {
    // One connection from both of its ends.
    let (one, other) = (server(135), node(136, config(RoleChoice::Client)));
    dial(&other, &one).await;
    let link = |from: &QuicTransport, to: &QuicTransport| from.shared.pool.open(&to.local().id);
    eventually("both have it", || {
        link(&one, &other).is_some() && link(&other, &one).is_some()
    })
    .await;
    let [called, dialled] = [link(&one, &other), link(&other, &one)].map(|link| link.unwrap().link().clone());
    assert!(!called.dialled && dialled.dialled);

    let id = |n: u8| key(n).node_id();
    let mut observers = Observers::default();
    for n in 0..MAX_OBSERVERS as u8 - 2 {
        observers.asked.insert(id(n), observer(&dialled, false));
    }
    observers.asked.insert(id(100), observer(&called, true));
    assert_eq!(observers.make_room(&id(200)), None, "there is room");
    observers.asked.insert(id(101), observer(&called, false));
    assert_eq!(observers.make_room(&id(100)), None, "it is there already");
    assert_eq!(observers.make_room(&id(200)), Some(id(101)), "it does not serve");
    observers.asked.insert(id(200), observer(&dialled, false));
    assert_eq!(observers.make_room(&id(201)), Some(id(100)));
    observers.asked.insert(id(201), observer(&dialled, false));
    assert_eq!(observers.make_room(&id(202)), None, "all were dialled");
    assert_eq!(observers.asked.len(), MAX_OBSERVERS);
}
