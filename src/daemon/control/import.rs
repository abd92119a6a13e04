//! An import over the control socket: one connection, a batch at a time, each answered once it is
//! decided. A batch is a line that says how long its items are, and then their bytes.

use connector_api::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::daemon::import::{
    BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Begin, Begun, ITEM_BYTES_MAX, Importer, Outcome, Place,
};

use super::{Answer, REQUEST_BYTES_MAX};

/// What follows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    Batch {
        /// Bytes of each item.
        items: Vec<u64>,
        /// Where to go on behind these.
        place: Place,
        /// The import goes on nowhere.
        begins: bool,
    },
    End,
}

/// Holds such a conversation until its end, or until the other side leaves.
pub(super) async fn converse<R, W>(importer: &Importer, begin: Begin, mut from: R, mut to: W)
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Until this conversation ends, whoever ends it.
    let held = importer.under_way.hold(&begin.source).await;
    let begun = match &held {
        Ok(_) => importer.begin(&begin).await,
        Err(error) => Err(error.clone()),
    };
    let mut goes_on = begun.is_ok();
    answer(&mut to, begun).await;
    while goes_on {
        match next(&mut from).await {
            Ok(Some((Frame::Batch { place, begins, .. }, items))) => {
                let outcomes = importer.batch(&begin, items, place, begins).await;
                goes_on = outcomes.is_ok();
                answer(&mut to, outcomes).await;
            }
            Ok(Some((Frame::End, _))) => {
                return answer(&mut to, importer.end(&begin).await).await;
            }
            // The command was stopped: its place is kept.
            Ok(None) => return,
            Err(error) => return answer(&mut to, Err::<(), _>(error)).await,
        }
    }
}

/// The next frame with its bytes; `None` at the end of the stream.
async fn next<R: AsyncBufRead + Unpin>(
    from: &mut R,
) -> Result<Option<(Frame, Vec<Bytes>)>, String> {
    let mut line = String::new();
    let mut limited = (&mut *from).take(REQUEST_BYTES_MAX);
    match limited.read_line(&mut line).await {
        Ok(0) | Err(_) => return Ok(None),
        Ok(_) => {}
    }
    let frame: Frame =
        serde_json::from_str(&line).map_err(|error| format!("reading a batch: {error}"))?;
    let Frame::Batch { items: lengths, .. } = &frame else {
        return Ok(Some((frame, Vec::new())));
    };
    let sum: u64 = lengths.iter().fold(0, |sum, one| sum.saturating_add(*one));
    let alone = matches!(lengths.as_slice(), [only] if *only <= ITEM_BYTES_MAX);
    if lengths.len() > BATCH_ITEMS_MAX || (sum > BATCH_BYTES_MAX && !alone) {
        return Err(format!(
            "a batch of {} items and {sum} bytes is too large",
            lengths.len()
        ));
    }
    let mut items = Vec::with_capacity(lengths.len());
    for length in lengths {
        let mut bytes = vec![0; usize::try_from(*length).unwrap_or(usize::MAX)];
        if from.read_exact(&mut bytes).await.is_err() {
            return Ok(None);
        }
        items.push(Bytes::from(bytes));
    }
    Ok(Some((frame, items)))
}

async fn answer<T: Serialize, W: AsyncWrite + Unpin>(to: &mut W, result: Result<T, String>) {
    let value = result.and_then(|value| serde_json::to_value(value).map_err(|e| e.to_string()));
    let answer = value.map_or_else(Answer::Error, Answer::Result);
    let text = serde_json::to_string(&answer).unwrap_or_default();
    if let Err(error) = to.write_all(format!("{text}\n").as_bytes()).await {
        tracing::debug!(%error, "a command left before its answer: {error}");
    }
}

/// A connection to the daemon that an import goes over.
pub struct Line {
    from: tokio::io::BufReader<tokio::net::unix::OwnedReadHalf>,
    to: tokio::net::unix::OwnedWriteHalf,
}

impl Line {
    /// Connects to the daemon of a data directory; `None` where none runs.
    pub async fn open(data_dir: &std::path::Path) -> Option<Self> {
        let (path, _dir) = super::usable_path(data_dir).ok()?;
        let stream = tokio::net::UnixStream::connect(path).await.ok()?;
        let (from, to) = stream.into_split();
        Some(Self {
            from: tokio::io::BufReader::new(from),
            to,
        })
    }

    pub async fn begin(&mut self, begin: Begin) -> Result<Begun, String> {
        self.ask(&super::Request::Import(begin), &[]).await
    }

    pub async fn batch(
        &mut self,
        items: &[Bytes],
        place: Place,
        begins: bool,
    ) -> Result<Vec<Outcome>, String> {
        let lengths = items.iter().map(|item| item.len() as u64).collect();
        let frame = Frame::Batch {
            items: lengths,
            place,
            begins,
        };
        self.ask(&frame, items).await
    }

    pub async fn end(&mut self) -> Result<(), String> {
        self.ask(&Frame::End, &[]).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        question: &impl Serialize,
        bytes: &[Bytes],
    ) -> Result<T, String> {
        let lost = |error: std::io::Error| format!("the daemon ended: {error}");
        let text = serde_json::to_string(question).map_err(|error| error.to_string())?;
        let line = format!("{text}\n");
        self.to.write_all(line.as_bytes()).await.map_err(lost)?;
        for item in bytes {
            self.to.write_all(item).await.map_err(lost)?;
        }
        let mut line = String::new();
        if self.from.read_line(&mut line).await.map_err(lost)? == 0 {
            return Err("the daemon ended".to_owned());
        }
        let read = |error: serde_json::Error| format!("reading the daemon's answer: {error}");
        match serde_json::from_str(&line).map_err(read)? {
            Answer::Result(value) => serde_json::from_value(value).map_err(read),
            Answer::Error(error) => Err(error),
        }
    }
}
