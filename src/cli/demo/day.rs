//! The sample day: what arrives, in order.

use serde_json::{Value, json};

/// One delivery, with what it is for the reader.
pub struct Item {
    pub story: &'static str,
    pub what: What,
}

pub enum What {
    /// A mail as it lies in the mailbox.
    Mail(String),
    /// The body of a signed webhook.
    Webhook(Value),
    /// Bytes on the bus that no Switchboard wrote.
    Foreign(Vec<u8>),
}

/// Everything that happens.
pub fn items() -> Vec<Item> {
    let order = mail(
        &[
            "Ada Brandt <ada@customer.example>",
            "Where is my order 10442?",
            "order-10442",
        ],
        "dmarc=pass header.from=customer.example",
        "",
        "Hello,\n\nI ordered two lamps on Monday (order 10442) and nothing has arrived yet.\nWhen will the parcel be delivered?\n\nAda Brandt\n",
    );
    let return_request = mail(
        &[
            "Jonas Keller <jonas@kunde.example>",
            "Rücksendung der Jacke",
            "jacke-1",
        ],
        "dmarc=pass header.from=kunde.example",
        "",
        "Guten Tag,\n\ndie Jacke ist leider zu klein. Ich möchte sie gerne zurücksenden und hätte gern mein Geld zurück.\nWie bekomme ich ein Etikett für die Rücksendung?\n\nViele Grüße\nJonas Keller\n",
    );
    let stranger = mail(
        &[
            "Ada Brandt <ada@customer.example>",
            "Re: Where is my order 10442?",
            "forged-1",
        ],
        "dmarc=fail header.from=customer.example",
        "In-Reply-To: <order-10442@customer.example>\n",
        "Please send it to another address instead: Harbour Street 9.\n",
    );
    let vacation = mail(
        &[
            "Mia Holm <mia@partner.example>",
            "Out of office: your order list",
            "ooo-1",
        ],
        "dmarc=pass header.from=partner.example",
        "Auto-Submitted: auto-replied\n",
        "I am away until Monday and will answer then.\n",
    );
    vec![
        Item {
            story: "Ada asks by mail where her order is (her mail server proves it is her)",
            what: What::Mail(order.clone()),
        },
        Item {
            story: "the mail server shows the same mail again",
            what: What::Mail(order),
        },
        Item {
            story: "Ada, logged in at the shop, asks in the chat as well; the shop vouches for her address",
            what: What::Webhook(chat(
                "m-1",
                "t-1",
                "cust-7",
                "Ada",
                "ada@customer.example",
                "Hi, any news about order 10442? I mailed you this morning.",
            )),
        },
        Item {
            story: "the shop's server repeats that webhook, as its queue does after a timeout",
            what: What::Webhook(chat(
                "m-1",
                "t-1",
                "cust-7",
                "Ada",
                "ada@customer.example",
                "Hi, any news about order 10442? I mailed you this morning.",
            )),
        },
        Item {
            story: "Jonas wants to send a jacket back, in German",
            what: What::Mail(return_request),
        },
        Item {
            story: "somebody pretends to be Ada and answers \"her\" mail",
            what: What::Mail(stranger),
        },
        Item {
            story: "Lena asks in the chat about a discount code",
            what: What::Webhook(chat(
                "m-2",
                "t-2",
                "cust-9",
                "Lena",
                "lena@customer.example",
                "My discount code SUMMER does not work at checkout, can you help?",
            )),
        },
        Item {
            story: "Lena corrects her message",
            what: What::Webhook(json!({ "type": "edit", "id": "e-1", "target": "m-2",
                "text": "My discount code SUMMER25 does not work at checkout, can you help?", "sent_at": "2026-01-05T09:12:00Z" })),
        },
        Item {
            story: "a supplier's vacation notice",
            what: What::Mail(vacation),
        },
        Item {
            story: "a bounce of a newsletter that somebody sent from this mailbox",
            what: What::Mail(bounce()),
        },
        Item {
            story: "a poisoned record: another program wrote to the bus",
            what: What::Foreign(b"\x00\x01 not an envelope".to_vec()),
        },
        Item {
            story: "Tom writes right after it, and is not held up",
            what: What::Webhook(chat(
                "m-3",
                "t-3",
                "cust-12",
                "Tom",
                "tom@customer.example",
                "The tracking page says delivered, but I have no parcel.",
            )),
        },
    ]
}

/// `who`: From, Subject and the local part of the Message-ID.
fn mail(who: &[&str; 3], result: &str, headers: &str, text: &str) -> String {
    let [from, subject, id] = who;
    let domain = from
        .split('@')
        .nth(1)
        .unwrap_or("customer.example")
        .trim_end_matches('>');
    let encoded = encode_subject(subject);
    format!(
        "Authentication-Results: {}; {result}\nReceived: from mail.{domain} by mx.shop.example; Mon, 5 Jan 2026 09:00:00 +0000\n\
         From: {from}\nTo: {}\nSubject: {encoded}\nMessage-ID: <{id}@{domain}>\nDate: Mon, 5 Jan 2026 09:00:00 +0000\n\
         {headers}MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{text}",
        super::mail::AUTHSERV_ID,
        super::mail::ADDRESS,
    )
}

/// RFC 2047, where the subject is not plain ASCII.
fn encode_subject(subject: &str) -> String {
    use base64::Engine as _;
    match subject.is_ascii() {
        true => subject.to_owned(),
        false => format!(
            "=?utf-8?B?{}?=",
            base64::engine::general_purpose::STANDARD.encode(subject)
        ),
    }
}

fn chat(id: &str, thread: &str, customer: &str, name: &str, email: &str, text: &str) -> Value {
    json!({ "type": "message", "id": id, "thread": thread,
            "from": { "id": customer, "name": name, "email": email }, "text": text, "sent_at": "2026-01-05T09:10:00Z" })
}

/// A delivery status notification in the form of RFC 3464.
fn bounce() -> String {
    "Return-Path: <>\nFrom: Mail Delivery System <MAILER-DAEMON@mx.shop.example>\nTo: support@shop.example\n\
     Subject: Undelivered Mail Returned to Sender\nMessage-ID: <bounce-1@mx.shop.example>\n\
     Date: Mon, 5 Jan 2026 09:20:00 +0000\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n\
     Content-Type: multipart/report; report-type=delivery-status; boundary=\"b1\"\n\n\
     --b1\nContent-Type: text/plain; charset=us-ascii\n\nThe mail could not be delivered to gone@customer.example.\n\n\
     --b1\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.shop.example\n\n\
     Final-Recipient: rfc822; gone@customer.example\nAction: failed\nStatus: 5.1.1\n\
     Diagnostic-Code: smtp; 550 5.1.1 no such user\n\n\
     --b1\nContent-Type: text/rfc822-headers\n\nFrom: support@shop.example\nTo: gone@customer.example\n\
     Subject: Our news\nMessage-ID: <newsletter-5@shop.example>\n\n--b1--\n"
        .to_owned()
}
