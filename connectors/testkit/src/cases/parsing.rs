//! Captured input: the same events every time, and nothing that makes the reader fall over.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use connector_api::{Connector, ErrorKind, WebhookRequest};
use serde_json::{Map, Value};

use crate::fixtures::{check_golden, fixtures, golden_of, show_events};
use crate::kit::{Kit, Verdict, ensure, post};
use crate::run::panic_text;

/// Spoilt inputs made from each whole one.
const SPOILT_PER_INPUT: usize = 200;

/// Largest whole input that is spoilt, in bytes; larger ones only cost time.
const SPOILT_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn fixtures_parse_to_golden(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let mut wrong = Vec::new();
    for item in fixtures(&kit.manifest_dir)? {
        let body =
            fs::read(&item).map_err(|error| format!("cannot read {}: {error}", item.display()))?;
        let found = match connector.parse_captured(&captured(body)) {
            Ok(events) => format!("{:#}\n", show_events(&events)),
            Err(error) => format!("{:?}: {error}\n", error.kind),
        };
        wrong.extend(check_golden(&golden_of(&item), &found).err());
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

pub(crate) async fn garbage_is_malformed_not_panic(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let id = kit.provider.customer_says("words to spoil").await;
    let mut whole: Vec<Vec<u8>> = Vec::new();
    if connector.webhook_source().is_some() {
        whole.push(kit.provider.webhook_for(&id).body.to_vec());
    }
    for item in fixtures(&kit.manifest_dir)? {
        whole.extend(
            fs::read(item)
                .ok()
                .filter(|body| body.len() <= SPOILT_BYTES_MAX),
        );
    }
    for body in nonsense() {
        read_or_refuse(connector.as_ref(), body)?;
    }
    let mut random = Random(0x5b17_c4b0_a2d1_0001);
    for body in whole {
        for _ in 0..SPOILT_PER_INPUT {
            read_or_refuse(connector.as_ref(), random.spoil(&body))?;
        }
    }
    Ok(())
}

fn read_or_refuse(connector: &dyn Connector, body: Vec<u8>) -> Verdict {
    let start = body.get(..80).unwrap_or(&body).escape_ascii().to_string();
    let bytes = body.len();
    let mut request = captured(body);
    let read = catch_unwind(AssertUnwindSafe(|| connector.parse_captured(&request)));
    let read = read.map_err(|panic| {
        format!(
            "panicked ({}) at {bytes} bytes: {start}",
            panic_text(&*panic)
        )
    })?;
    if let Err(error) = read {
        ensure(
            matches!(error.kind, ErrorKind::Malformed | ErrorKind::TooLarge),
            || format!("is {:?} and not Malformed ({error}): {start}", error.kind),
        )?;
    }
    let Some(source) = connector.webhook_source() else {
        return Ok(());
    };
    // The same bytes in every header: authentication meets garbage first.
    for (_, value) in &mut request.headers {
        *value = request.body.clone();
    }
    let verified = catch_unwind(AssertUnwindSafe(|| source.verify(&request)));
    let verified =
        verified.map_err(|panic| format!("verify panicked ({}): {start}", panic_text(&*panic)))?;
    ensure(verified.is_err(), || format!("garbage is let in: {start}"))
}

/// Nothing a provider sends, and everything an attacker might.
fn nonsense() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        &b""[..],
        b" ",
        b"\0",
        b"{}",
        b"[]",
        b"null",
        b"\"\\ud800\"",
        b"{\"a\":1e999999}",
        b"\xff\xfe\xfd",
        b"\r\n\r\n",
        b"a=b&c=%zz",
        b"<?xml version=\"1.0\"?>",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\x00",
    ]
    .map(<[u8]>::to_vec)
    .into();
    // Deep enough to end a thread whose parser recurses without a limit.
    bodies.push(b"[".repeat(200_000));
    bodies.push(b"{\"a\":".repeat(200_000));
    bodies
}

/// A body and the headers that the common signature schemes read.
fn captured(body: Vec<u8>) -> WebhookRequest {
    let headers: [(&str, String); 0] = [];
    post(headers, body)
}

/// Providers add members without notice; what has no place in the vocabulary is kept beside it.
pub(crate) async fn unknown_fields_are_kept(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let id = kit.provider.customer_says("hello").await;
    let mut request = kit.provider.webhook_for(&id);
    let known = connector
        .parse_captured(&request)
        .map_err(|error| error.message)?;
    let Ok(mut body) = serde_json::from_slice::<Value>(&request.body) else {
        return Ok(());
    };
    add_members(&mut body);
    request.body = body.to_string().into();
    let events = connector
        .parse_captured(&request)
        .map_err(|error| format!("an unknown member is refused: {error}"))?;
    let keys = |events: &[connector_api::InboundEvent]| -> Vec<String> {
        events
            .iter()
            .map(|event| event.dedupe_key.to_string())
            .collect()
    };
    ensure(keys(&known) == keys(&events), || {
        "an unknown member changes the dedupe key".to_owned()
    })?;
    let kept = show_events(&events).to_string().contains(UNKNOWN_VALUE);
    let raw = events.iter().filter_map(|event| event.raw.as_deref());
    let kept = kept
        || raw
            .into_iter()
            .any(|raw| String::from_utf8_lossy(raw).contains(UNKNOWN_VALUE));
    ensure(kept, || {
        "an unknown member is lost: keep it in extra".to_owned()
    })
}

const UNKNOWN_VALUE: &str = "kept for later";

fn add_members(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(add_members);
            add_member(map);
        }
        Value::Array(items) => items.iter_mut().for_each(add_members),
        _ => {}
    }
}

fn add_member(map: &mut Map<String, Value>) {
    map.insert("conformance_unknown".to_owned(), UNKNOWN_VALUE.into());
}

/// Xorshift: the same garbage on every run, so that a failure is found again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % (bound.max(1) as u64)) as usize
    }

    fn spoil(&mut self, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(body.len());
            match self.below(5) {
                0 => body.truncate(place),
                1 if !body.is_empty() => body[place] = self.below(256) as u8,
                2 if !body.is_empty() => drop(body.remove(place)),
                3 => {
                    let part = body.get(place..).unwrap_or_default().to_vec();
                    body.extend(part);
                }
                _ => body.insert(
                    place,
                    *b"\"\\{}[],:\0\xff<>@;=\r\n"
                        .get(self.below(18))
                        .unwrap_or(&0),
                ),
            }
        }
        body
    }
}
