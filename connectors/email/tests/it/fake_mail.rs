//! A mail provider: the two servers together, with one customer who writes, answers and reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use connector_api::{DeliveryStage, Registration, async_trait};
use connector_testkit::{
    Delivered, DeliveredAttachment, FakeProvider, Fault, Side, closed_address,
};
use mail_parser::{MessageParser, MimeHeaders};
use serde_json::{Value, json};

use crate::fake_imap::{Accepts, FakeImap, USER};
use crate::fake_oauth::{CLIENT_SECRET, FakeOauth};
use crate::fake_smtp::{self, FakeSmtp, Taken};

const IMAP_PASSWORD: &str = "imap-pass-0815-word";
const SMTP_PASSWORD: &str = "smtp-pass-4711-word";

pub struct FakeMail {
    pub imap: FakeImap,
    pub smtp: FakeSmtp,
    /// Where it logs in with tokens.
    pub oauth: Option<FakeOauth>,
    kept: Vec<(String, String)>,
    count: AtomicU32,
}

impl FakeMail {
    pub async fn start() -> Self {
        Self {
            imap: FakeImap::start(IMAP_PASSWORD).await,
            smtp: FakeSmtp::start(USER, SMTP_PASSWORD).await,
            oauth: None,
            kept: Vec::new(),
            count: AtomicU32::new(1),
        }
    }

    /// The same with tokens in place of passwords; access was granted before.
    pub async fn with_oauth() -> Self {
        let mut fake = Self::start().await;
        let oauth = FakeOauth::start(USER).await;
        let provider = oauth.clone();
        let accepts = Accepts(Arc::new(move |token| provider.accepts(token)));
        fake.imap
            .set(|options| options.tokens = Some(accepts.clone()));
        fake.smtp.take_tokens(USER, accepts);
        fake.kept = vec![("oauth".to_owned(), oauth.kept())];
        fake.oauth = Some(oauth);
        fake
    }

    /// A plain mail from the customer; `extra` are header lines.
    pub fn mail(&self, extra: &str, text: &str) -> (String, String) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let id = format!("c-{count}@example.org");
        let text = text.replace('\n', "\r\n");
        let mail = format!(
            "Received: from mail.example.org by mx.test.example; Mon, 5 Jan 2026 09:00:00 +0000\r\nFrom: Ada Customer <Customer@Example.org>\r\nTo: Support <support@shop.example>\r\nSubject: A question\r\nDate: Mon, 5 Jan 2026 09:00:00 +0000\r\nMessage-ID: <{id}>\r\n{extra}MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
        );
        (id, mail)
    }

    fn config_at(&self, imap_port: u16, smtp_port: u16) -> Value {
        let mut config = json!({
            "address": USER,
            "name": "Shop Support",
            "imap": {
                "host": "127.0.0.1", "port": imap_port, "tls": "none",
                "user": USER, "password": { "env": "IMAP_PASSWORD" },
            },
            "smtp": {
                "host": "127.0.0.1", "port": smtp_port, "tls": "none",
                "user": USER, "password": { "env": "SMTP_PASSWORD" },
            },
            "authserv_id": "mx.shop.example",
            "poll_interval": "60s",
        });
        if let Some(oauth) = &self.oauth {
            config["oauth"] = oauth.config();
            for server in ["imap", "smtp"] {
                config[server].as_object_mut().unwrap().remove("password");
            }
        }
        config
    }
}

#[async_trait]
impl FakeProvider for FakeMail {
    fn registration(&self) -> Registration {
        connector_email::REGISTRATION
    }

    fn config(&self) -> Value {
        self.config_at(self.imap.address.port(), self.smtp.address.port())
    }

    fn unreachable_config(&self) -> Value {
        let port = closed_address().port();
        self.config_at(port, port)
    }

    fn secrets(&self) -> Vec<(String, String)> {
        if self.oauth.is_some() {
            return vec![("OAUTH_SECRET".to_owned(), CLIENT_SECRET.to_owned())];
        }
        vec![
            ("IMAP_PASSWORD".to_owned(), IMAP_PASSWORD.to_owned()),
            ("SMTP_PASSWORD".to_owned(), SMTP_PASSWORD.to_owned()),
        ]
    }

    fn credentials(&self) -> Vec<(String, String)> {
        self.kept.clone()
    }

    async fn withdraw_grants(&self) {
        self.oauth.as_ref().unwrap().withdraw_everything();
    }

    async fn grants(&self, url: &str, code: Option<&str>) -> Option<String> {
        self.oauth.as_ref().unwrap().agree(url, code)
    }

    async fn customer_says(&self, text: &str) -> String {
        let (id, mail) = self.mail("", text);
        self.imap.deliver(mail);
        id
    }

    async fn customer_answers(&self, sent: &Delivered, text: &str) -> String {
        let (id, mail) = self.answer(sent, text);
        self.imap.deliver(mail);
        id
    }

    async fn connected(&self) {
        self.imap.listening().await;
    }

    async fn disconnect(&self) {
        self.imap.cut();
    }

    async fn delivered(&self) -> Vec<Delivered> {
        self.smtp.taken().iter().map(delivered).collect()
    }

    async fn send_attempts(&self) -> usize {
        self.smtp.data_commands()
    }

    async fn fail_next(&self, side: Side, fault: Fault) {
        if side == Side::Receive {
            assert_eq!(
                fault,
                Fault::RejectCredentials,
                "the only fault played there"
            );
            // A refused token is renewed once.
            let logins = 1 + usize::from(self.oauth.is_some());
            self.imap.set(|options| options.logins_refused = logins);
            return;
        }
        self.smtp.fail_next(match fault {
            Fault::RateLimit { retry_after } => too_many(retry_after),
            Fault::ServerError => answer("DATA", "451 4.3.0 out of order"),
            Fault::DropAfterAccept => fake_smtp::Fault::HangUp("."),
            Fault::RejectCredentials => answer("AUTH", "535 5.7.8 bad credentials"),
            Fault::Refuse { reason } => answer("RCPT", &format!("550 5.1.1 {reason}")),
            Fault::Garbage => fake_smtp::Fault::Garbage,
            Fault::RefuseRecipient { address, reason } => {
                let answer = format!("550 5.1.1 {reason}");
                return self.smtp.answer_recipient(&address, &answer);
            }
        });
    }

    async fn reports(&self, sent: &Delivered, stage: DeliveryStage) -> String {
        let (id, mail) = self.report(sent, stage);
        self.imap.deliver(mail);
        id
    }
}

impl FakeMail {
    /// A mail that answers one of ours.
    pub fn answer(&self, sent: &Delivered, text: &str) -> (String, String) {
        let sent = &sent.provider_id;
        self.mail(
            &format!("In-Reply-To: <{sent}>\r\nReferences: <{sent}>\r\n"),
            text,
        )
    }

    /// A mail that reports how far one of ours got.
    pub fn report(&self, sent: &Delivered, stage: DeliveryStage) -> (String, String) {
        let original = &sent.provider_id;
        let (report_type, status_type, status) = match stage {
            DeliveryStage::Read => (
                "disposition-notification",
                "message/disposition-notification",
                format!(
                    "Final-Recipient: rfc822; customer@example.org\r\nOriginal-Message-ID: <{original}>\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n"
                ),
            ),
            _ => (
                "delivery-status",
                "message/delivery-status",
                format!(
                    "Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; customer@example.org\r\nAction: {}\r\nStatus: {}\r\n",
                    if stage == DeliveryStage::Failed {
                        "failed"
                    } else {
                        "delivered"
                    },
                    if stage == DeliveryStage::Failed {
                        "5.1.1"
                    } else {
                        "2.0.0"
                    },
                ),
            ),
        };
        let (id, mail) = self.mail("", "");
        let mail = mail.replace(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
            &format!(
                "Content-Type: multipart/report; report-type={report_type}; boundary=b\r\n\r\n--b\r\n\r\nA report.\r\n--b\r\nContent-Type: {status_type}\r\n\r\n{status}\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{original}>\r\nSubject: Re: A question\r\n\r\n--b--\r\n"
            ),
        );
        (id, mail)
    }
}

fn answer(at: &'static str, text: &str) -> fake_smtp::Fault {
    fake_smtp::Fault::Answer(at, text.to_owned())
}

fn too_many(retry_after: Duration) -> fake_smtp::Fault {
    let seconds = retry_after.as_secs();
    answer(
        "MAIL",
        &format!("450 4.7.1 too many mails, try again in {seconds} seconds"),
    )
}

fn delivered(taken: &Taken) -> Delivered {
    let mail = MessageParser::default().parse(&taken.raw).unwrap();
    let seen = [mail.to(), mail.cc()]
        .into_iter()
        .flatten()
        .flat_map(|list| list.iter())
        .filter_map(|one| one.address())
        .map(str::to_owned)
        .collect();
    let attachments = mail.attachments().map(|part| {
        let content_type = part.content_type().unwrap();
        DeliveredAttachment {
            name: part.attachment_name().unwrap_or_default().to_owned(),
            content_type: format!(
                "{}/{}",
                content_type.ctype(),
                content_type.subtype().unwrap_or_default()
            ),
            content_id: part.content_id().map(str::to_owned),
            bytes: part.contents().to_vec().into(),
        }
    });
    Delivered {
        provider_id: mail.message_id().unwrap().to_owned(),
        to: taken.to.clone(),
        thread: mail.in_reply_to().as_text().map(str::to_owned),
        text: mail.body_text(0).unwrap_or_default().into_owned(),
        html: mail
            .html_part(0)
            .filter(|part| part.is_text_html())
            .and_then(|part| part.text_contents())
            .map(str::to_owned),
        seen,
        attachments: attachments.collect(),
    }
}
