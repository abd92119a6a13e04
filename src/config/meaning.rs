//! What a schema cannot say: names that must exist, pairs that must fit, ranges of durations. Reads
//! the untyped tree and passes over what has the wrong shape, so that it adds to the other errors.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::database;
use super::error::ConfigErrors;
use super::nearest::nearest;
use super::text::{duration_text, parse_duration, parse_size};
use super::tree::{KeyPath, Tree};
use super::types::{Part, QUEUE_DEFAULT};

mod kafka;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Pushed events are recognised as redeliveries for 8 days, so the bus keeps them as long; above
/// 28 days an erasure could not name a date within a month.
const BUS_DAYS_MIN: u32 = 8;
const BUS_DAYS_MAX: u32 = 28;

/// Body limits that make sense: a mail-sized webhook fits, one request does not fill the memory.
const BODY_BYTES_MIN: u64 = 64 << 10;
const BODY_BYTES_MAX: u64 = 256 << 20;

pub fn check(tree: &Tree, errors: &mut ConfigErrors) {
    let mut meaning = Meaning { tree, errors };
    meaning.pair();
    meaning.kafka();
    meaning.postgres();
    meaning.bucket();
    meaning.parts();
    meaning.ranges();
    meaning.references();
    meaning.rules();
}

struct Meaning<'a> {
    tree: &'a Tree,
    errors: &'a mut ConfigErrors,
}

impl Meaning<'_> {
    fn pair(&mut self) {
        let bus = KeyPath::of(["bus", "kind"]);
        let store = KeyPath::of(["store", "kind"]);
        let missing = [
            (cfg!(feature = "kafka"), &bus, "kafka"),
            (cfg!(feature = "postgres"), &store, "postgres"),
        ];
        match (self.text(&bus).as_deref(), self.text(&store).as_deref()) {
            (Some("kafka"), Some("postgres")) => {
                for (_, path, what) in missing.into_iter().filter(|(built, ..)| !built) {
                    self.push(path, format!("{what} is not built into this binary: packages have it, and so have builds with the feature \"{what}\""));
                }
            }
            (Some("kafka"), Some("sqlite")) => {
                let message = "kafka with sqlite is no supported pair: use local with sqlite, or kafka with postgres";
                self.push(&bus, message);
            }
            (Some("local"), Some("postgres")) => {
                let message = "local with postgres is no supported pair: use local with sqlite, or kafka with postgres";
                self.push(&store, message);
            }
            _ => {}
        }
    }

    /// What only the store on PostgreSQL needs.
    fn postgres(&mut self) {
        let store = KeyPath::of(["store"]);
        let is_postgres = self.text(&store.key("kind")).as_deref() == Some("postgres");
        let url = store.key("url");
        match self.text(&url) {
            None if is_postgres => {
                let message = "the key \"url\" is missing, and store.kind is postgres: name the database, as \"postgres://user@host:5432/database\"";
                self.push(&store, message);
            }
            None => {}
            Some(given) => {
                if let Err(wrong) = database::check(&given) {
                    self.push(&url, wrong);
                }
            }
        }
        let authority = store.key("ca_file");
        let encrypted = self.text(&store.key("tls")).as_deref() == Some("on");
        if self.text(&authority).is_some() && !encrypted {
            self.push(&authority, "it is used only with store.tls = \"on\"");
        }
    }

    /// What only files in a bucket need.
    fn bucket(&mut self) {
        let store = KeyPath::of(["store"]);
        let url = store.key("blobs_url");
        let given = |key: &str| self.tree.get(&store.key(key)).is_some();
        let keys = ["blobs_access_key", "blobs_secret_key"];
        let others = ["blobs_endpoint", "blobs_region", "blobs_ca_file"];
        let Some(named) = self.text(&url) else {
            let unused = keys.into_iter().chain(others).filter(|key| given(key));
            for key in unused.collect::<Vec<_>>() {
                self.push(&store.key(key), "it is used only with store.blobs_url");
            }
            return;
        };
        let missing: Vec<&str> = keys.into_iter().filter(|key| !given(key)).collect();
        let has_directory = given("blobs_dir");
        if let Err(wrong) = super::bucket::parse(&named) {
            self.push(&url, wrong);
        }
        if !cfg!(feature = "postgres") {
            let message = "buckets are not built into this binary: build it with --features kafka,postgres, or use blobs_dir";
            self.push(&url, message);
        }
        if has_directory {
            self.push(
                &url,
                "store.blobs_dir is given, too: files are in one of them",
            );
        }
        for key in missing {
            let message = format!(
                "the key {key:?} is missing, and files are in a bucket: write {{ env = \"NAME\" }} or {{ file = \"path\" }}"
            );
            self.push(&url, message);
        }
    }

    fn parts(&mut self) {
        let path = KeyPath::of(["run", "parts"]);
        let Some(Value::Array(parts)) = self.tree.get(&path) else {
            return;
        };
        let missing: Vec<&str> = Part::ALL
            .iter()
            .map(|part| part.as_str())
            .filter(|part| !parts.contains(&Value::from(*part)))
            .collect();
        if !missing.is_empty()
            && self.text(&KeyPath::of(["bus", "kind"])).as_deref() == Some("local")
        {
            let missing = missing.join(", ");
            self.push(
                &path,
                format!("with the local bus one process runs every part; missing: {missing}"),
            );
        }
    }

    fn ranges(&mut self) {
        let bus_unsafe =
            self.tree.get(&KeyPath::of(["retention", "bus_unsafe"])) == Some(&Value::Bool(true));
        let (bus_min, bus_max) = if bus_unsafe {
            (DAY, CENTURY)
        } else {
            (BUS_DAYS_MIN * DAY, BUS_DAYS_MAX * DAY)
        };
        let bus_hint = "; bus_unsafe = true accepts it: redeliveries may then be filed twice, erasure ends later";
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (section, key, min, max, hint) in [
            (
                "retention",
                "bus",
                bus_min,
                bus_max,
                if bus_unsafe { "" } else { bus_hint },
            ),
            ("retention", "raw", DAY, CENTURY, ""),
            ("retention", "resolved", DAY, CENTURY, ""),
            ("retention", "dead_letters", DAY, CENTURY, ""),
            ("retention", "drafts", DAY, CENTURY, ""),
            ("retention", "audit", DAY, CENTURY, ""),
            ("retention", "backups", DAY, CENTURY, ""),
            ("retention", "events", DAY, CENTURY, ""),
            ("alerts", "remind_every", minute, 30 * DAY, ""),
            ("alerts", "over_after", second, DAY, ""),
            ("alerts", "down_after", second, 30 * DAY, ""),
            ("alerts", "unsent_after", second, 30 * DAY, ""),
            ("alerts", "undecided_after", second, DAY, ""),
        ] {
            self.range(&KeyPath::of([section, key]), min, max, hint);
        }
        for (section, key) in [("channels", "silent_after"), ("queues", "oldest_wait")] {
            for id in self.ids(section, "") {
                self.range(&KeyPath::of([section, &id, key]), second, 365 * DAY, "");
            }
        }
        let path = KeyPath::of(["server", "body_bytes_max"]);
        let bytes = match self.tree.get(&path) {
            Some(Value::String(text)) => parse_size(text).ok(),
            Some(Value::Number(number)) => Some(number.as_u64().unwrap_or(0)),
            _ => None,
        };
        if bytes.is_some_and(|bytes| !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&bytes)) {
            self.push(&path, "this is outside of 64KiB to 256MiB");
        }
    }

    fn range(&mut self, path: &KeyPath, min: Duration, max: Duration, hint: &str) {
        let given = self.text(path).and_then(|text| parse_duration(&text).ok());
        if let Some(given) = given.filter(|given| *given < min || *given > max) {
            let [given, min, max] = [given, min, max].map(duration_text);
            self.push(path, format!("{given} is outside of {min} to {max}{hint}"));
        }
    }

    fn references(&mut self) {
        let brands = self.ids("brands", "main");
        let queues = if self.has_any("queues") {
            self.ids("queues", "")
        } else {
            self.ids("queues", QUEUE_DEFAULT)
        };
        let channels = self.ids("channels", "");
        for id in &channels {
            let channel = KeyPath::of(["channels", id]);
            self.refer(&channel.key("brand"), "brand", &brands);
            if self.tree.get(&channel.key("queue")).is_some() {
                self.refer(&channel.key("queue"), "queue", &queues);
            } else if !queues.contains(QUEUE_DEFAULT) {
                let queues = Vec::from_iter(queues.iter().map(String::as_str)).join(", ");
                let message = format!(
                    "the key \"queue\" is missing, and its default \"{QUEUE_DEFAULT}\" is not declared (declared: {queues})"
                );
                self.push(&channel, message);
            }
        }
        for at in 0..self.rules_count() {
            let rule = KeyPath::of(["rules"]).item(at);
            self.refer(&rule.key("queue"), "queue", &queues);
            self.refer_each(&rule.key("when").key("channel"), "channel", &channels);
        }
        self.refer_each(&KeyPath::of(["joining", "apart"]), "channel", &channels);
        self.refer(
            &KeyPath::of(["alerts", "mail", "channel"]),
            "channel",
            &channels,
        );
    }

    fn rules(&mut self) {
        let count = self.rules_count();
        let mut names = BTreeSet::new();
        for at in 0..count {
            let path = KeyPath::of(["rules"]).item(at);
            let is_empty = |key: &str| match self.tree.get(&path.key(key)) {
                None => true,
                Some(Value::Object(table)) => table.is_empty(),
                Some(Value::Array(list)) => list.is_empty(),
                Some(_) => false,
            };
            if is_empty("queue") && is_empty("priority") && is_empty("tags") {
                self.push(
                    &path,
                    "the rule decides nothing: give it a queue, a priority or tags",
                );
            }
            let matches_all = match self.tree.get(&path.key("when")) {
                None => true,
                Some(Value::Object(when)) => when
                    .values()
                    .all(|list| list.as_array().is_some_and(Vec::is_empty)),
                Some(_) => false,
            };
            if matches_all && at + 1 < count {
                self.push(
                    &path,
                    "the rule has no condition, so the rules after it never apply: put it last",
                );
            }
            let name = self.text(&path.key("name"));
            if let Some(name) = name.filter(|name| !name.is_empty())
                && !names.insert(name.clone())
            {
                self.push(
                    &path.key("name"),
                    format!("another rule is called \"{name}\" already"),
                );
            }
        }
    }

    fn refer_each(&mut self, path: &KeyPath, what: &str, known: &BTreeSet<String>) {
        let count = self
            .tree
            .get(path)
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        for at in 0..count {
            self.refer(&path.item(at), what, known);
        }
    }

    fn refer(&mut self, path: &KeyPath, what: &str, known: &BTreeSet<String>) {
        let Some(id) = self.text(path).filter(|id| !known.contains(id)) else {
            return;
        };
        let mut message = format!("there is no {what} \"{id}\"");
        if let Some(near) = nearest(&id, known.iter().map(String::as_str)) {
            message.push_str(&format!("; did you mean \"{near}\"?"));
        }
        let known = Vec::from_iter(known.iter().map(String::as_str)).join(", ");
        message.push_str(&format!(
            " (declared: {})",
            if known.is_empty() { "none" } else { &known }
        ));
        self.push(path, message);
    }

    /// The ids of a section, and the one that exists without being declared.
    fn ids(&self, section: &str, implied: &str) -> BTreeSet<String> {
        let declared = self
            .tree
            .table(&KeyPath::of([section]))
            .map(|(id, _)| id.clone());
        declared
            .chain((!implied.is_empty()).then(|| implied.to_owned()))
            .collect()
    }

    fn has_any(&self, section: &str) -> bool {
        self.tree.table(&KeyPath::of([section])).next().is_some()
    }

    fn rules_count(&self) -> usize {
        self.tree
            .get(&KeyPath::of(["rules"]))
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    }

    fn text(&self, path: &KeyPath) -> Option<String> {
        self.tree
            .get(path)
            .and_then(Value::as_str)
            .map(str::to_owned)
    }

    fn push(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.errors
            .push(self.tree.origin(path), path.to_string(), message);
    }
}
