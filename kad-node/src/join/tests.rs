use kad_core::{Command, Effort, Keypair, Outcome};
use kad_net::memory::{Conditions, MemoryTransport, Network};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::driver::Order;
use crate::node::Asker;

type Address = <MemoryTransport as Transport>::Address;

/// A joiner whose queries the test answers. Its time passes when everybody waits.
struct Bench {
    orders: mpsc::Receiver<Order<Address>>,
    _asker: Asker<Address>,
    company: watch::Sender<Company>,
    moves: watch::Sender<u64>,
    state: watch::Receiver<JoinState>,
    _network: Network,
}

fn bench(knows_somebody: bool, hears: bool) -> Bench {
    let network = Network::new(1, Conditions::default());
    let id = |n: u8| Keypair::from_secret(&[n; 32]).node_id();
    let transport = network.join(id(1), "10.0.0.1:4000".parse().unwrap());
    let somebody = Contact::new(id(2), "10.0.0.2:4000".parse().unwrap());
    let (order, orders) = mpsc::channel(8);
    let asker = Asker::new(order);
    let (company, has_company) = watch::channel(Company::Nobody);
    let (moves, moving) = watch::channel(0);
    let (tell, state) = watch::channel(JoinState::Joining);
    let remembered = knows_somebody.then_some(somebody);
    let joiner = Joiner {
        transport: Arc::new(transport),
        asker: asker.downgrade(),
        peers: Vec::new(),
        hears,
        moves: Some(moving),
        remembered: Arc::new(std::sync::Mutex::new(remembered.into_iter().collect())),
        state: tell,
        proof: None,
    };
    tokio::spawn(joiner.run(has_company));
    Bench {
        orders,
        _asker: asker,
        company,
        moves,
        state,
        _network: network,
    }
}

impl Bench {
    /// Waits until the node joins, and answers that it has.
    async fn joins(&mut self) {
        match self.orders.recv().await.unwrap() {
            Order::Query {
                command: Command::Bootstrap { contacts },
                answer,
                ..
            } => {
                self.company.send_replace(Company::Neighbours);
                let outcome = Outcome::Bootstrapped {
                    contacts: contacts.len(),
                };
                answer.send((outcome, Effort::default())).unwrap();
            }
            _ => panic!("that is no bootstrap"),
        }
    }

    async fn is(&mut self, state: &JoinState) {
        self.state.wait_for(|now| now == state).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_node_that_is_silent_is_not_waited_for_while_there_are_others() {
    // Nothing sent to the first one arrives, and nothing says so.
    let network = Network::new(1, Conditions::default());
    let join = |n: u8| {
        let id = Keypair::from_secret(&[n; 32]).node_id();
        network.join(id, ([10, 0, 0, n], 4000).into())
    };
    let (own, silent, other) = (join(1), join(2), join(3));
    network.part([silent.local().address]);
    let peers = [&silent, &other].map(|peer| Peer::from(peer.local().address));
    let bench = bench(false, false);
    let joiner = Joiner {
        transport: Arc::new(own),
        asker: bench._asker.downgrade(),
        peers: Vec::new(),
        hears: false,
        moves: None,
        remembered: Arc::default(),
        state: watch::channel(JoinState::Joining).0,
        proof: None,
    };
    let began = Instant::now();
    let (met, tried) = joiner.meet(&peers, 1, false, &mut Vec::new()).await;
    let ids: Vec<_> = met.iter().map(|contact| contact.id).collect();
    assert_eq!((ids, tried), (vec![other.local().id], 2));
    assert!(began.elapsed() < GRACE * 3, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_has_moved_joins_anew_and_so_does_one_that_has_lost_everybody() {
    let mut bench = bench(true, false);
    bench.joins().await;
    bench.is(&JoinState::Joined).await;
    bench.moves.send_replace(1);
    bench.joins().await;
    bench.is(&JoinState::Joined).await;
    bench.company.send_replace(Company::Nobody);
    bench.joins().await;
    // Who does neither does not.
    let quiet = tokio::time::timeout(Duration::from_secs(3600), bench.orders.recv()).await;
    assert!(quiet.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_knows_nobody_waits_for_neighbours_before_it_is_alone() {
    let began = Instant::now();
    bench(false, false).is(&JoinState::Alone).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    bench(false, true).is(&JoinState::Alone).await;
    assert_eq!(began.elapsed(), NEIGHBOURS_WITHIN);
    let mut met = bench(false, true);
    met.company.send_replace(Company::Neighbours);
    met.is(&JoinState::Joined).await;
    assert_eq!(began.elapsed(), NEIGHBOURS_WITHIN);
}
