//! A stand-in for the daemon that keeps the HTTP contract and nothing on disk, so that the driver itself can be checked.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::daemon::{LOAD, PROBE};
use crate::http::{head_length, header};
use crate::payload::Signer;

pub const TOKEN: &str = "stub-token";

/// What every acceptance costs, as a commit would.
const COMMIT: Duration = Duration::from_millis(3);

struct Stub {
    signer: Signer,
    seen: HashSet<String>,
    /// Customers with an open conversation.
    waiting: HashSet<String>,
    claimable: Vec<(String, String)>,
    claimed: HashMap<String, bool>,
    accepted: u64,
}

/// Serves until the runtime ends. To be run on a `LocalSet`.
pub fn serve(listener: TcpListener, key: &[u8]) {
    let stub = Rc::new(RefCell::new(Stub {
        signer: Signer::new(key),
        seen: HashSet::new(),
        waiting: HashSet::new(),
        claimable: Vec::new(),
        claimed: HashMap::new(),
        accepted: 0,
    }));
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(connection(stream, Rc::clone(&stub)));
        }
    });
}

async fn connection(mut stream: TcpStream, stub: Rc<RefCell<Stub>>) {
    let mut buffer = Vec::new();
    loop {
        let head_length = loop {
            if let Some(length) = head_length(&buffer) {
                break length;
            }
            let Ok(1..) = stream.read_buf(&mut buffer).await else {
                return;
            };
        };
        let head =
            String::from_utf8_lossy(buffer.get(..head_length).unwrap_or_default()).into_owned();
        let length: usize = header(&head, "content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        while buffer.len() < head_length + length {
            let Ok(1..) = stream.read_buf(&mut buffer).await else {
                return;
            };
        }
        let body: Vec<u8> = buffer
            .drain(..head_length + length)
            .skip(head_length)
            .collect();
        let (status, answer) = respond(&head, &body, &stub).await;
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn respond(head: &str, body: &[u8], stub: &RefCell<Stub>) -> (u16, String) {
    let mut words = head.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    let authorized =
        header(head, "authorization").is_some_and(|value| value == format!("Bearer {TOKEN}"));
    match (method, path) {
        ("POST", path) if path.starts_with("/hooks/") => {
            sleep(COMMIT).await;
            stub.borrow_mut()
                .webhook(path.trim_start_matches("/hooks/"), head, body)
        }
        ("GET", "/readyz") => (200, String::new()),
        ("GET", "/metrics") => (200, stub.borrow().metrics()),
        _ if !authorized => (401, String::new()),
        ("GET", "/v1/queues") => {
            let stub = stub.borrow();
            let item = |id: &str, waiting: usize| json!({"id": id, "waiting": waiting, "oldest_waiting_seconds": 0});
            let items = [
                item(LOAD.queue, stub.waiting.len()),
                item(PROBE.queue, stub.claimable.len()),
            ];
            (
                200,
                json!({"items": items, "next_cursor": null}).to_string(),
            )
        }
        ("POST", path) if path == format!("/v1/queues/{}/claim", PROBE.queue) => {
            for _ in 0..200 {
                if let Some((id, text)) = stub.borrow_mut().claimable.pop() {
                    return (
                        200,
                        json!({"id": id, "messages": [{"text": text}]}).to_string(),
                    );
                }
                sleep(Duration::from_millis(1)).await;
            }
            (204, String::new())
        }
        ("POST", path) if path.ends_with("/resolve") => {
            let id = path
                .trim_start_matches("/v1/conversations/")
                .trim_end_matches("/resolve");
            match stub.borrow_mut().claimed.insert(id.to_owned(), true) {
                Some(false) => (200, "{}".to_owned()),
                _ => (409, String::new()),
            }
        }
        _ => (404, String::new()),
    }
}

impl Stub {
    fn webhook(&mut self, channel: &str, head: &str, body: &[u8]) -> (u16, String) {
        let named = |name: &str| header(head, name).unwrap_or_default();
        let signature =
            self.signer
                .signature(named("webhook-id"), named("webhook-timestamp"), body);
        if signature != named("webhook-signature") {
            return (401, String::new());
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return (400, String::new());
        };
        let events = match body.get("events").and_then(Value::as_array) {
            Some(events) => events.clone(),
            None => vec![body],
        };
        let mut results = Vec::new();
        for event in events {
            let text = |pointer: &str| {
                event
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let id = text("/id");
            self.accepted += 1;
            results.push(json!({"dedupe_key": id, "error": null}));
            if !self.seen.insert(id.clone()) {
                continue;
            }
            if channel == PROBE.channel {
                self.claimed.insert(id.clone(), false);
                self.claimable.push((id, text("/text")));
            } else {
                self.waiting.insert(text("/from/id"));
            }
        }
        (200, json!({"results": results}).to_string())
    }

    fn metrics(&self) -> String {
        let filed = self.seen.len();
        format!(
            "# TYPE switchboard_routed_total counter\n\
             switchboard_routed_total{{verdict=\"filed\"}} {filed}\n\
             switchboard_routed_total{{verdict=\"duplicate\"}} {}\n\
             switchboard_wal_bytes_total {}\n",
            self.accepted - filed as u64,
            filed * 4096,
        )
    }
}
