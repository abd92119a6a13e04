//! What customers and providers say, as connectors would deliver it.

use connector_api::{
    Attachment, AttachmentBody, Automatic, Bytes, DedupeKey, DeliveryStage, Event, Evidence,
    IdentityClaim, InboundEvent, InboundMessage, MessageSender, Method, Namespace, Participant,
    ParticipantRole, ThreadHints,
};
use switchboard::clock::timestamp;

/// One event of one channel, before it is accepted.
#[derive(Debug, Clone)]
pub struct Said {
    pub channel: &'static str,
    pub event: InboundEvent,
    /// Whether the test named the dedupe key; otherwise the desk numbers it.
    pub keyed: bool,
    /// Read from a file.
    pub imported: bool,
}

/// A mail to `support-mail`, its sender proven by DMARC.
pub fn mail(from: &str, text: &str) -> Said {
    Said::message("support-mail", "email", from, Method::Dmarc, text)
}

/// A signed message of the shop's chat.
pub fn chat(from: &str, text: &str) -> Said {
    Said::message("shop-chat", "webhook:shop-chat", from, Method::Signed, text)
}

/// Our own side wrote to `to` outside Switchboard.
pub fn echo(to: &str, text: &str) -> Said {
    chat(to, text).by_us()
}

pub fn edit(target: &str, text: &str) -> Said {
    Said::of(
        "shop-chat",
        Event::Edit {
            target: target.to_owned(),
            text: text.to_owned(),
            html: None,
        },
    )
}

pub fn delete(target: &str) -> Said {
    Said::of(
        "shop-chat",
        Event::Delete {
            target: target.to_owned(),
        },
    )
}

pub fn reaction(target: &str, emoji: &str) -> Said {
    let (target, emoji) = (target.to_owned(), emoji.to_owned());
    Said::of(
        "shop-chat",
        Event::Reaction {
            target,
            emoji,
            removed: false,
            from: None,
        },
    )
}

pub fn receipt(target: &str, stage: DeliveryStage) -> Said {
    let reason = (stage == DeliveryStage::Failed).then(|| "mailbox full".to_owned());
    Said::of(
        "support-mail",
        Event::Receipt {
            target: target.to_owned(),
            stage,
            reason,
            recipient: None,
        },
    )
}

pub fn system(thread: &str, text: &str) -> Said {
    let thread = ThreadHints {
        native: Some(thread.to_owned()),
        ..ThreadHints::default()
    };
    Said::of(
        "shop-chat",
        Event::System {
            thread,
            text: text.to_owned(),
        },
    )
}

impl Said {
    fn of(channel: &'static str, event: Event) -> Self {
        Self {
            channel,
            event: InboundEvent::new(DedupeKey::new(""), event),
            keyed: false,
            imported: false,
        }
    }

    fn message(
        channel: &'static str,
        namespace: &str,
        from: &str,
        method: Method,
        text: &str,
    ) -> Self {
        let claim = IdentityClaim {
            namespace: Namespace::named(namespace),
            address: from.to_owned(),
            evidence: Evidence::Verified(method),
        };
        let message = InboundMessage {
            from: MessageSender {
                identities: vec![claim],
                name: None,
            },
            participants: Vec::new(),
            subject: None,
            text: text.to_owned(),
            html: None,
            thread: ThreadHints::default(),
            attachments: Vec::new(),
        };
        Self::of(channel, Event::Message(Box::new(message)))
    }

    fn said(&mut self) -> &mut InboundMessage {
        match &mut self.event.event {
            Event::Message(message) | Event::Echo(message) => message,
            other => panic!(
                "a {} has no sender, subject or thread",
                other.kind().as_str()
            ),
        }
    }

    pub fn key(mut self, key: &str) -> Self {
        self.event.dedupe_key = DedupeKey::new(key);
        self.keyed = true;
        self
    }

    /// Over another channel; account namespaces follow it.
    pub fn on(mut self, channel: &'static str) -> Self {
        if let Event::Message(message) | Event::Echo(message) = &mut self.event.event {
            for claim in &mut message.from.identities {
                if claim.namespace.as_str().starts_with("webhook:") {
                    claim.namespace = Namespace::account("webhook", channel);
                }
            }
        }
        self.channel = channel;
        self
    }

    /// Nothing proves the sender.
    pub fn claimed(mut self) -> Self {
        for claim in &mut self.said().from.identities {
            claim.evidence = Evidence::Claimed;
        }
        self
    }

    /// Names nobody.
    pub fn anonymous(mut self) -> Self {
        self.said().from.identities.clear();
        self
    }

    /// Also names this mail address; `outlet-chat` and `shop-chat` vouch for it, `other-chat` does not.
    pub fn with_email(mut self, address: &str) -> Self {
        let claim = IdentityClaim {
            namespace: Namespace::email(),
            address: address.to_owned(),
            evidence: Evidence::Claimed,
        };
        self.said().from.identities.push(claim);
        self
    }

    pub fn subject(mut self, subject: &str) -> Self {
        self.said().subject = Some(subject.to_owned());
        self
    }

    pub fn cc(mut self, address: &str) -> Self {
        self.said().participants.push(Participant {
            namespace: Namespace::email(),
            address: address.to_owned(),
            name: None,
            role: ParticipantRole::Cc,
        });
        self
    }

    pub fn attachment(mut self, name: &str, bytes: &'static [u8]) -> Self {
        self.said().attachments.push(Attachment {
            name: Some(name.to_owned()),
            content_type: "application/octet-stream".to_owned(),
            size_bytes: None,
            content_id: None,
            inline: false,
            body: AttachmentBody::Bytes(Bytes::from_static(bytes)),
        });
        self
    }

    /// A file that is still where `url` says.
    pub fn file_at(mut self, name: &str, url: &str) -> Self {
        self = self.attachment(name, b"");
        let file = self.said().attachments.last_mut();
        file.expect("the file just added").body = AttachmentBody::Reference {
            reference: url.to_owned(),
        };
        self
    }

    pub fn reply_to(mut self, address: &str) -> Self {
        self.event.reply_to = Some(address.to_owned());
        self
    }

    /// A filter on the way called it spam, by this mark.
    pub fn spam(mut self, mark: &str) -> Self {
        self.event.provider_spam = Some(mark.to_owned());
        self
    }

    /// The sender asks for no automatic answers.
    pub fn suppressing_answers(mut self) -> Self {
        self.event.answers_suppressed = true;
        self
    }

    /// The id that later messages refer to.
    pub fn message_id(mut self, id: &str) -> Self {
        self.said().thread.message_id = Some(id.to_owned());
        self
    }

    pub fn refers_to(mut self, id: &str) -> Self {
        self.said().thread.references.push(id.to_owned());
        self
    }

    /// Not they wrote it: our own side wrote it to them.
    pub fn by_us(mut self) -> Self {
        if let Event::Message(message) = self.event.event {
            self.event.event = Event::Echo(message);
        }
        self
    }

    pub fn token(mut self, token: &str) -> Self {
        self.said().thread.reply_tokens.push(token.to_owned());
        self
    }

    pub fn thread(mut self, native: &str) -> Self {
        self.said().thread.native = Some(native.to_owned());
        self
    }

    pub fn forward(mut self) -> Self {
        self.said().thread.forward = true;
        self
    }

    pub fn automatic(mut self, why: Automatic) -> Self {
        self.event.automatic = Some(why);
        self
    }

    pub fn imported(mut self) -> Self {
        self.imported = true;
        self
    }

    /// What the provider says when it was said.
    pub fn sent_at(mut self, micros: i64) -> Self {
        self.event.sent_at = Some(timestamp(micros));
        self
    }

    pub fn history(mut self) -> Self {
        self.event.history = true;
        self
    }
}
