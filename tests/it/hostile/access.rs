//! Who may reach what: an id is no access, reading is no writing, and nothing is bound to what its
//! doer may not see. The operations are those of the OpenAPI document, so that a new one is tried, too.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use switchboard::ids::{ContactId, IdKind};

use crate::api::served::{Answer, Served};
use crate::support::{chat, mail, show_sorted};

/// One of each kind of thing that ids name.
struct Things {
    conversation: String,
    message: String,
    contact: String,
    attachment: String,
    /// A merge that could be undone.
    event: String,
    /// A macro.
    text: String,
    queue: String,
    /// It is its brand's, whatever queues the erased person wrote to.
    erasure: String,
}

/// A customer's matter in `frontline`, one in `backoffice`, and one of the other brand.
struct Shop {
    served: Served,
    seen: Things,
    others: [Things; 2],
}

async fn made(served: &Served, token: &str, path: &str, body: &Value) -> Value {
    served.post(token, path).json(body).send().await.body
}

impl Shop {
    async fn open() -> Self {
        let mut served = Served::new().await;
        served.can_send().await;
        let sue = served.supervisor().await;
        let said = |channel: &'static str, from: &str, text: &str| {
            let said = match channel.ends_with("mail") {
                true => mail(from, text),
                false => chat(from, text),
            };
            said.on(channel).attachment("a.txt", b"private")
        };
        let mut things = Vec::new();
        for (channel, queue, brand, from) in [
            ("shop-chat", "frontline", "main", "cust-7"),
            ("other-chat", "backoffice", "main", "cust-8"),
            ("outlet-mail", "outlet", "outlet", "ada@customer.example"),
        ] {
            // A second matter, merged into the first: an operation that could be undone.
            served.deliver([said(channel, from, "One.")]).await;
            served
                .deliver([said(channel, from, "Two.").forward()])
                .await;
            let number = served.desk.conversations().await.len();
            let (first, second) = (
                served.conversation(number - 1).await,
                served.conversation(number).await,
            );
            let path = format!("/v1/conversations/{second}/merge");
            let merged = made(&served, &sue, &path, &json!({ "into": first })).await;
            let path = format!("/v1/conversations/{first}/messages");
            let messages = served.get(&sue, &path).send().await.ok();
            let text =
                json!({ "name": queue, "text": "Hello.", "brands": [brand], "queues": [queue] });
            let text = made(&served, &sue, "/v1/macros", &text).await;
            let contact = served.desk.conversation(number - 1).await.contact;
            let gone = format!("gone-{number}@customer.example");
            served.deliver([said(channel, &gone, "Forget me.")]).await;
            let gone = served.desk.conversation(number).await.contact;
            let gone = served.ids().encode(IdKind::Contact, gone.0);
            let path = format!("/v1/contacts/{gone}/erase");
            let erasure = made(&served, &sue, &path, &json!({ "reason": "asked" })).await;
            let word = |value: &Value| value.as_str().unwrap().to_owned();
            things.push(Things {
                contact: served.ids().encode(IdKind::Contact, contact.0),
                message: word(&messages["items"][0]["id"]),
                attachment: word(&messages["items"][0]["attachments"][0]["id"]),
                event: word(&merged["event_id"]),
                text: word(&text["id"]),
                erasure: match brand {
                    "outlet" => word(&erasure["id"]),
                    _ => served.ids().encode(IdKind::Erasure, 987_654_321),
                },
                queue: queue.to_owned(),
                conversation: first,
            });
        }
        let [seen, queue, brand] = things.try_into().unwrap_or_else(|_| unreachable!());
        Self {
            served,
            seen,
            others: [queue, brand],
        }
    }

    /// Everything that anybody could change.
    async fn shows(&self) -> String {
        let contacts = [&self.seen, &self.others[0], &self.others[1]].map(|one| &one.contact);
        let mut text = show_sorted(self.served.desk.store().as_ref()).await;
        let sue = self.served.supervisor().await;
        for contact in contacts {
            let path = format!("/v1/contacts/{contact}");
            text += &self.served.get(&sue, &path).send().await.text;
        }
        text += &self.served.get(&sue, "/v1/macros").send().await.text;
        text
    }
}

impl Things {
    /// The id that an operation's path asks for.
    fn id(&self, path: &str) -> &str {
        match path.split('/').nth(2) {
            Some("conversations") => &self.conversation,
            Some("messages") => &self.message,
            Some("contacts") => &self.contact,
            Some("attachments") => &self.attachment,
            Some("events") => &self.event,
            Some("macros") => &self.text,
            Some("queues") => &self.queue,
            Some("erasures") => &self.erasure,
            _ => {
                panic!("what does {path} name? Say it here, so that strangers' ids are tried on it")
            }
        }
    }

    /// Well-formed ids of what is not there.
    fn absent(served: &Served) -> Self {
        let id = |kind| served.ids().encode(kind, 987_654_321);
        Self {
            conversation: id(IdKind::Conversation),
            message: id(IdKind::Message),
            contact: id(IdKind::Contact),
            attachment: id(IdKind::Attachment),
            event: id(IdKind::Event),
            text: id(IdKind::Macro),
            erasure: id(IdKind::Erasure),
            queue: "nowhere".to_owned(),
        }
    }
}

/// Every operation below `/v1`.
fn operations() -> Vec<(Method, String)> {
    let document = switchboard::api::openapi().to_json().unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse();
            if let (true, Ok(method)) = (path.starts_with("/v1/"), method) {
                operations.push((method, path.clone()));
            }
        }
    }
    assert!(operations.len() > 40, "{operations:?}");
    operations
}

/// A body with which the operation would work on what its caller may see.
fn body(method: &Method, path: &str, with: &Things) -> Option<Value> {
    let last = path.rsplit('/').next().unwrap_or_default();
    Some(match (method.as_str(), last) {
        ("GET" | "DELETE", _) => return None,
        (
            _,
            "release" | "resolve" | "reopen" | "wake" | "cancel" | "unmerge" | "undo" | "claim"
            | "link",
        ) => return None,
        ("PATCH", _) if path.contains("contacts") => json!({ "name": "Mallory" }),
        ("PATCH", _) => json!({ "tags": ["mine"] }),
        (_, "hold" | "erase") => json!({ "reason": "asked" }),
        ("PUT", "draft") => json!({ "text": "Hello" }),
        ("PUT", _) | ("POST", "macros") => json!({ "name": "Mine", "text": "Hello" }),
        (_, "merge") if path.contains("contacts") => json!({ "into": with.contact }),
        (_, "merge") => json!({ "into": with.conversation }),
        (_, "move") => json!({ "conversation": with.conversation }),
        (_, "split") => json!({ "messages": [with.message] }),
        (_, "messages" | "notes") => json!({ "text": "Hello" }),
        (_, "participants") => {
            json!({ "namespace": "email", "address": "eve@evil.example", "name": "Eve" })
        }
        (_, "remove") => json!({ "namespace": "email", "address": "ada@customer.example" }),
        (_, "snooze") => json!({ "until": "2026-02-01T00:00:00Z" }),
        (_, "transfer") => json!({ "queue": with.queue }),
        (_, "settle") => json!({ "as": "sent" }),
        (_, "apply" | "preview") => json!({ "conversation_id": with.conversation }),
        ("POST", "conversations") => {
            json!({ "channel": "support-mail", "to": ["eve@evil.example"], "text": "Hello" })
        }
        ("POST", "uploads") => json!({}),
        _ => panic!("what does {method} {path} take? Say it here, so that strangers try it"),
    })
}

async fn call(
    served: &Served,
    token: &str,
    method: &Method,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let call = served.call(method.clone(), token, path);
    let call = match body {
        Some(body) if path.ends_with("/messages") || path.ends_with("/conversations") => {
            call.json(body).key("k")
        }
        Some(body) => call.json(body),
        None => call,
    };
    call.send().await
}

/// Open WebUI: whoever knew the id of a chat could read and change it.
#[tokio::test]
async fn cve_2026_45349_whoever_has_an_id_and_may_not_see_the_thing_is_told_it_is_not_there() {
    let shop = Shop::open().await;
    let served = &shop.served;
    let before = shop.shows().await;
    let absent = Things::absent(served);
    let mut tried = 0;
    for role in ["agent", "supervisor", "reader"] {
        let token = served
            .token(role, "mallory", &["frontline"], &["main"])
            .await;
        for (method, path) in operations() {
            if !path.contains("{id}") {
                continue;
            }
            let body = body(&method, &path, &shop.seen);
            let ask = async |of: &Things| {
                let path = path.replace("{id}", of.id(&path));
                let answer = call(served, &token, &method, &path, body.as_ref()).await;
                let text = answer.text.replace(of.id(&path), "ID");
                (answer.status.as_u16(), text)
            };
            let of_nobody = ask(&absent).await;
            for others in &shop.others {
                let of_others = ask(others).await;
                let what = format!("{role} {method} {path}");
                assert_eq!(
                    of_others, of_nobody,
                    "{what}: what is hidden is not as if absent"
                );
                assert!(matches!(of_others.0, 403 | 404), "{what}: {of_others:?}");
                tried += usize::from(of_others.0 == 404);
            }
        }
    }
    assert!(
        tried > 100,
        "{tried} were refused for what they named, not for the role"
    );
    assert_eq!(shop.shows().await, before);
}

/// Open WebUI: the right to read was taken for the right to write.
#[tokio::test]
async fn cve_2026_44569_whoever_may_only_read_changes_nothing() {
    let shop = Shop::open().await;
    let served = &shop.served;
    let before = shop.shows().await;
    let reader = served.token("reader", "", &[], &[]).await;
    for (method, path) in operations() {
        // A stream without an end.
        if path == "/v1/events" {
            continue;
        }
        let body = body(&method, &path, &shop.seen);
        let here = path.replace(
            "{id}",
            if path.contains("{id}") {
                shop.seen.id(&path)
            } else {
                ""
            },
        );
        let answer = call(served, &reader, &method, &here, body.as_ref()).await;
        let is_reading =
            method == Method::GET || path.ends_with("/link") || path.ends_with("/preview");
        if !is_reading {
            answer.problem(403, "forbidden");
        } else if method == Method::GET && !path.ends_with("/draft") {
            assert_ne!(
                answer.body["type"], "/docs#problem-not-found",
                "{path}: it may read"
            );
        }
    }
    assert_eq!(shop.shows().await, before);
}

/// Zammad: who linked two tickets was asked for a right to one of them.
#[tokio::test]
async fn cve_2026_34722_both_ends_of_a_merge_split_or_move_are_authorised() {
    let shop = Shop::open().await;
    let served = &shop.served;
    let before = shop.shows().await;
    let absent = Things::absent(served);
    let seen = &shop.seen;
    let mut refused = BTreeSet::new();
    for role in ["agent", "supervisor"] {
        let token = served
            .token(role, "mallory", &["frontline"], &["main"])
            .await;
        for other in &shop.others {
            let links = |other: &Things| {
                let (here, there) = (&seen.conversation, &other.conversation);
                [
                    (
                        format!("/v1/conversations/{here}/merge"),
                        json!({ "into": there }),
                    ),
                    (
                        format!("/v1/conversations/{there}/merge"),
                        json!({ "into": here }),
                    ),
                    (
                        format!("/v1/conversations/{here}/split"),
                        json!({ "messages": [other.message] }),
                    ),
                    (
                        format!("/v1/messages/{}/move", seen.message),
                        json!({ "conversation": there }),
                    ),
                    (
                        format!("/v1/messages/{}/move", other.message),
                        json!({ "conversation": here }),
                    ),
                    (
                        format!("/v1/contacts/{}/merge", seen.contact),
                        json!({ "into": other.contact }),
                    ),
                    (
                        format!("/v1/contacts/{}/merge", other.contact),
                        json!({ "into": seen.contact }),
                    ),
                    (
                        format!("/v1/macros/{}/apply", other.text),
                        json!({ "conversation_id": here }),
                    ),
                    (
                        format!("/v1/macros/{}/apply", seen.text),
                        json!({ "conversation_id": there }),
                    ),
                ]
            };
            for ((path, body), (none, of_none)) in links(other).into_iter().zip(links(&absent)) {
                let answer = served.post(&token, &path).key("k").json(&body).send().await;
                let nothing = served
                    .post(&token, &none)
                    .key("k2")
                    .json(&of_none)
                    .send()
                    .await;
                let what = format!("{role} {path} {body}");
                assert!(
                    matches!(answer.status.as_u16(), 403 | 404 | 409 | 422),
                    "{what}: {}",
                    answer.text
                );
                assert_eq!(answer.status, nothing.status, "{what}: {}", answer.text);
                assert_eq!(answer.body["detail"], nothing.body["detail"], "{what}");
                refused.insert(answer.status.as_u16());
            }
        }
    }
    assert!(refused.contains(&404), "{refused:?}");
    // Seen, but nobody's own: an agent links only what is hers.
    let agent = served.token("agent", "mallory", &[], &[]).await;
    let split = format!("/v1/conversations/{}/split", seen.conversation);
    let messages = json!({ "messages": [seen.message] });
    let answer = served.post(&agent, &split).json(&messages).send().await;
    answer.problem(403, "not-assignee");
    assert_eq!(shop.shows().await, before);
}

/// FreeScout: an agent of one mailbox could bind its conversations to the customers of another.
#[tokio::test]
async fn cve_2026_40591_nobody_is_bound_to_a_customer_that_the_doer_may_not_see_or_of_another_brand()
 {
    let shop = Shop::open().await;
    let served = &shop.served;
    let before = shop.shows().await;
    let start = |contact: &str| json!({ "channel": "support-mail", "contact_id": contact, "to": ["eve@evil.example"], "text": "Hello" });
    let none = served
        .ids()
        .encode(IdKind::Contact, ContactId(987_654_321).0);
    let narrow = served
        .token("agent", "mallory", &["frontline"], &["main"])
        .await;
    let wide = served.supervisor().await;
    // By who may not see the customer; and, of another brand, by who sees everything.
    let [queue, brand] = &shop.others;
    for (token, contact) in [
        (&narrow, &queue.contact),
        (&narrow, &brand.contact),
        (&wide, &brand.contact),
    ] {
        let ask = async |contact: &str, key: &str| {
            let call = served.post(token, "/v1/conversations").key(key);
            let answer = call.json(&start(contact)).send().await;
            answer.problem(422, "unprocessable")["detail"].clone()
        };
        assert_eq!(ask(contact, "k-1").await, ask(&none, "k-2").await);
    }
    // What belongs to two brands is never one, whoever asks.
    for (path, body, problem) in [
        (
            format!("/v1/conversations/{}/merge", brand.conversation),
            json!({ "into": shop.seen.conversation }),
            "not-found",
        ),
        (
            format!("/v1/messages/{}/move", brand.message),
            json!({ "conversation": shop.seen.conversation }),
            "not-found",
        ),
        (
            format!("/v1/contacts/{}/merge", brand.contact),
            json!({ "into": shop.seen.contact }),
            "not-found",
        ),
    ] {
        let answer = served.post(&wide, &path).json(&body).send().await;
        assert_eq!(
            answer.body["type"],
            format!("/docs#problem-{problem}"),
            "{path}: {}",
            answer.text
        );
    }
    assert_eq!(shop.shows().await, before);
}

/// Flowise: rows of other workspaces came through `… OR apikey IS NULL`.
#[tokio::test]
async fn ghsa_c2c9_mfw7_p8hw_what_is_nobodys_is_not_everybodys() {
    let mut shop = Shop::open().await;
    let served = &shop.served;
    // Two backends whose tokens name no agent: what one left there is not the other's.
    let [one, other] = [
        served.token("supervisor", "", &[], &[]).await,
        served.token("supervisor", "", &[], &[]).await,
    ];
    let upload = served.post(&one, "/v1/uploads?name=a.txt").body(b"secret");
    let upload = upload.send().await.is(201)["id"].clone();
    let asked = mail("eve@customer.example", "Can I have the papers?");
    shop.served.deliver([asked]).await;
    let served = &shop.served;
    let number = served.desk.conversations().await.len();
    let path = format!(
        "/v1/conversations/{}/messages",
        served.conversation(number).await
    );
    let with_file = json!({ "text": "See.", "attachments": [upload] });
    let send =
        |token: &str, key: &str, body: &Value| served.post(token, &path).key(key).json(body).send();
    let stolen = send(&other, "k-1", &with_file)
        .await
        .problem(422, "unprocessable");
    assert_eq!(stolen["field"], "attachments");
    send(&one, "k-1", &with_file).await.is(202);
    // Keys of requests are each token's own: the same one names another answer.
    let mine = send(&one, "k-2", &json!({ "text": "One." })).await.is(202);
    let theirs = send(&other, "k-2", &json!({ "text": "Two." }))
        .await
        .is(202);
    assert_ne!(mine["id"], theirs["id"]);
    // Without an agent there is nobody whose draft it could be.
    let draft = format!("/v1/conversations/{}/draft", shop.seen.conversation);
    let saved = served
        .call(Method::PUT, &one, &draft)
        .json(&json!({ "text": "secret" }));
    let saved = saved.send().await;
    let read = served.get(&other, &draft).send().await;
    assert!(
        !read.text.contains("secret"),
        "{} then {}",
        saved.status,
        read.text
    );
    // A token for what is not there any more, or for nothing of a brand, sees nothing, not all.
    for (queues, brands) in [
        (&["gone"][..], &[][..]),
        (&[], &["gone"]),
        (&["outlet"], &["main"]),
    ] {
        let token = served.token("reader", "", queues, brands).await;
        for (path, things) in [
            ("/v1/conversations", "items"),
            ("/v1/search?q=private", "items"),
        ] {
            let listed = served.get(&token, path).send().await.ok();
            assert_eq!(
                listed[things],
                json!([]),
                "{path} for {queues:?} of {brands:?}"
            );
        }
    }
}
