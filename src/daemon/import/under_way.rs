//! Which imports are under way: two of the same files would write over each other's place.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long the next one waits for a command that just left: its last batch is still being filed.
const LEAVING_WAIT: Duration = Duration::from_secs(5);

/// The imports that this process files.
#[derive(Clone, Default)]
pub struct UnderWay(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sources: Mutex<HashSet<String>>,
    left: Notify,
}

/// One of them, until it is dropped.
pub struct Held {
    source: String,
    of: UnderWay,
}

impl UnderWay {
    /// Takes a source for one import; refuses another one of it.
    pub async fn hold(&self, source: &str) -> Result<Held, String> {
        self.hold_within(source, LEAVING_WAIT).await
    }

    async fn hold_within(&self, source: &str, wait: Duration) -> Result<Held, String> {
        let free = async {
            loop {
                let left = self.0.left.notified();
                let mut left = std::pin::pin!(left);
                left.as_mut().enable();
                if self.sources().insert(source.to_owned()) {
                    return;
                }
                left.await;
            }
        };
        let free = tokio::time::timeout(wait, free).await;
        free.map_err(|_| {
            "these files are being imported into this channel already: wait for that, or stop it"
                .to_owned()
        })?;
        Ok(Held {
            source: source.to_owned(),
            of: self.clone(),
        })
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.sources().remove(&self.source);
        self.of.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_is_held_once_and_free_again_when_its_import_leaves() {
        let under_way = UnderWay::default();
        let first = under_way.hold("a").await.unwrap();
        assert!(under_way.hold("b").await.is_ok());
        let refused = under_way
            .hold_within("a", Duration::ZERO)
            .await
            .err()
            .unwrap();
        assert!(refused.contains("imported into this channel already"));
        let (second, ()) = tokio::join!(under_way.hold("a"), async { drop(first) });
        assert!(second.is_ok(), "who waits a moment for one that leaves");
        drop(second);
        assert!(under_way.hold("a").await.is_ok());
    }
}
