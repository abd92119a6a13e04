//! A part of the configuration that a reload replaces while everything runs. Whoever decides by it
//! takes it once per decision.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    pub fn new(value: T) -> Self {
        Self::from(Arc::new(value))
    }

    /// What holds now.
    pub fn now(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub fn set(&self, value: Arc<T>) {
        self.0.store(value);
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> From<Arc<T>> for Live<T> {
    fn from(value: Arc<T>) -> Self {
        Self(Arc::new(ArcSwap::new(value)))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}
