//! A bus of two partitions, of which some are this process's.

use std::sync::Arc;

use connector_api::async_trait;
use switchboard::bus::local::LocalBus;
use switchboard::bus::{Bus, BusError, BusState, Mark, NewRecord, Record};
use switchboard::health::State;
use tokio::sync::watch;

use super::*;

/// The log, of which the test says which partitions are this process's. Others than the first are empty.
struct Shared {
    log: Arc<LocalBus>,
    assigned: watch::Sender<Vec<u32>>,
    /// All are another process's by now, and the router was not told yet.
    taken: watch::Sender<bool>,
    /// How often others than the first were read.
    reads: AtomicUsize,
}

impl Shared {
    fn of(log: Arc<LocalBus>) -> Self {
        Self {
            log,
            assigned: watch::Sender::new(Vec::new()),
            taken: watch::Sender::new(false),
            reads: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Bus for Shared {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<i64>, BusError> {
        self.log.append(records).await
    }
    async fn append_bytes(&self, body: Vec<u8>, arrived_at: i64) -> Result<(), BusError> {
        self.log.append_bytes(body, arrived_at).await
    }
    fn assigned(&self) -> watch::Receiver<Vec<u32>> {
        match *self.taken.borrow() {
            true => watch::Sender::new(Vec::new()).subscribe(),
            false => self.assigned.subscribe(),
        }
    }
    async fn read(
        &self,
        partition: u32,
        position: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, BusError> {
        match partition {
            0 => self.log.read(0, position, records_max).await,
            _ => {
                self.reads.fetch_add(1, Ordering::SeqCst);
                let mut taken = self.taken.subscribe();
                drop(taken.wait_for(|taken| *taken).await);
                let reason = "this partition is another process's".to_owned();
                Err(BusError::Unavailable(reason))
            }
        }
    }
    fn decided(&self, partition: u32, position: i64, records: usize) {
        self.log.decided(partition, position, records);
    }
    fn lag(&self) -> i64 {
        self.log.lag()
    }
    async fn mark(&self) -> Result<Mark, BusError> {
        self.log.mark().await
    }
    fn partition_of(&self, record: i64) -> u32 {
        self.log.partition_of(record)
    }
    async fn decided_so_far(&self) -> Result<(), BusError> {
        self.log.decided_so_far().await
    }
    async fn caught_up(&self) -> Result<(), BusError> {
        self.log.caught_up().await
    }
    fn names_files_for(&self) -> Duration {
        self.log.names_files_for()
    }
    async fn leave(&self) {
        self.log.leave().await;
    }
    fn state(&self) -> watch::Receiver<BusState> {
        self.log.state()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_owns_and_decides_the_partitions_that_are_its_own_and_no_others() {
    let mut routed = Routed::new().await;
    let shared = Arc::new(Shared::of(routed.bus()));
    let (running, stop, health) = routed.start_on(shared.clone(), Prepared::new);
    let store = routed.store();
    let epochs = || {
        let store = store.clone();
        async move {
            let sum = "SELECT coalesce(sum(epoch * (1 + 99 * partition)), 0) FROM position";
            let sum =
                store.read(move |conn, _| Ok(conn.query_row(sum, [], |row| row.get::<_, i64>(0))?));
            sum.await.expect("the query runs")
        }
    };
    let before = epochs().await;
    routed
        .desk
        .accept([chat("cust-7", "Hello?")])
        .await
        .unwrap();
    // A partition that comes is owned, and one that comes beside it leaves it alone.
    for (assigned, owned) in [
        (vec![1], 100),
        (vec![0, 1], 101),
        (vec![1], 101),
        (vec![1, 2], 300),
    ] {
        let takes = assigned.contains(&0);
        shared.assigned.send_replace(assigned.clone());
        within_patience("owning what was assigned", async {
            while epochs().await - before < owned {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        if takes {
            until("its record is decided", || shared.lag() == 0).await;
            routed.desk.decided_elsewhere();
        }
    }
    // What was taken away is not decided any more: the loop of partition 2 began after its end was told.
    routed
        .desk
        .accept([chat("cust-8", "Anybody?")])
        .await
        .unwrap();
    let decided = tokio::time::timeout(Duration::from_millis(200), routed.bus().caught_up()).await;
    assert!(
        decided.is_err(),
        "a partition that was taken away was decided"
    );
    shared.assigned.send_replace(vec![0]);
    until("it is taken up again", || routed.bus().lag() == 0).await;
    assert_eq!(epochs().await - before, 301);
    assert_eq!(
        health.snapshot().get("router").map(State::as_str),
        Some("ready")
    );
    stop.cancel();
    within_patience("stopping the router", running)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_goes_to_another_process_is_no_trouble() {
    let routed = Routed::new().await;
    let shared = Arc::new(Shared::of(routed.bus()));
    let (running, stop, health) = routed.start_on(shared.clone(), Prepared::new);
    shared.assigned.send_replace(vec![1]);
    let reads = || shared.reads.load(Ordering::SeqCst);
    until("it is read", || reads() > 0).await;
    shared.taken.send_replace(true);
    until("it is looked for again", || reads() > 1).await;
    let router = health.snapshot().remove("router");
    assert_eq!(router, Some(State::Ready));
    stop.cancel();
    within_patience("stopping the router", running)
        .await
        .unwrap();
}
