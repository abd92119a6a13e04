//! Several processes on one database: stores opened side by side, with records as a bus of several partitions
//! would bring them.

use std::sync::Arc;

use connector_api::{Capabilities, DedupeKey};
use switchboard::bus::{Carried, ENVELOPE_MAJOR, Envelope};
use switchboard::daemon::Keys;
use switchboard::router::{Policy, Prepared};
use switchboard::store::postgres::PostgresStore;
use switchboard::store::uploads::Holder;
use switchboard::store::{
    Declared, Idempotency, NewReply, Ownership, RouteCommit, Routed, Store, StoreError, Written,
};

use crate::support::{
    ManualClock, Postgres, Said, agent, channels, names, policy, queues, senders,
};

/// Low bits of a record's number that are its partition's.
const PARTITION_BITS: u32 = 12;

/// Twenty times as many with `SWITCHBOARD_LONG=1`.
pub fn rounds(few: usize) -> usize {
    match std::env::var("SWITCHBOARD_LONG").is_ok_and(|value| value == "1") {
        true => few * 20,
        false => few,
    }
}

/// Numbers that look like chance and are the same in every run.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

pub struct Cluster {
    pub made: Postgres,
    pub stores: Vec<Arc<PostgresStore>>,
    pub policy: Arc<Policy>,
    pub clock: ManualClock,
}

impl Cluster {
    /// So many processes on a database of their own.
    pub async fn of(processes: usize) -> Self {
        let made = Postgres::new();
        let mut stores = Vec::new();
        for _ in 0..processes {
            stores.push(made.open_named(&names(), &queues()).await);
        }
        let keys = Keys::derive(stores[0].installation_key());
        let clock = ManualClock::new();
        let can = ["support-mail", "shop-chat"].map(|channel| (channel, Capabilities::default()));
        for store in &stores {
            let told = store.set_senders(senders(can.clone()), Declared::default(), clock.micros());
            told.await.expect("telling who can send");
        }
        Self {
            made,
            stores,
            policy: Arc::new(policy(&keys)),
            clock,
        }
    }

    /// The store of the `at`th process, counted around.
    pub fn store(&self, at: usize) -> &Arc<PostgresStore> {
        &self.stores[at % self.stores.len()]
    }

    /// A record at an offset of a partition.
    pub fn record(&self, partition: u32, offset: i64, said: Said, key: &str) -> Prepared {
        let mut event = said.event;
        event.dedupe_key = DedupeKey::new(key);
        let all = channels();
        let channel = &all[said.channel];
        let envelope = Envelope {
            major: ENVELOPE_MAJOR,
            brand: channel.brand.clone(),
            channel: channel.id.clone(),
            arrived_at: self.clock.micros() + offset,
            digest: 7,
            imported: false,
            event,
            full_text: None,
        };
        let carried = Carried {
            body: serde_json::to_vec(&envelope)
                .expect("an envelope is JSON")
                .into(),
            raw: None,
            blobs: Vec::new(),
            arrived_at: envelope.arrived_at,
            headers: Vec::new(),
        };
        let number = offset << PARTITION_BITS | i64::from(partition);
        Prepared {
            carried: Some(Arc::new(carried)),
            ..Prepared::new(number, Arc::new(envelope))
        }
    }

    /// Decides a batch on a process, as the partition's owner.
    pub async fn route(
        &self,
        process: usize,
        ownership: &mut Ownership,
        batch: Vec<Prepared>,
    ) -> Result<Routed, StoreError> {
        let commit = RouteCommit {
            ownership: *ownership,
            batch: Arc::new(batch),
            policy: self.policy.clone(),
            now: self.clock.micros(),
        };
        let routed = self.store(process).route(commit).await?;
        ownership.position = routed.position;
        Ok(routed)
    }

    pub async fn own(&self, process: usize, partition: u32) -> Ownership {
        let owned = self.store(process).own(partition).await;
        owned.expect("owning the partition")
    }

    /// A number that a query gives.
    pub async fn number(&self, sql: &'static str) -> i64 {
        let asked = self.stores[0]
            .read_raw(move |conn| Ok(conn.prepare(sql)?.query_row((), |row| row.get::<i64>(0))?));
        asked.await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Fails where a query finds anything.
    pub async fn nothing(&self, what: &str, sql: &'static str) {
        assert_eq!(self.number(sql).await, 0, "{what}");
    }

    /// Everything that was written has its number.
    pub async fn numbered(&self) {
        let filter = switchboard::store::events::EventFilter {
            limit: 1,
            ..Default::default()
        };
        for store in &self.stores {
            let read = switchboard::store::events::EventLog::events(&**store, 0, filter.clone());
            read.await.expect("reading events");
        }
    }

    /// Timelines, waiting rows, contacts and events are as they must be after whatever was raced.
    pub async fn is_consistent(&self) {
        self.numbered().await;
        self.nothing(
            "timelines have no gap and no fork",
            "SELECT count(*) FROM message LEFT JOIN message AS prev ON prev.id = message.prev
             WHERE (message.seq = 1) <> (message.prev IS NULL) OR (message.prev IS NOT NULL AND (
               prev.id IS NULL OR prev.conversation <> message.conversation OR prev.seq <> message.seq - 1))",
        )
        .await;
        self.nothing(
            "conversations know their last message",
            // Counted once for all: a server without statistics would count for each of them anew.
            "SELECT count(*) FROM conversation
             LEFT JOIN (SELECT conversation, count(*) FROM message GROUP BY conversation) AS said
               ON said.conversation = conversation.id
             LEFT JOIN message AS last ON last.id = conversation.last_message
             WHERE conversation.last_seq <> coalesce(said.count, 0) OR conversation.last_seq IS DISTINCT FROM last.seq",
        )
        .await;
        self.nothing(
            "what is queued waits, once, and nothing else does",
            "SELECT count(*) FROM conversation FULL JOIN waiting ON waiting.id = conversation.id
             WHERE (conversation.status = 1) IS DISTINCT FROM (waiting.id IS NOT NULL)
             OR waiting.queue <> conversation.queue OR waiting.enqueued_at <> conversation.enqueued_at",
        )
        .await;
        self.nothing(
            "contacts have one open conversation of a matter",
            "SELECT count(*) FROM (SELECT FROM conversation WHERE status < 8 GROUP BY contact, matter
             HAVING count(*) > 1) AS doubles",
        )
        .await;
        self.nothing(
            "nothing belongs to a contact that was merged away",
            "SELECT count(*) FROM contact WHERE merged_into IS NOT NULL AND (
               EXISTS (SELECT FROM conversation WHERE conversation.contact = contact.id)
               OR EXISTS (SELECT FROM identity WHERE identity.contact = contact.id))",
        )
        .await;
        self.nothing(
            "whatever a conversation or an identity belongs to is there",
            "SELECT count(*) FROM (SELECT contact FROM conversation UNION ALL SELECT contact FROM identity) AS known
             WHERE NOT EXISTS (SELECT FROM contact WHERE contact.id = known.contact)",
        )
        .await;
        self.nothing(
            "events have all numbers up to the last one",
            "SELECT last - (SELECT count(*) FROM event) + (SELECT count(*) FROM event_new)
             + (SELECT count(*) FROM departure_new) FROM sequencer",
        )
        .await;
        self.nothing(
            "each conversation's events come in the order of its commits",
            "SELECT count(*) FROM (
               SELECT message.seq - lag(message.seq, 1, 0) OVER (PARTITION BY event.conversation ORDER BY event.seq)
                 AS step FROM event JOIN message ON message.id = event.message WHERE event.kind = 0) AS told
             WHERE step <> 1",
        )
        .await;
        self.nothing(
            "no change waits for a message that is there",
            "SELECT count(*) FROM pending",
        )
        .await;
    }

    /// Ends the processes; how many circles of waiting the server had to break.
    pub fn deadlocks(self) -> i64 {
        let Self { made, stores, .. } = self;
        drop(stores);
        made.deadlocks()
    }
}

/// What somebody answers.
pub fn answer(
    conversation: switchboard::ids::ConversationId,
    by: &str,
    idempotency: Option<Idempotency>,
    at: i64,
) -> NewReply {
    NewReply {
        conversation,
        actor: agent(by),
        holder: Holder {
            token: 0,
            agent: Some(by.to_owned()),
        },
        written: Written::text("On its way."),
        idempotency,
        version: None,
        at,
    }
}

/// What a race may end with.
pub fn refused_at_most<T>(done: Result<T, StoreError>) -> Option<T> {
    match done {
        Ok(done) => Some(done),
        Err(StoreError::Refused(_)) => None,
        Err(other) => panic!("{other}"),
    }
}
