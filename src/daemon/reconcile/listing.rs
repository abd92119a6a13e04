//! One provider's pages, looked up as they come.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use connector_api::{Error, InventoryPages, ProviderItem, Result as Listed, Standing, async_trait};

use crate::channels::Channel;
use crate::reconcile::facts::Known;
use crate::reconcile::{GAPS_NAMED_MAX, Gap, ProviderState, Tally};
use crate::router::facts::Key16;
use crate::router::{Policy, change, keys};
use crate::store::{Store, StoreError};

/// What the listings of all channels found.
#[derive(Default)]
pub struct Found {
    /// By channel, the messages of which its provider has a copy; none of a channel whose provider keeps none.
    pub copies: BTreeMap<String, HashSet<i64>>,
    /// What nobody knows so far.
    pub unknown: Vec<Unknown>,
}

pub struct Unknown {
    pub channel: String,
    pub keys: Vec<Key16>,
    pub gap: Gap,
}

/// Takes the pages of one channel's provider.
pub struct Listing<'a> {
    store: &'a Arc<dyn Store>,
    policy: &'a Policy,
    channel: &'a Channel,
    unfiled: &'a HashSet<Key16>,
    is_decided: bool,
    so_far: Mutex<SoFar>,
}

struct SoFar {
    tally: Tally,
    copies: HashSet<i64>,
    unknown: Vec<Unknown>,
    more: u64,
    failed: Option<StoreError>,
}

impl<'a> Listing<'a> {
    /// Goes on with `tally` until it is ended.
    pub fn new(
        store: &'a Arc<dyn Store>,
        policy: &'a Policy,
        channel: &'a Channel,
        unfiled: &'a HashSet<Key16>,
        is_decided: bool,
        tally: Tally,
    ) -> Self {
        Self {
            store,
            policy,
            channel,
            unfiled,
            is_decided,
            so_far: Mutex::new(SoFar {
                tally,
                copies: HashSet::new(),
                unknown: Vec::new(),
                more: 0,
                failed: None,
            }),
        }
    }

    /// Ends with what the provider said; a store that failed meanwhile fails everything.
    pub fn end(self, failed: Option<Error>, found: &mut Found) -> Result<Tally, StoreError> {
        let so_far = self
            .so_far
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = so_far.failed {
            return Err(error);
        }
        let name = self.channel.id.as_str();
        let mut tally = so_far.tally;
        found.unknown.extend(so_far.unknown);
        match failed {
            Some(error) => {
                // What lies behind where it failed may be a copy of anything.
                tally.asked(name, ProviderState::Failed, Some(error.message));
            }
            None => {
                tally.asked(name, ProviderState::Asked, None);
                if !so_far.copies.is_empty() {
                    found.copies.insert(name.to_owned(), so_far.copies);
                }
            }
        }
        tally.unnamed(so_far.more);
        Ok(tally)
    }

    fn keys_of(&self, item: &ProviderItem) -> Vec<Key16> {
        let (brand, id) = (&self.channel.brand, &self.channel.id);
        let keys = item.keys.iter();
        keys.map(|key| keys::event(brand, id, key.as_str()))
            .collect()
    }
}

#[async_trait]
impl InventoryPages for Listing<'_> {
    async fn page(&self, items: Vec<ProviderItem>) -> Listed<()> {
        let keys: Vec<Vec<Key16>> = items.iter().map(|item| self.keys_of(item)).collect();
        let asked = keys.iter().flatten().copied().collect();
        let filed = self.store.filed_keys(asked).await;
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let filed = match filed {
            Ok(filed) => filed,
            Err(error) => {
                so_far.failed = Some(error);
                return Err(Error::unavailable("the store did not answer"));
            }
        };
        for (item, keys) in items.iter().zip(keys) {
            if item.standing == Standing::Copy {
                let id = item.message_id.as_deref().unwrap_or_default();
                let message = change::own_id(id, self.policy);
                so_far.copies.extend(message.map(|message| message.0));
            }
            let is_known = |key: &Key16| filed.contains(key) || self.unfiled.contains(key);
            let known = match keys.iter().any(is_known) {
                true => Known::Yes,
                false if item.keys_incomplete => Known::Untold,
                false if !self.is_decided => Known::Perhaps,
                false => Known::No,
            };
            let channel = self.channel.id.as_str();
            let Some(gap) = so_far.tally.item(channel, item, known) else {
                continue;
            };
            match so_far.unknown.len() < GAPS_NAMED_MAX {
                true => so_far.unknown.push(Unknown {
                    channel: channel.to_owned(),
                    keys,
                    gap,
                }),
                false => so_far.more += 1,
            }
        }
        Ok(())
    }
}
