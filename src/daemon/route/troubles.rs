//! What is wrong with the partitions of a router: one state of them all, which is well only when all are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::health::State;

/// Why partitions are not decided, by partition.
#[derive(Default)]
pub struct Troubles(Mutex<BTreeMap<u32, String>>);

impl Troubles {
    /// Notes why a partition is not decided, or that it is.
    pub fn note(&self, partition: u32, trouble: Option<&str>) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(reason) => {
                troubles.insert(partition, reason.to_owned());
            }
            None => {
                troubles.remove(&partition);
            }
        }
    }

    /// The state of the whole: the first of what is wrong, and how many others there are.
    pub fn state(&self) -> State {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = troubles.values().next() else {
            return State::Ready;
        };
        let reason = match troubles.len() {
            1 => reason.clone(),
            more => format!("{reason} (and {} more partitions)", more - 1),
        };
        State::Degraded { reason }
    }
}
