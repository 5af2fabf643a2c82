//! What stands between requests and a node: bounds, order, and the breaker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use redlockd::lease::{Abstention, Answer, Quorum};
use redlockd::metrics::Metrics;
use redlockd::node::{Call, ClusterClock, Command, Node, NodeQueue, QueueSettings, Receiver, Reply};
use tokio::time::Instant;

use super::fake_node::{FakeNode, Fate};
use super::{Engine, NODE_TIMEOUT, request, until};
use crate::support::Caller;

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_node_never_has_more_to_do_at_once_than_it_was_configured_for() {
    let engine = Engine::<3>::start().await;
    engine.nodes.iter().for_each(|node| node.always(Fate::Late(MS)));
    let locks: Vec<String> = (0..1000).map(|n| format!("lock/{n}")).collect();
    let outcomes = join_all(locks.iter().map(|lock| engine.redlock.acquire(request(lock, None)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1000);
    for node in &engine.nodes {
        assert_eq!(node.most_in_flight(), engine.in_flight as usize);
        assert!(node.batches().iter().all(|batch| batch.len() <= 64));
    }
}

#[tokio::test(start_paused = true)]
async fn three_faults_in_a_row_open_the_breaker_and_a_probe_closes_it() {
    let engine = Engine::<3>::start().await;
    let asked = || engine.nodes[2].batches().len();
    engine.nodes[2].always(Fate::RequestLost);
    for faults in 1..=3 {
        assert_eq!(engine.states(), ["up"; 3]);
        engine.hold("first").await;
        until("the node is asked", || asked() == faults).await;
        // Longer than it has, and in all shorter than until the next probe, which would start the count anew.
        tokio::time::sleep(NODE_TIMEOUT + 10 * MS).await;
    }
    until("it is skipped", || engine.states() == ["up", "up", "down"]).await;
    engine.hold("first").await;
    assert_eq!(asked(), 3);

    engine.nodes[2].always(None);
    until("a probe sees it", || engine.states() == ["up"; 3]).await;
    engine.hold("first").await;
    until("it is asked again", || 3 < asked()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_between_starts_the_count_anew() {
    let engine = Engine::<3>::start().await;
    for fate in [Fate::RequestLost, Fate::RequestLost, Fate::Late(MS), Fate::RequestLost, Fate::RequestLost] {
        engine.nodes[2].next(fate);
        let before = engine.nodes[2].batches().len();
        engine.hold("first").await;
        until("the node is asked", || before < engine.nodes[2].batches().len()).await;
        tokio::time::sleep(NODE_TIMEOUT).await;
        assert_eq!(engine.states(), ["up"; 3]);
    }
}

/// Keeps what it is answered.
#[derive(Default)]
struct Answers(Mutex<Vec<Answer<Reply>>>);

impl Receiver for Answers {
    fn is_waiting(&self, _: u8) -> bool {
        true
    }

    fn receive(self: Arc<Self>, _: usize, _: u8, answer: Answer<Reply>) {
        self.0.lock().unwrap().push(answer);
    }
}

/// A queue of its own in front of a node that takes a second for its first batch.
struct BusyNode {
    node: Arc<FakeNode>,
    queue: Arc<NodeQueue>,
    answers: Arc<Answers>,
}

impl BusyNode {
    async fn start() -> Self {
        let clock = Arc::new(ClusterClock::new(Quorum::of(1)));
        let node = FakeNode::new(0, &clock);
        let series = Metrics::new().unwrap().node("n1");
        let queue = NodeQueue::start(0, node.name(), Arc::clone(&node) as Arc<dyn Node>, QueueSettings { in_flight: 1 }, clock, series);
        node.survey().await.unwrap();
        queue.probe(true).await;
        node.next(Fate::Late(Duration::from_secs(1)));
        let busy = Self { node, queue, answers: Arc::default() };
        busy.submit(busy.acquire("first")).unwrap();
        until("it is busy", || busy.node.batches().len() == 1).await;
        busy
    }

    fn acquire(&self, lock: &str) -> Command {
        Caller::new(lock, "somebody").acquire(self.node.ahead(Duration::ZERO))
    }

    fn submit(&self, command: Command) -> Result<(), Abstention> {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.queue.submit(Call { command: Arc::new(command), receiver: Arc::clone(&self.answers) as _, tag: 1, deadline })
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_so_at_once_and_still_has_room_for_what_makes_room() {
    let busy = BusyNode::start().await;
    let taken = (0..100_000).take_while(|n| busy.submit(busy.acquire(&format!("lock/{n}"))).is_ok()).count();
    assert!((1000..20_000).contains(&taken), "{taken}");
    assert_eq!(busy.submit(busy.acquire("one-more")), Err(Abstention::Overloaded));
    assert_eq!(busy.submit(Caller::new("lock/0", "somebody").release(busy.node.ahead(Duration::ZERO))), Ok(()));
    until("all are answered", || busy.answers.0.lock().unwrap().len() == taken + 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_room_goes_before_what_wants_in() {
    let busy = BusyNode::start().await;
    let now = busy.node.ahead(Duration::ZERO);
    let caller = Caller::new("held", "somebody");
    let urgent = [caller.release(now), caller.extend(super::TTL), caller.cancel(now)];
    busy.submit(busy.acquire("early")).unwrap();
    urgent.iter().for_each(|command| busy.submit(command.clone()).unwrap());
    until("the second batch is sent", || busy.node.batches().len() == 2).await;
    let second = busy.node.batches().remove(1);
    assert_eq!(second[..3], urgent);
    assert!(matches!(second[3], Command::Acquire { .. }));
}

/// Notes whether the queue called itself idle while it answered.
struct Watcher {
    queue: Arc<NodeQueue>,
    was_idle: Mutex<Option<bool>>,
}

impl Receiver for Watcher {
    fn is_waiting(&self, _: u8) -> bool {
        true
    }

    fn receive(self: Arc<Self>, _: usize, _: u8, _: Answer<Reply>) {
        *self.was_idle.lock().unwrap() = Some(self.queue.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_not_idle_while_it_answers_what_came_too_late() {
    let busy = BusyNode::start().await;
    let watcher = Arc::new(Watcher { queue: Arc::clone(&busy.queue), was_idle: Mutex::default() });
    let receiver = Arc::clone(&watcher) as _;
    busy.queue.submit(Call { command: Arc::new(busy.acquire("late")), receiver, tag: 1, deadline: Instant::now() + MS }).unwrap();
    until("it is answered", || watcher.was_idle.lock().unwrap().is_some()).await;
    assert_eq!(*watcher.was_idle.lock().unwrap(), Some(false));
    until("nothing is left", || busy.queue.is_idle()).await;
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_answered_and_never_sent() {
    let busy = BusyNode::start().await;
    let call = Call {
        command: Arc::new(busy.acquire("late")),
        receiver: Arc::clone(&busy.answers) as _,
        tag: 1,
        deadline: Instant::now() + Duration::from_millis(500),
    };
    busy.queue.submit(call).unwrap();
    until("both are answered", || busy.answers.0.lock().unwrap().len() == 2).await;
    assert_eq!(busy.answers.0.lock().unwrap()[1], Err(Abstention::Unreachable));
    assert_eq!(busy.node.batches().len(), 1);
}
