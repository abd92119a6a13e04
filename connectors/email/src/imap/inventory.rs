//! What lies in the mailboxes, told by its headers alone: each is opened read-only, over a connection beside the
//! one that follows them.

use connector_api::{
    Cursor, DedupeKey, Error, INVENTORY_PAGE_MAX, Inventory, InventoryPages, ProviderItem, Result,
    Standing, Timestamp, async_trait,
};

use crate::imap::Mailbox;
use crate::imap::cursor::{Listed, Places, Position};
use crate::imap::session::{Headed, Session};
use crate::imap::sync::is_arrival;
use crate::parse::head::{HEAD_FIELDS, Head};

/// UIDs listed at once; more where they are sparse.
const WINDOW_UIDS: u32 = 500;
const WINDOW_UIDS_MAX: u32 = 64_000;

#[async_trait]
impl Inventory for Mailbox {
    async fn list_since(
        &self,
        since: Timestamp,
        read_to: Option<&Cursor>,
        pages: &dyn InventoryPages,
    ) -> Result<()> {
        let places = self.places(read_to)?;
        let mut session = Session::open(self.server()?).await?;
        let listed = self.list_all(&mut session, since, &places, pages).await;
        session.log_out().await;
        listed
    }
}

/// A mailbox that is open, and how far it was read.
struct Opened<'a> {
    name: &'a str,
    at: usize,
    uidvalidity: u32,
    position: &'a Position,
}

impl Mailbox {
    async fn list_all(
        &self,
        session: &mut Session,
        since: Timestamp,
        places: &Places,
        pages: &dyn InventoryPages,
    ) -> Result<()> {
        for (at, name) in self.settings.mailboxes.iter().enumerate() {
            let position = places.of(name).ok_or_else(|| {
                Error::unavailable(format!(
                    "the mailbox {name:?} was not read for the first time yet"
                ))
            })?;
            let selected = session.open_mailbox(name, false).await?;
            let Some(first) = session.first_since(since.as_second()).await? else {
                continue;
            };
            let opened = Opened {
                name,
                at,
                uidvalidity: selected.uidvalidity,
                position,
            };
            let newest = session.newest(selected.exists, 1).await?;
            let last = newest.last().map_or(0, |mail| mail.uid);
            opened.list(session, (first, last), since, pages).await?;
        }
        Ok(())
    }
}

impl Opened<'_> {
    async fn list(
        &self,
        session: &mut Session,
        (first, last): (u32, u32),
        since: Timestamp,
        pages: &dyn InventoryPages,
    ) -> Result<()> {
        let (mut from, mut width) = (first, WINDOW_UIDS);
        while from <= last {
            let to = from.saturating_add(width - 1).min(last);
            let headed = session.heads(from, to, &HEAD_FIELDS).await?;
            width = match headed.is_empty() {
                true => width.saturating_mul(2).min(WINDOW_UIDS_MAX),
                false => WINDOW_UIDS,
            };
            let is_young =
                |(mail, _): &&Headed| mail.date.is_none_or(|date| date >= since.as_second());
            let items: Vec<ProviderItem> = headed
                .iter()
                .filter(is_young)
                .map(|(mail, raw)| self.item(mail, &Head::read(raw)))
                .collect();
            for page in items.chunks(INVENTORY_PAGE_MAX) {
                pages.page(page.to_vec()).await?;
            }
            let Some(next) = to.checked_add(1) else { break };
            from = next;
        }
        Ok(())
    }

    fn item(&self, mail: &Listed, head: &Head) -> ProviderItem {
        let Self {
            name, uidvalidity, ..
        } = self;
        let is_arrival = is_arrival(name, self.at, mail.gmail_id.is_some());
        let standing = match &head.sent_as {
            Some(_) if !is_arrival => Standing::Copy,
            _ => self.position.standing(*uidvalidity, mail),
        };
        let mut item = ProviderItem::new(format!("{name}, UID {}", mail.uid), standing);
        item.message_id = match standing {
            Standing::Copy => head.sent_as.clone(),
            _ => head.message_id.clone(),
        };
        // As a mail is filed that its server lists and does not hand out.
        let unread = DedupeKey::new(format!("imap:{uidvalidity}:{}", mail.uid));
        item.keys = head.key.iter().cloned().chain([unread]).collect();
        // Its key is made of its body.
        item.keys_incomplete = head.key.is_none();
        item.at = mail.date.and_then(|date| Timestamp::from_second(date).ok());
        item
    }
}
