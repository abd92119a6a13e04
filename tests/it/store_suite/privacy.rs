//! What is kept of one person: held by law, handed out, erased.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use switchboard::api::export::{Exporter, Place, schema};
use switchboard::dispatch::Refusal;
use switchboard::dispatch::privacy::{Refused, operator};
use switchboard::dispatch::surgery::Refused as NotDone;
use switchboard::ids::{ContactId, IdCodec};
use switchboard::router::Verdict;
use switchboard::store::privacy::{Asking, Copies, Holding, Overwritten, Stage};
use switchboard::store::retention::Periods;
use switchboard::store::surgery::Order;
use switchboard::store::{Result, Settlement, StoreError, StoredContact};

use crate::support::{Backend, Desk, KEEP, agent, chat, edit, mail, supervisor};

const DAY: Duration = Duration::from_secs(24 * 3600);
const RESOLVED: Duration = Duration::from_secs(730 * 24 * 3600);

async fn hold(desk: &Desk, contact: ContactId, reason: Option<&str>) -> Result<StoredContact> {
    let holding = Holding {
        contact,
        actor: supervisor(),
        who: "ada".to_owned(),
        reason: reason.map(str::to_owned),
        at: desk.now(),
    };
    desk.store().hold_contact(holding).await
}

/// Everything that is due.
async fn forget(desk: &Desk) {
    let periods = Periods {
        resolved: RESOLVED,
        dead_letters: 90 * DAY,
        drafts: 90 * DAY,
        audit: 365 * DAY,
    };
    let store = desk.store();
    while store.sweep(KEEP, desk.now()).await.unwrap() {}
    while store.forget(periods, 50, desk.now()).await.unwrap().more {}
}

async fn rows(desk: &Desk, kind: &str) -> i64 {
    let rows = desk.backend().rows().await;
    let found = rows.into_iter().find(|(known, _)| known == kind);
    found.map_or(0, |(_, count)| count)
}

fn captured(address: &str, text: &str) -> crate::support::Said {
    let mut said = mail(address, text);
    said.event.raw = Some(Bytes::from(format!("From: {address}\r\n\r\n{text}")));
    said
}

pub async fn nothing_of_a_held_contact_goes_until_the_hold_is_lifted(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        captured("held@customer.example", "I shall sue you."),
        captured("free@customer.example", "Thank you."),
        // Somebody who is held wrote in this one, too.
        mail("shared@customer.example", "We are two.")
            .message_id("1.shared@customer.example")
            .cc("held@customer.example"),
    ])
    .await;
    let answer = captured("held@customer.example", "So we are.");
    desk.deliver([answer.refers_to("1.shared@customer.example")])
        .await;
    for number in 1..=3 {
        desk.resolve(number).await;
    }
    let contact = desk.conversation(1).await.contact;
    let held = hold(&desk, contact, Some("Claim 17/26")).await.unwrap();
    assert_eq!(
        held.hold.as_ref().map(|hold| hold.who.as_str()),
        Some("ada")
    );
    // A second one changes nothing, and so who put it on is known.
    let again = hold(&desk, contact, Some("Another")).await.unwrap();
    assert_eq!((again.version, again.hold), (held.version, held.hold));
    let shared = desk.conversation(3).await.last_seq;
    assert_eq!(shared, 2, "the held one took part");
    desk.later(RESOLVED + DAY);
    forget(&desk).await;
    desk.crash().await;
    let left = desk.conversations().await;
    assert_eq!(left.len(), 2, "{}", desk.shows().await);
    assert_eq!(
        rows(&desk, "raw").await,
        2,
        "what was captured of a held one"
    );
    hold(&desk, contact, None).await.unwrap();
    forget(&desk).await;
    assert_eq!(desk.conversations().await.len(), 0);
    assert_eq!(rows(&desk, "raw").await + rows(&desk, "hold").await, 0);
}

pub async fn a_hold_is_on_both_after_a_merge_and_after_its_undo(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("one@customer.example", "One."), chat("cust-2", "Two.")])
        .await;
    let [one, two] = [
        desk.conversation(1).await.contact,
        desk.conversation(2).await.contact,
    ];
    hold(&desk, one, Some("Claim 17/26")).await.unwrap();
    let order = || Order {
        actor: supervisor(),
        version: None,
        other_version: None,
        idempotency: None,
        at: desk.now(),
    };
    desk.store()
        .merge_contacts(one, two, order())
        .await
        .unwrap();
    let gone = hold(&desk, one, None).await.unwrap_err();
    let gone_into = StoreError::Refused(Refusal::Surgery(NotDone::ContactGone { into: two }));
    assert_eq!(gone, gone_into);
    let stands = desk.store().contact(supervisor(), two).await.unwrap();
    assert!(stands.unwrap().hold.is_some(), "what was held stays held");
    desk.store().unmerge_contact(one, order()).await.unwrap();
    for contact in [one, two] {
        let found = desk.store().contact(supervisor(), contact).await.unwrap();
        assert!(
            found.unwrap().hold.is_some(),
            "words of either are with both"
        );
    }
}

pub async fn only_a_supervisor_of_all_queues_answers_for_a_whole_person(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("kim@customer.example", "Hello.")]).await;
    let contact = desk.conversation(1).await.contact;
    let asked = |actor| desk.store().whole_contact(actor, contact);
    assert!(asked(supervisor()).await.is_ok());
    let role = asked(agent("ada")).await.unwrap_err();
    assert!(
        matches!(role, StoreError::Refused(Refusal::Role { .. })),
        "{role}"
    );
    let mut of_one = supervisor();
    of_one.queues = vec!["frontline".parse().unwrap()];
    let some = asked(of_one).await.unwrap_err();
    let refused = StoreError::Refused(Refusal::Privacy(Refused::SomeQueues));
    assert_eq!(some, refused);
    let mut elsewhere = supervisor();
    elsewhere.brands = vec!["outlet".parse().unwrap()];
    let hidden = asked(elsewhere).await.unwrap_err();
    assert_eq!(
        hidden,
        StoreError::Refused(Refusal::NotFound { what: "contact" })
    );
}

async fn export(desk: &Desk, contact: ContactId) -> (String, usize) {
    let exporter = Exporter {
        store: desk.store().clone(),
        ids: IdCodec::new(b"test"),
        actor: operator(),
        contact,
        now: desk.now(),
    };
    let (mut text, mut files, mut place) = (String::new(), 0, Some(Place::start()));
    while let Some(at) = place {
        let piece = exporter.piece(at).await.unwrap();
        text.push_str(&piece.text);
        files += piece.files.len();
        place = piece.next;
    }
    (text, files)
}

/// Words of a text that were put there to be looked for.
fn canaries(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| word.starts_with("canary"))
        .map(str::to_owned)
        .collect()
}

/// What was said with each person, by the word that begins what is looked for in it.
#[derive(Default)]
struct Manifest(std::collections::BTreeMap<String, BTreeSet<String>>);

impl Manifest {
    /// Notes a word that the export of `who` has to have.
    fn put(&mut self, who: &str, what: &str) -> String {
        let word = format!("canary{who}x{what}");
        self.also(who, &word);
        word
    }

    fn also(&mut self, who: &str, word: &str) {
        self.0
            .entry(who.to_owned())
            .or_default()
            .insert(word.to_owned());
    }
}

pub async fn an_export_is_what_was_stored_of_the_person_and_nothing_of_another(
    backend: Arc<dyn Backend>,
) {
    const PEOPLE: usize = 20;
    /// More messages than a piece has.
    const LONG: usize = 45;
    let mut desk = Desk::on(backend).await;
    let mut stored = Manifest::default();
    let address = |at: usize| format!("p{at}@customer.example");
    for at in 0..PEOPLE {
        let who = format!("m{at}");
        for more in 0..if at == 3 { LONG } else { 1 } {
            let first = mail(&address(at), &stored.put(&who, &format!("mail{more}")))
                .key(&format!("k-{at}-{more}"))
                .message_id(&format!("{at}.{more}.m@customer.example"))
                .subject(&stored.put(&who, "subject"))
                .attachment("photo.jpg", b"some bytes");
            desk.deliver([first]).await;
        }
        let chat_of = format!("c{at}");
        let said = stored.put(&chat_of, "chat");
        desk.deliver([chat(&format!("cust-{at}"), &said)]).await;
    }
    let mut people = Vec::new();
    for number in 1..=desk.conversations().await.len() {
        let conversation = desk.conversation(number).await;
        let said = format!("{:?}", desk.messages(number).await[0].content);
        let word = canaries(&said).pop_first().expect("a word to look for");
        let who = word.strip_prefix("canary").unwrap();
        let who = who.split('x').next().unwrap().to_owned();
        desk.reply(number, &stored.put(&who, "answer")).await;
        let note = stored.put(&who, "note");
        let note = desk.reply_to(conversation.id, supervisor(), &note);
        desk.store().note(note).await.unwrap();
        people.push((who, conversation.contact));
    }
    // Everybody writes in the conversation of the one before: to all, and to the shop alone.
    for at in 0..PEOPLE {
        let (who, other) = (format!("m{at}"), (at + PEOPLE - 1) % PEOPLE);
        let root = format!("{other}.0.m@customer.example");
        let to_all = stored.put(&who, "toall");
        stored.also(&format!("m{other}"), &to_all);
        let invited = mail(
            &address(other),
            &stored.put(&format!("m{other}"), "invites"),
        )
        .cc(&address(at))
        .refers_to(&root);
        // Who was sent it has it in a conversation of another, which is not theirs to be handed out.
        desk.deliver([
            invited,
            mail(&address(at), &to_all)
                .cc(&address(other))
                .refers_to(&root),
            mail(&address(at), &stored.put(&who, "tous")).refers_to(&root),
        ])
        .await;
    }
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (who, contact) in &people {
        let (text, files) = export(&desk, *contact).await;
        let document: Value = serde_json::from_str(&text).expect("the pieces are one document");
        let faults = validator.iter_errors(&document);
        let faults: Vec<String> = faults.map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{who}: {faults:?}");
        assert_eq!(canaries(&text), stored.0[who], "{who}");
        let of_mail = usize::from(who.starts_with('m'));
        let named = if who == "m3" { LONG } else { of_mail };
        assert_eq!(
            (files, &document["counts"]["files"]),
            (named, &named.into()),
            "{who}"
        );
        assert_eq!(document["counts"]["took_part"], of_mail, "{who}");
        assert_eq!(
            document["counts"]["withheld"], of_mail,
            "{who}: said to the shop alone"
        );
    }
}

pub fn asking(desk: &Desk, contact: ContactId) -> Asking {
    Asking {
        contact,
        actor: supervisor(),
        who: "sue".to_owned(),
        reason: "request 17/26".to_owned(),
        at: desk.now(),
    }
}

/// One step of an erasure, as the daemon takes it; `false` while it waits, or once it is done.
pub async fn step(desk: &Desk, id: i64) -> bool {
    let store = desk.store();
    let erasure = store.erasure(id).await.unwrap().unwrap();
    let stage = erasure.stage;
    match stage {
        Stage::Done => return false,
        Stage::Words => {
            if !store.erase_words(id, desk.now()).await.unwrap() {
                store.advance_erasure(id, stage).await.unwrap();
            }
        }
        Stage::Files => {
            let files = store.erasing_files(id, 10).await.unwrap();
            match files.is_empty() {
                true => store.advance_erasure(id, stage).await.unwrap(),
                false => store.forget_erasing_files(id, files, 0).await.unwrap(),
            }
        }
        Stage::Overwriting => {
            let done = store.overwrite(id).await.unwrap();
            assert!(matches!(done, Overwritten::Done { .. }), "{done:?}");
            let copies = Copies::default();
            store.finish_erasure(id, copies, desk.now()).await.unwrap();
        }
        _ => {
            let done = store.erase_step(id, 2, desk.now()).await.unwrap();
            return done.waits.is_none();
        }
    }
    true
}

/// Rows that tell of somebody.
async fn tells(desk: &Desk) -> Vec<(String, i64)> {
    let mut rows = desk.backend().rows().await;
    // Digests tell nothing.
    let known = ["event", "log", "acknowledged"];
    rows.retain(|(kind, count)| *count > 0 && !known.iter().any(|one| kind.starts_with(one)));
    rows
}

/// A conversation with all that one can have.
async fn deal_with(desk: &mut Desk, address: &str) {
    let number = desk.conversations().await.len() + 1;
    let asked = captured(address, "Where is my order?")
        .key(&format!("asked-{address}"))
        .message_id(&format!("1.{address}"))
        .attachment("photo.jpg", b"not really a photo")
        .file_at("film.mp4", "https://files.example/film.mp4");
    let edited = edit(&format!("asked-{address}"), "Where is my order 7?").on("support-mail");
    desk.deliver([asked, edited]).await;
    desk.answer(number, "It leaves today.", &format!("sent-{address}"))
        .await;
    let (store, id) = (desk.store(), desk.conversation(number).await.id);
    let begun = Map::from_iter([("text".to_owned(), json!("What I wanted to add"))]);
    let draft = store.save_draft(agent("ada"), id, begun, None, desk.now());
    draft.await.unwrap();
    desk.reply(number, "One that has not left.").await;
}

pub async fn an_erasure_leaves_nothing_of_a_contact_though_it_crashes_at_every_step(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    deal_with(&mut desk, "kim@customer.example").await;
    let contact = desk.conversation(1).await.contact;
    let asked = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap();
    let again = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap();
    assert_eq!(asked.id, again.id, "it is one erasure");
    while step(&desk, asked.id).await {
        desk.crash().await;
    }
    let done = desk.store().erasure(asked.id).await.unwrap().unwrap();
    assert_eq!(done.stage, Stage::Done, "{done:?}");
    assert_eq!(tells(&desk).await, []);
    let count = |kind: &str| done.report.removed.get(kind).copied().unwrap_or(0);
    let counted = [
        "contacts",
        "identities",
        "conversations",
        "messages",
        "drafts",
        "unsent_replies",
    ]
    .map(count);
    assert_eq!(counted, [1, 1, 1, 3, 1, 1], "{:?}", done.report);
    let last = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap();
    assert_eq!(last, done, "asked again, it is what was done");
}

pub async fn what_comes_again_of_an_erased_one_brings_nothing_back_and_what_is_new_is_somebody_new(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let first = || {
        mail("kim@customer.example", "Where is it?")
            .key("k-1")
            .message_id("1.kim@customer.example")
    };
    desk.deliver([first(), mail("lee@customer.example", "Hello.")])
        .await;
    let contact = desk.conversation(1).await.contact;
    let asked = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap();
    while step(&desk, asked.id).await {}
    let verdicts = desk.deliver([first()]).await;
    assert_eq!(verdicts, [Verdict::Duplicate]);
    assert_eq!(desk.conversations().await.len(), 1);
    assert_eq!(rows(&desk, "body").await, 1, "its copy is gone, too");
    desk.deliver([mail("kim@customer.example", "It is me.").refers_to("1.kim@customer.example")])
        .await;
    let all = desk.conversations().await;
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| one.contact != contact));
}

pub async fn what_an_erased_one_wrote_to_others_loses_its_words_and_theirs_stay(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("lee@customer.example", "We both ask.")
            .message_id("1.lee@customer.example")
            .cc("kim@customer.example"),
        mail("kim@customer.example", "So do I, says Kim.").refers_to("1.lee@customer.example"),
        mail("lee@customer.example", "And I again.").refers_to("1.lee@customer.example"),
    ])
    .await;
    let mut all = desk.reply_to(
        desk.conversation(1).await.id,
        supervisor(),
        "You both have it.",
    );
    all.written.reply_all = true;
    desk.store().reply(all).await.unwrap();
    desk.deliver([mail("kim@customer.example", "A matter of my own.")
        .subject("Mine")
        .forward()])
        .await;
    let own = desk.conversation(2).await.contact;
    let asked = desk.store().ask_erasure(asking(&desk, own)).await.unwrap();
    while step(&desk, asked.id).await {}
    let left = desk.conversations().await;
    assert_eq!(left.len(), 1);
    let people: Vec<&str> = left[0]
        .everybody()
        .map(|one| one.address.as_str())
        .collect();
    assert_eq!(people, ["lee@customer.example"]);
    let said = desk.messages(1).await;
    let words = format!("{said:?}");
    assert!(
        words.contains("We both ask.")
            && words.contains("And I again.")
            && words.contains("You both have it.")
    );
    assert!(!words.contains("says Kim"), "{words}");
    let sent = said
        .iter()
        .find(|one| format!("{:?}", one.content).contains("You both"))
        .unwrap();
    assert!(!format!("{:?}", sent.content).contains("kim@"), "{sent:?}");
    assert_eq!(said.len(), 4, "its place stays");
}

pub async fn an_erasure_waits_for_what_is_being_sent_and_a_hold_keeps_it_off(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("kim@customer.example", "Where is it?")])
        .await;
    desk.reply(1, "It leaves today.").await;
    let leased = desk.lease("support-mail").await;
    let contact = desk.conversation(1).await.contact;
    hold(&desk, contact, Some("Claim 17/26")).await.unwrap();
    let refused = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap_err();
    let refused_for = matches!(
        refused,
        StoreError::Refused(Refusal::Privacy(Refused::OnHold { .. }))
    );
    assert!(refused_for, "{refused}");
    hold(&desk, contact, None).await.unwrap();
    let asked = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap();
    assert!(!step(&desk, asked.id).await);
    let waits = desk
        .store()
        .erasure(asked.id)
        .await
        .unwrap()
        .unwrap()
        .report
        .waits;
    assert_eq!(waits.as_deref(), Some("1 replies are being sent"));
    assert_eq!(desk.conversations().await.len(), 1);
    let sent = Settlement::Sent {
        provider_ids: Vec::new(),
        namespace: None,
        refused: Vec::new(),
    };
    desk.settle(&leased[0], sent).await;
    // One that is put on while it is under way keeps what is left.
    hold(&desk, contact, Some("Claim 18/26")).await.unwrap();
    assert!(!step(&desk, asked.id).await);
    let waits = desk
        .store()
        .erasure(asked.id)
        .await
        .unwrap()
        .unwrap()
        .report
        .waits;
    assert!(waits.unwrap().contains("Claim 18/26"));
    hold(&desk, contact, None).await.unwrap();
    while step(&desk, asked.id).await {}
    assert_eq!(tells(&desk).await, []);
}
