//! A made-up connector that can be broken in one place at a time: what goes out.

use std::sync::atomic::Ordering;

use connector_api::{
    Bytes, Error, ErrorKind, Health, Namespace, OutboundMessage, Recipient, RefusedRecipient,
    Result, SendReceipt, Sender, async_trait,
};

use crate::toy::connector::Toy;
use crate::toy::setup::Break;
use crate::toy::world::{Answer, world};

#[async_trait]
impl Sender for Toy {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let mut files = Vec::new();
        for file in &message.attachments {
            files.push(file.content.whole(file.size_bytes).await?);
        }
        let sent = self.send_once(message, files);
        let mut last = self.last.lock().unwrap();
        *last = match &sent {
            Err(error) if error.kind == ErrorKind::Auth => Health::Unauthorized {
                reason: error.message.clone(),
            },
            Err(error) if error.kind == ErrorKind::Unavailable => Health::Unreachable {
                reason: error.message.clone(),
            },
            _ => Health::Ready,
        };
        sent
    }

    fn recipient(&self, address: &str) -> Result<Recipient> {
        let address = match self.is(Break::AddressesAreReadAsWritten) {
            true => address,
            false => address.trim(),
        };
        let is_known = !address.is_empty() && address.len() <= 100;
        if !is_known && !self.is(Break::AnyAddressIsRead) {
            return Err(Error::rejected("an address has 1 to 100 characters"));
        }
        Ok(Recipient {
            namespace: Namespace::email(),
            address: address.to_owned(),
            name: None,
        })
    }
}

impl Toy {
    fn send_once(&self, message: &OutboundMessage, files: Vec<Bytes>) -> Result<SendReceipt> {
        let mut message = message.clone();
        let too_large = message
            .attachments
            .iter()
            .any(|file| file.size_bytes > 1_024);
        let sum: u64 = message.attachments.iter().map(|file| file.size_bytes).sum();
        if sum > 2_000 && !self.is(Break::AnySumIsUploaded) && !self.is(Break::AnySizeIsUploaded) {
            return Err(Error::too_large("all attachments are at most 2000 bytes"));
        }
        if too_large && !self.is(Break::AnySizeIsUploaded) {
            return Err(Error::too_large("attachments are at most 1024 bytes"));
        }
        match self.breaks {
            Some(Break::SendsInCapitals) => message.text = message.text.to_uppercase(),
            Some(Break::SendsOutsideTheThread) => message.thread = Some("elsewhere".to_owned()),
            Some(Break::FilesAreDropped) => message.attachments.clear(),
            Some(Break::CopiesAreDropped) => message.cc.clear(),
            Some(Break::BlindCopiesAreShown) => message.cc.append(&mut message.bcc),
            Some(Break::HtmlIsDropped) => message.html = None,
            Some(Break::ImagesHaveNoIds) => {
                for file in &mut message.attachments {
                    file.content_id = None;
                }
            }
            Some(Break::NewIdPerAttempt) => {
                message.id += &self.attempts.fetch_add(1, Ordering::Relaxed).to_string();
                message.id += &format!("{:p}", self);
            }
            _ => {}
        }
        let names = message.attachments.iter().map(|file| file.name.as_str());
        let headers: Vec<&str> = match self.breaks {
            Some(Break::LineBreaksAreHeaders) => message.subject.as_deref().into_iter().collect(),
            Some(Break::FileNamesAreHeaders) => names.collect(),
            _ => Vec::new(),
        };
        let injected = headers.iter().any(|header| header.contains("\r\nBcc:"));
        let answer = match world(self.world) {
            Some(world) => world.take(&message, &files, injected),
            None => Answer::Away,
        };
        let kind = match answer {
            Answer::Taken(_) if self.is(Break::ReturnsNoIds) => {
                return Ok(SendReceipt::accepted(Vec::new()));
            }
            Answer::Taken(id) => return Ok(SendReceipt::accepted(vec![id])),
            Answer::TakenWithout(id, address, reason) => {
                let mut receipt = SendReceipt::accepted(vec![id]);
                if !self.is(Break::RefusalsAreSilent) {
                    receipt.refused.push(RefusedRecipient::new(address, reason));
                }
                return Ok(receipt);
            }
            Answer::Lost | Answer::Unreadable if self.breaks.is_none() => ErrorKind::OutcomeUnknown,
            _ if self.is(Break::EverythingIsUnavailable) => ErrorKind::Unavailable,
            _ if self.is(Break::EverythingIsRejected) => ErrorKind::Rejected,
            Answer::Lost | Answer::Unreadable => ErrorKind::OutcomeUnknown,
            Answer::Later(retry_after) => ErrorKind::RateLimited {
                retry_after: Some(retry_after),
            },
            Answer::Broken | Answer::Away => ErrorKind::Unavailable,
            Answer::Unauthorized => ErrorKind::Auth,
            Answer::Refused(reason) => return Err(Error::rejected(reason)),
        };
        if self.is(Break::SecretInError) {
            return Err(Error::new(kind, format!("not with {}", self.secret)));
        }
        Err(Error::new(kind, "the world did not take it"))
    }
}
