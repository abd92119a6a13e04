//! Where a message and the change that overtook it meet. Two transactions that run beside each other do not see each
//! other's rows: an edit whose message is filed at the same moment would wait for it for ever. So whoever brings a
//! message passes a gate by its key, and whoever misses one has that gate alone.

use std::collections::HashSet;

use connector_api::Event;

use crate::router::facts::Key16;
use crate::router::{Policy, Prepared, change, keys};
use crate::store::StoreError;

use super::{Tx, facts, seen};

/// Passes the gates of a batch; says whether it brings receipts.
pub fn pass(tx: &Tx<'_>, batch: &[Prepared], policy: &Policy) -> Result<bool, StoreError> {
    if tx.is_alone() {
        return Ok(false);
    }
    let (mut brought, mut named, mut reported) = (Vec::new(), HashSet::new(), HashSet::new());
    for record in batch {
        let envelope = &record.envelope;
        match &envelope.event.event {
            Event::Message(_) | Event::Echo(_) => brought.push(record.key),
            // Our own id is of a message that is there: it left.
            Event::Receipt { target, .. } if change::own_id(target, policy).is_none() => {
                reported.insert(keys::sent(&envelope.brand, &envelope.channel, target));
            }
            Event::Receipt { .. } => {}
            _ => named.extend(change::target(record)),
        }
    }
    let known = seen::find_named(tx.conn, tx.memory, &named)?;
    let known = known.into_iter().filter(|(_, seen)| !seen.is_empty());
    let known: HashSet<Key16> = known.map(|(key, _)| key).collect();
    let sent = facts::references(tx.conn, &reported)?;
    let missed: Vec<Key16> = (named.difference(&known))
        .chain(reported.iter().filter(|key| !sent.contains_key(*key)))
        .copied()
        .collect();
    tx.lock_stripes(&brought, &missed)?;
    Ok(batch
        .iter()
        .any(|record| matches!(record.envelope.event.event, Event::Receipt { .. })))
}
