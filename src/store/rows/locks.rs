//! What is locked before it is read, where transactions run beside others. SQLite has one writer, and a
//! transaction that runs alone needs no lock: for these there is nothing to do.

use crate::ids::{ContactId, ConversationId};
use crate::router::facts::Facts;
use crate::store::StoreError;
#[cfg(feature = "postgres")]
use crate::store::postgres::Session;
#[cfg(feature = "postgres")]
use crate::store::sql::Conn;

use super::Tx;
use super::memory::Standing;

type Result<T> = std::result::Result<T, StoreError>;

#[cfg_attr(
    not(feature = "postgres"),
    expect(unused_variables, reason = "one writer has nobody beside it")
)]
impl<'a> Tx<'a> {
    /// Nobody else writes.
    pub fn is_alone(&self) -> bool {
        self.memory.standing == Standing::Alone
    }

    /// The error of work that has to be run again: what it locked was not all that it needs.
    pub fn begin_again(&mut self, standing: Standing, why: &str) -> StoreError {
        self.memory.again = Some(standing);
        StoreError::Unavailable(why.to_owned())
    }

    #[cfg(feature = "postgres")]
    fn beside(&self) -> Option<&'a Session> {
        match self.conn {
            Conn::Postgres(session) if !self.is_alone() => Some(session),
            _ => None,
        }
    }

    /// Whoever asks for the same `kind` and `name` waits until this is over. First of all locks.
    pub fn lock_name(&self, kind: &str, name: &[u8]) -> Result<()> {
        #[cfg(feature = "postgres")]
        if let Some(session) = self.beside() {
            session.lock_name(&format!("{kind} {}", crate::blobs::hex(name)))?;
        }
        Ok(())
    }

    /// The position of the partition that a record is of: it is decided in its order only. A record of before the
    /// installation was moved may be of any partition now, so it is all of them.
    pub fn lock_position_of(&self, record: i64) -> Result<()> {
        #[cfg(feature = "postgres")]
        if self.beside().is_some() {
            if record < super::partitions::base(self.conn)? {
                let sql = "SELECT position FROM position ORDER BY partition FOR UPDATE";
                self.conn.prepare(sql)?.exists(())?;
            } else {
                let sql = "SELECT position FROM position WHERE partition = ?1 FOR UPDATE";
                let partition = self.memory.partition_of(record);
                self.conn.prepare(sql)?.exists([partition])?;
            }
        }
        Ok(())
    }

    /// Stripes of keys that are about to be there, shared, and of those that are waited for, alone.
    pub fn lock_stripes(&self, there: &[[u8; 16]], missed: &[[u8; 16]]) -> Result<()> {
        #[cfg(feature = "postgres")]
        if let Some(session) = self.beside() {
            let stripe = |key: &[u8; 16]| i32::from(key[0]) % STRIPES;
            let shared = there.iter().map(|key| (stripe(key), false));
            let alone = missed.iter().map(|key| (stripe(key), true));
            session.lock_stripes(&shared.chain(alone).collect())?;
        }
        Ok(())
    }

    /// Whose conversations or identities change.
    pub fn lock_contact(&self, id: ContactId) -> Result<()> {
        #[cfg(feature = "postgres")]
        if let Some(session) = self.beside() {
            session.lock_contacts(vec![id.0])?;
        }
        Ok(())
    }

    /// One conversation, and nothing above it after.
    pub fn lock_conversation(&self, id: ConversationId) -> Result<()> {
        #[cfg(feature = "postgres")]
        if let Some(session) = self.beside() {
            session.lock_conversation(id.0)?;
        }
        Ok(())
    }

    /// Conversations with their contacts: one may open, or close, beside the contact's others.
    pub fn lock_matters(
        &mut self,
        conversations: impl IntoIterator<Item = ConversationId>,
    ) -> Result<()> {
        #[cfg(feature = "postgres")]
        if let Some(session) = self.beside() {
            let mut ids: Vec<i64> = conversations.into_iter().map(|id| id.0).collect();
            ids.sort_unstable();
            ids.dedup();
            let contacts = session.contacts_of(&ids)?;
            session.lock_contacts(contacts.clone())?;
            let held = session.lock_conversations(ids)?;
            if held.values().any(|held| !contacts.contains(&held.contact)) {
                return Err(
                    self.begin_again(Standing::Beside, "a conversation became another contact's")
                );
            }
        }
        #[cfg(not(feature = "postgres"))]
        drop(conversations.into_iter());
        Ok(())
    }
}

/// Early changes and their messages meet at as many gates.
#[cfg(feature = "postgres")]
const STRIPES: i32 = 64;

/// Locks the contacts and conversations of a batch's facts. What moved before it was locked is read again;
/// what turns out to be needed and is not locked has the batch begin again. `fresh` reads them anyway:
/// something is asked of that has no version.
pub fn hold(
    tx: &mut Tx<'_>,
    facts: Facts,
    fresh: bool,
    read: impl FnOnce(&Tx<'_>) -> Result<Facts>,
) -> Result<Facts> {
    #[cfg(feature = "postgres")]
    if let Some(session) = tx.beside() {
        let known = facts.conversations.values();
        let mut contacts: Vec<i64> = known.map(|one| one.contact.0).collect();
        contacts.extend(facts.contacts.keys().map(|id| id.0));
        contacts.sort_unstable();
        contacts.dedup();
        let mut conversations: Vec<i64> = facts.conversations.keys().map(|id| id.0).collect();
        conversations.sort_unstable();
        let versions = session.lock_contacts(contacts.clone())?;
        let held = session.lock_matters(contacts.clone(), conversations)?;
        let stands = held.iter().all(|(id, held)| {
            let known = facts.conversations.get(&ConversationId(*id));
            known.is_some_and(|known| {
                (known.version, known.contact.0) == (held.version, held.contact)
            })
        });
        let same = |contact: &crate::router::facts::Contact| {
            versions.get(&contact.id.0) == Some(&contact.version)
        };
        if !fresh && stands && facts.contacts.values().all(same) {
            return Ok(facts);
        }
        let read = read(tx)?;
        let locked = read.contacts.keys().all(|id| versions.contains_key(&id.0))
            && (read.conversations.values())
                .all(|one| held.contains_key(&one.id.0) && contacts.contains(&one.contact.0));
        return match locked {
            true => Ok(read),
            false => {
                Err(tx.begin_again(Standing::Beside, "a contact is needed that is not locked"))
            }
        };
    }
    let _ = (tx, fresh, read);
    Ok(facts)
}
