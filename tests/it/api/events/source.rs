//! A client of the event stream, as a UI would have one: reads frames, remembers the last number,
//! and goes on after it. Small enough to copy.

use serde_json::Value;

use crate::api::served::Served;
use crate::support::within_patience;

/// One event as it came.
#[derive(Debug, Clone)]
pub struct Frame {
    pub id: Option<i64>,
    pub event: String,
    pub data: Value,
}

pub struct Source {
    response: reqwest::Response,
    unread: String,
    /// What a reconnecting client sends as `Last-Event-ID`.
    pub last_event_id: Option<i64>,
}

impl Source {
    /// Connects after `last_event_id`, or from now on.
    pub async fn open(served: &Served, token: &str, query: &str, last: Option<i64>) -> Self {
        let url = served.url(&format!("/v1/events{query}"));
        let mut request = served.client().get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let sent = within_patience("opening a stream", request.send()).await;
        let response = sent.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut source = Self {
            response,
            unread: String::new(),
            last_event_id: last,
        };
        // The first piece says where the stream begins.
        source.fill().await;
        source
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        within_patience("an event", async {
            loop {
                while let Some((block, rest)) = self.unread.split_once("\n\n") {
                    let block = block.to_owned();
                    self.unread = rest.to_owned();
                    if let Some(frame) = self.frame(&block) {
                        return Some(frame);
                    }
                }
                if !self.fill().await {
                    return None;
                }
            }
        })
        .await
    }

    /// Everything up to an event of this number.
    pub async fn through(&mut self, number: i64) -> Vec<Frame> {
        let mut frames = Vec::new();
        while self.last_event_id < Some(number) {
            frames.push(self.next().await.expect("the stream goes on"));
        }
        frames
    }

    async fn fill(&mut self) -> bool {
        match self.response.chunk().await {
            Ok(Some(chunk)) => {
                self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
                true
            }
            _ => false,
        }
    }

    fn frame(&mut self, block: &str) -> Option<Frame> {
        let field = |name: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let id = field("id").map(|id| id.parse().unwrap());
        self.last_event_id = id.or(self.last_event_id);
        Some(Frame {
            id,
            event: field("event")?.to_owned(),
            data: serde_json::from_str(field("data")?).unwrap(),
        })
    }
}
