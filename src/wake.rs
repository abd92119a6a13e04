//! Wake-ups between parts: a queue has work, a channel has something to send. Only hints: whoever
//! is woken looks into the store, so a lost or a spurious one costs nothing but time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// One bell per name.
#[derive(Default)]
pub struct Wakes {
    bells: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Wakes {
    /// The bell of `name`. Take `bell.notified()` before looking into the store, so that nothing
    /// that comes between looking and waiting is missed.
    pub fn bell(&self, name: &str) -> Arc<Notify> {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.entry(name.to_owned()).or_default().clone()
    }

    /// Wakes everybody who waits for `name` now, and the next one who comes.
    pub fn ring(&self, name: &str) {
        let bell = self.bell(name);
        bell.notify_waiters();
        bell.notify_one();
    }
}
