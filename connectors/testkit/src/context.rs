//! What the daemon would hand a connector, with nothing of the world behind it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use connector_api::{
    Clock, Credentials, Error, ExposeSecret, Result, SecretRef, SecretResolver, SecretString,
    Timestamp, async_trait,
};

/// The time at which every test begins, in seconds since 1970: 2026-01-05, a Monday, 09:00 UTC.
pub const NOW_SECONDS: i64 = 1_767_603_600;

/// [`NOW_SECONDS`] as a timestamp: when fakes sign, and when requests made here arrive.
pub fn now() -> Timestamp {
    Timestamp::from_second(NOW_SECONDS).expect("a constant within jiff's range")
}

/// A clock that stands until it is moved.
pub struct FixedClock(Mutex<Timestamp>);

impl FixedClock {
    pub fn at(time: Timestamp) -> Self {
        Self(Mutex::new(time))
    }

    pub fn advance(&self, by: std::time::Duration) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = time
            .checked_add(by)
            .expect("tests stay within jiff's range");
    }
}

impl Default for FixedClock {
    fn default() -> Self {
        Self::at(now())
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Secrets by the name of their environment variable. Files and unknown names are refused, unless
/// [`StaticSecrets::with_fallback`] stands in for them.
#[derive(Default)]
pub struct StaticSecrets {
    values: BTreeMap<String, String>,
    fallback: Option<String>,
}

impl StaticSecrets {
    pub fn new<N: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (N, V)>) -> Self {
        Self {
            values: values
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            fallback: None,
        }
    }

    /// Answers with `value` for every secret that is not known.
    pub fn with_fallback(mut self, value: impl Into<String>) -> Self {
        self.fallback = Some(value.into());
        self
    }
}

impl SecretResolver for StaticSecrets {
    fn resolve(&self, secret: &SecretRef) -> Result<SecretString> {
        let known = match secret {
            SecretRef::Env(name) => self.values.get(name),
            SecretRef::File(_) => None,
        };
        match known.or(self.fallback.as_ref()) {
            Some(value) => Ok(value.clone().into()),
            None => Err(Error::config(format!("{secret:?} is not set"))),
        }
    }
}

/// Credentials that last as long as this: hand the same one to two connectors for a restart.
#[derive(Default)]
pub struct MemoryCredentials {
    kept: Mutex<BTreeMap<String, SecretString>>,
    failures: Mutex<usize>,
}

impl MemoryCredentials {
    /// With what an earlier run left.
    pub fn new(kept: impl IntoIterator<Item = (String, String)>) -> Self {
        let kept = kept
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        Self {
            kept: Mutex::new(kept),
            failures: Mutex::default(),
        }
    }

    /// As many saves fail as outages do.
    pub fn fail_next(&self, count: usize) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// Everything that is kept, in the clear.
    pub fn shown(&self) -> Vec<(String, String)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
            .collect()
    }
}

#[async_trait]
impl Credentials for MemoryCredentials {
    async fn load(&self, name: &str) -> Result<Option<SecretString>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.get(name).cloned())
    }

    async fn save(&self, name: &str, value: SecretString) -> Result<()> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::unavailable("the store of credentials is away"));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(name.to_owned(), value);
        Ok(())
    }
}
