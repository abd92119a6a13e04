use connector_api::{Capabilities, Connector, Health, async_trait};
use serde_json::json;

use crate::blobs::Blobs;
use crate::bus::Bus;
use crate::bus::local::LocalBus;
use crate::clock::SystemClock;
use crate::daemon::import::UnderWay;
use crate::daemon::settings::{Kept, Keys};
use crate::intake::Intake;
use crate::live::Live;
use crate::store::Store as _;
use crate::store::retention::Periods;
use crate::store::sqlite::SqliteStore;
use crate::store::{IDEMPOTENCY_KEPT, Retention};

use super::*;

/// A channel whose files hold so many events in each item.
struct Crowded(usize);

#[async_trait]
impl Connector for Crowded {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn parse_import(&self, item: &WebhookRequest) -> connector_api::Result<Vec<InboundEvent>> {
        let item = String::from_utf8_lossy(&item.body);
        let event = |number| {
            let identity =
                json!({ "namespace": "webhook:crowded", "address": number, "evidence": "claimed" });
            let message = json!({ "kind": "message", "from": { "identities": [identity] }, "text": "Hello?" });
            let event = json!({ "dedupe_key": format!("{item}-{number}"), "event": message });
            serde_json::from_value(event).map_err(|error| Error::malformed(error.to_string()))
        };
        (0..self.0)
            .map(|number| event(number.to_string()))
            .collect()
    }
}

/// How many records an import puts at once before a router that decides nothing.
async fn before_the_router(events: usize, items: usize) -> usize {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = "frontline".parse().expect("a queue");
    let names = ["main", "crowded"].map(str::to_owned);
    let store = SqliteStore::open(dir.path(), &names, &[queue]);
    let store = Arc::new(store.expect("a store"));
    let bus = Arc::new(LocalBus::open(store.clone()).await.expect("a log"));
    let clock = Arc::new(SystemClock);
    let blobs = Blobs::open(dir.path()).expect("a directory for files");
    let keys = Keys::derive(store.installation_key());
    let intake = Intake::new(
        bus.clone(),
        store.clone(),
        blobs,
        clock.clone(),
        keys.intake,
    );
    let channel = Arc::new(Channel {
        id: "crowded".parse().expect("a channel"),
        brand: "main".parse().expect("a brand"),
        vouches: Vec::new(),
        attachment_hosts: Vec::new(),
        connector: Box::new(Crowded(events)),
        capabilities: Capabilities::default(),
    });
    let ever = Duration::from_secs(365 * 24 * 60 * 60);
    let importer = Importer {
        channels: Live::new([(channel.id.clone(), channel.clone())].into()),
        intake: Arc::new(intake),
        bus: bus.clone(),
        store,
        clock,
        kept: Live::new(Kept {
            backups: Duration::ZERO,
            swept: Retention {
                raw: ever,
                bus: ever,
                idempotency: IDEMPOTENCY_KEPT,
                events: ever,
                audit: ever,
            },
            forgotten: Periods {
                resolved: ever,
                dead_letters: ever,
                drafts: ever,
                audit: ever,
            },
        }),
        under_way: UnderWay::default(),
    };
    let items = (0..items).map(|item| Bytes::from(item.to_string()));
    tokio::select! {
        taken = importer.take(&channel, true, items.collect(), None) => panic!("nobody decides, and it ends: {taken:?}"),
        before = appended(&bus) => before,
    }
}

/// Commits that are waited for, so that a piece that does not wait has its chance to be there, too.
const COMMITS: usize = 20;

/// How many records were appended since, beside those that this appends.
async fn appended(bus: &LocalBus) -> usize {
    bus.read(0, 0, 1).await.expect("what was appended first");
    for _ in 0..COMMITS {
        let marked = bus.append_bytes(b"a mark".to_vec(), 1).await;
        marked.expect("a mark");
    }
    let records = bus.read(0, 0, 10_000).await.expect("all of it");
    records.len() - COMMITS
}

/// What arrives live comes behind no more than that: the next piece waits until this one is decided.
#[tokio::test]
async fn no_more_of_a_file_than_a_piece_stands_before_the_router_however_many_events_an_item_holds()
{
    let most = 100;
    for (events, items, expected) in [
        (1, 30, 30),
        (1, 300, most),
        (400, 1, most),
        (400, 100, most),
    ] {
        assert_eq!(
            before_the_router(events, items).await,
            expected,
            "{items} items of {events} events"
        );
    }
}
