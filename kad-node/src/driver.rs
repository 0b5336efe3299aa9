//! The one task that owns the state machine, and everything that the machine may not have: clocks, sockets, a disk.
//!
//! ```text
//!   Node ──commands──►┌────────┐──Output::Request──► a task: encode, send, receive, decode, verify ──┐
//!   transport ───────►│ driver │──Output::Response─► a task: encode, send                            │
//!     (decoded)       │  task  │──Output::Store────► the store's thread, or a reading task ─────────┤
//!   timer ───────────►└────────┘◄──────────────────────────── completions ─────────────────────────┘
//! ```
//!
//! Each turn takes a bounded batch of what has come in, completions before commands before new requests of peers (local
//! work first), drains the outbox and arms the timer again. The driver never waits for anything but its channels.

mod effects;
mod held;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kad_core::{
    Command, Contact, Effort, Event, Failure, Input, Kademlia, Keypair, Now, Outbox, Outcome, QueryId,
    Record, ReplyId, Request, RequestId, Response, StoreId, StoreReply, UnixTime, Verdict,
};
use kad_net::{Inbound, Transport, wire::Codec};
use kad_store::RecordReader;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

pub(crate) use self::held::Held;
use crate::join::Company;
use crate::policy::Policy;
use crate::storage::Storage;

/// Completions that wait for the driver; a task with one more waits, which slows nothing but itself.
const MAX_COMPLETIONS: usize = 1024;
/// Requests of peers that wait for the driver; the transport holds back the rest, up to its own bound.
const MAX_INBOUND: usize = 256;
/// Inputs of one kind that are taken in one turn, so that no kind starves the others.
const BATCH: usize = 64;

/// Where the outcome of a query goes.
pub(crate) type Answer<A> = oneshot::Sender<(Outcome<A>, Effort)>;

/// A look at the machine, from where it is owned.
pub(crate) type Look<A> = Box<dyn FnOnce(&Kademlia<A>) + Send>;

/// What a node asks its driver.
pub(crate) enum Order<A> {
    Query {
        id: QueryId,
        command: Command<A>,
        answer: Answer<A>,
    },
    Cancel(QueryId),
    /// Only ask from now on, or serve as well.
    Role {
        read_only: bool,
    },
    Look(Look<A>),
    /// Keep a record as the node's own, due at this time; says what became of it.
    Keep {
        record: Record,
        due: UnixTime,
        answer: oneshot::Sender<Verdict>,
    },
    Shutdown,
}

/// What tasks and the store tell the driver.
pub(crate) enum Completion<A> {
    Response {
        id: RequestId,
        /// Where the peer is, if not where it was asked.
        at: Option<A>,
        response: Response<A>,
        rtt: Option<Duration>,
    },
    Failure {
        id: RequestId,
        failure: Failure,
    },
    Store {
        id: StoreId,
        reply: StoreReply,
    },
}

/// A request of a peer, decoded.
pub(crate) struct Incoming<A, R> {
    from: Contact<A>,
    read_only: bool,
    request: Request,
    reply: R,
}

/// The contacts that were added last, shared with whoever rejoins.
pub(crate) type Remembered<A> = Arc<Mutex<VecDeque<Contact<A>>>>;

/// Both clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            monotonic: kad_core::Instant::from_micros(micros),
            unix: unix_now(),
        }
    }

    fn at(&self, instant: kad_core::Instant) -> tokio::time::Instant {
        (self.origin + Duration::from_micros(instant.as_micros())).into()
    }
}

/// What the wall clock says.
pub(crate) fn unix_now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_secs(since.as_secs())
}

/// What a driver is made of.
pub(crate) struct Parts<T: Transport, R> {
    pub(crate) machine: Kademlia<T::Address>,
    pub(crate) clock: Clock,
    pub(crate) transport: Arc<T>,
    pub(crate) codec: Codec,
    pub(crate) read_only: bool,
    pub(crate) policy: Arc<Policy>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) reader: R,
    pub(crate) held: Held,
    pub(crate) orders: mpsc::Receiver<Order<T::Address>>,
    pub(crate) events: broadcast::Sender<Event<T::Address>>,
    /// Whom the node has.
    pub(crate) company: watch::Sender<Company>,
    /// Contacts to go back to when all are lost.
    pub(crate) remembered: Remembered<T::Address>,
    /// The node's identity, to renew what it signed.
    pub(crate) keypair: Keypair,
    /// The life that renewed records get.
    pub(crate) lifetime: Duration,
    /// Counts the bytes of comparisons and of what they brought.
    pub(crate) repair_bytes: Arc<AtomicU64>,
}

/// The driver. [`Driver::run`] ends when it is told to, or when the last [`Node`](crate::Node) is gone.
pub(crate) struct Driver<T: Transport, R> {
    parts: Parts<T, R>,
    outbox: Outbox<T::Address>,
    completions: mpsc::Sender<Completion<T::Address>>,
    queries: HashMap<QueryId, Answer<T::Address>>,
    /// The tasks of requests in flight; as many as the machine has.
    requests: HashMap<RequestId, AbortHandle>,
    /// Peers that wait for an answer; bounded by what the transport lets in at once.
    replies: HashMap<ReplyId, T::Reply>,
    next_reply: u64,
}

impl<T: Transport, R: RecordReader> Driver<T, R> {
    /// Runs until the end, and gives back what must be closed in order.
    pub(crate) async fn run(parts: Parts<T, R>) -> Kademlia<T::Address> {
        let (completions, mut completed) = mpsc::channel(MAX_COMPLETIONS);
        let (inbound, mut incoming) = mpsc::channel(MAX_INBOUND);
        let accepting = tokio::spawn(accept(
            parts.transport.clone(),
            parts.codec.clone(),
            parts.policy.clone(),
            inbound,
        ));
        let mut driver = Self {
            parts,
            outbox: Outbox::new(),
            completions,
            queries: HashMap::new(),
            requests: HashMap::new(),
            replies: HashMap::new(),
            next_reply: 0,
        };
        let mut orders = Vec::with_capacity(BATCH);
        let mut done = Vec::with_capacity(BATCH);
        let mut asked = Vec::with_capacity(BATCH);
        let timer = tokio::time::sleep_until(driver.deadline());
        tokio::pin!(timer);
        let mut running = true;
        while running {
            tokio::select! {
                biased;
                () = &mut timer => driver.feed(Input::Timeout),
                _ = completed.recv_many(&mut done, BATCH) => {
                    for completion in done.drain(..) {
                        driver.complete(completion);
                    }
                }
                taken = driver.parts.orders.recv_many(&mut orders, BATCH) => {
                    running = taken > 0;
                    for order in orders.drain(..) {
                        running &= driver.obey(order);
                    }
                }
                taken = incoming.recv_many(&mut asked, BATCH) => {
                    running = taken > 0;
                    for request in asked.drain(..) {
                        driver.serve(request);
                    }
                }
            }
            let deadline = driver.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
        }
        accepting.abort();
        driver.stop()
    }

    fn deadline(&self) -> tokio::time::Instant {
        /// The machine always has a timer armed; this is only what to do if it ever had none.
        const IDLE: Duration = Duration::from_secs(3600);
        let due = self
            .parts
            .machine
            .poll_timeout()
            .map(|at| self.parts.clock.at(at));
        due.unwrap_or_else(|| tokio::time::Instant::now() + IDLE)
    }

    fn feed(&mut self, input: Input<T::Address>) {
        let now = self.parts.clock.now();
        self.parts.machine.handle(now, input, &mut self.outbox);
        self.drain(now);
    }

    fn complete(&mut self, completion: Completion<T::Address>) {
        let input = match completion {
            Completion::Response {
                id,
                at,
                response,
                rtt,
            } => {
                self.requests.remove(&id);
                if let Some(address) = at {
                    self.feed(Input::Proven { id, address });
                }
                Input::Response { id, response, rtt }
            }
            Completion::Failure { id, failure } => {
                self.requests.remove(&id);
                Input::Failure { id, failure }
            }
            Completion::Store { id, reply } => Input::Store { id, reply },
        };
        self.feed(input);
    }

    /// Says whether to go on.
    fn obey(&mut self, order: Order<T::Address>) -> bool {
        match order {
            Order::Query { id, command, answer } => {
                self.queries.insert(id, answer);
                self.feed(Input::Command { query: id, command });
            }
            Order::Cancel(query) => {
                if self.queries.remove(&query).is_some() {
                    self.feed(Input::Cancel { query });
                }
            }
            Order::Role { read_only } => {
                // What the machine sends because of it says so already.
                self.parts.read_only = read_only;
                self.feed(Input::Role { read_only });
            }
            Order::Look(look) => look(&self.parts.machine),
            Order::Keep { record, due, answer } => self.keep(record, due, answer),
            Order::Shutdown => return false,
        }
        true
    }

    fn serve(&mut self, incoming: Incoming<T::Address, T::Reply>) {
        let Incoming {
            from,
            read_only,
            request,
            reply,
        } = incoming;
        let reply_to = ReplyId(self.next_reply);
        self.next_reply += 1;
        self.replies.insert(reply_to, reply);
        self.feed(Input::Request {
            from,
            read_only,
            reply_to,
            request,
        });
    }

    /// Refuses what waits and abandons what is in flight.
    fn stop(mut self) -> Kademlia<T::Address> {
        for (_, request) in self.requests.drain() {
            request.abort();
        }
        // Whoever waits is told by the end of the channel that the node has stopped.
        self.queries.clear();
        self.parts.machine
    }
}

/// Takes requests from the transport, decodes them, and hands them to the driver. Small ones are decoded here; a STORE,
/// whose records are hashed and whose signatures are checked, on a task of its own.
async fn accept<T: Transport>(
    transport: Arc<T>,
    codec: Codec,
    policy: Arc<Policy>,
    inbound: mpsc::Sender<Incoming<T::Address, T::Reply>>,
) {
    while let Some(Inbound { from, frame, reply }) = transport.accept().await {
        if Codec::is_store(&frame) {
            let (codec, policy) = (codec.clone(), policy.clone());
            tokio::spawn(admit(codec, policy, from, frame, reply, inbound.clone()));
        } else {
            let (codec, policy) = (codec.clone(), policy.clone());
            admit(codec, policy, from, frame, reply, inbound.clone()).await;
        }
    }
}

async fn admit<A: kad_net::WireAddress, R: kad_net::Reply>(
    codec: Codec,
    policy: Arc<Policy>,
    from: Contact<A>,
    frame: bytes::Bytes,
    reply: R,
    inbound: mpsc::Sender<Incoming<A, R>>,
) {
    match codec.decode_request(unix_now(), frame) {
        Ok(decoded) => {
            let incoming = Incoming {
                from,
                read_only: decoded.read_only,
                request: policy.of_request(decoded.request),
                reply,
            };
            // A driver that has gone away drops the reply, which tells the peer.
            let _ = inbound.send(incoming).await;
        }
        Err(error) => {
            tracing::debug!(peer = %from.id, %error, "a request could not be read");
            let refusal: Response<A> = Response::Rejected(error.rejection());
            if let Ok(frame) = codec.encode_response(unix_now(), &refusal) {
                // Whoever does not read the refusal must not hold up the others; the transport bounds how many there
                // are.
                tokio::spawn(reply.send(frame));
            }
        }
    }
}
