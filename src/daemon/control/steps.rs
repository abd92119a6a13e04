//! A channel's test over the control socket: a line for each step, as it is done.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::daemon::channel_test::{ChannelTests, Step};

use super::{Answer, Request, connect};

/// Steps that may wait for a slow reader.
const STEPS_WAITING_MAX: usize = 16;

/// Runs a test and tells its steps, as long as somebody listens.
pub(super) async fn tell(
    tests: &ChannelTests,
    channel: &str,
    wait: Duration,
    mut to: OwnedWriteHalf,
) {
    let (told, mut steps) = mpsc::channel(STEPS_WAITING_MAX);
    let telling = async move {
        while let Some(step) = steps.recv().await {
            let answer = match serde_json::to_value(&step) {
                Ok(value) => Answer::Result(value),
                Err(error) => Answer::Error(error.to_string()),
            };
            let text = serde_json::to_string(&answer).unwrap_or_default();
            if to.write_all(format!("{text}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    };
    // Its end ends the telling.
    let testing = async move { tests.run(channel, wait, &told).await };
    tokio::join!(testing, telling);
}

/// Asks the daemon of a data directory, and hands on each step; `None` where none runs. Says
/// whether the channel works.
pub async fn follow(
    data_dir: &Path,
    request: &Request,
    mut each: impl FnMut(&Step),
) -> Option<Result<bool, String>> {
    let (stream, _dir) = match connect(data_dir).await? {
        Ok(connected) => connected,
        Err(words) => return Some(Err(words)),
    };
    let (from, mut to) = stream.into_split();
    let text = serde_json::to_string(request).ok()?;
    to.write_all(format!("{text}\n").as_bytes()).await.ok()?;
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let step: Step = match serde_json::from_str(&line) {
            Ok(Answer::Result(value)) => match serde_json::from_value(value) {
                Ok(step) => step,
                Err(error) => return Some(Err(format!("reading the answer: {error}"))),
            },
            Ok(Answer::Error(error)) => return Some(Err(error)),
            Err(error) => return Some(Err(format!("reading the answer: {error}"))),
        };
        each(&step);
        if step.step == "result" {
            return Some(Ok(step.ok));
        }
    }
    Some(Err("the daemon ended".to_owned()))
}
