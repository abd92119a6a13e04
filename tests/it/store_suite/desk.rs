//! What a desk does with a conversation: answers with everything a reply can say, conversations
//! begun by us, and the verbs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Capabilities, Namespace, Recipient, RefusedRecipient};
use expect_test::{Expect, expect};
use serde_json::json;
use switchboard::conversation::{Delivery, Priority, Status};
use switchboard::dispatch::verbs::{Edit, Target, Verb};
use switchboard::dispatch::{Actor, Refusal, Role as TokenRole};
use switchboard::router::facts::{Conversation, Role};
use switchboard::store::{
    Doing, NewConversation, NewReply, Settlement, StoreError, StoredMessage, Written,
};

use crate::support::{Backend, Desk, agent, agent_of, chat, holder, mail, senders, supervisor};

const MINUTE: i64 = 60_000_000;

/// A desk that can send by mail and chat, and write first.
pub(super) async fn desk(backend: Arc<dyn Backend>) -> Desk {
    let desk = Desk::on(backend).await;
    let mail = Capabilities {
        send: true,
        html: true,
        subject: true,
        recipients_max: 20,
        starts: true,
        ..Capabilities::default()
    };
    let chat = Capabilities {
        send: true,
        starts: true,
        ..Capabilities::default()
    };
    let other = Capabilities {
        send: true,
        ..Capabilities::default()
    };
    let senders = senders([
        ("support-mail", mail.clone()),
        ("outlet-mail", mail),
        ("shop-chat", chat),
        ("other-chat", other),
    ]);
    desk.store().set_senders(senders, desk.now()).await.unwrap();
    desk
}

pub(super) async fn write(
    desk: &Desk,
    number: usize,
    actor: Actor,
    written: Written,
) -> Result<StoredMessage, StoreError> {
    let reply = NewReply {
        written,
        ..desk.reply_to(desk.conversation(number).await.id, actor, "")
    };
    desk.store().reply(reply).await.map(|(message, _)| message)
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Refused(refusal)) => refusal.to_string(),
        other => format!("{other:?}"),
    }
}

fn beginning(desk: &Desk, channel: &str, to: &str) -> NewConversation {
    NewConversation {
        actor: agent("ada"),
        holder: holder(&agent("ada")),
        channel: channel.parse().unwrap(),
        written: Written {
            to: vec![to.to_owned()],
            subject: Some("Your order 17".to_owned()),
            ..Written::text("It is late.")
        },
        contact: None,
        queue: None,
        priority: Priority::Normal,
        tags: vec!["late".to_owned()],
        attributes: BTreeMap::from([("order_id".to_owned(), json!("17"))]),
        automatic: false,
        idempotency: None,
        at: desk.now(),
    }
}

async fn perform(
    desk: &Desk,
    number: usize,
    actor: Actor,
    verb: Verb,
) -> Result<Conversation, StoreError> {
    let doing = Doing {
        conversation: desk.conversation(number).await.id,
        actor,
        verb,
        version: None,
        at: desk.now(),
    };
    desk.store().perform(doing).await
}

/// Leases everything that is due on the mail channel, and says to whom it goes.
async fn leaves(desk: &Desk, expected: Expect) {
    let mut shown = String::new();
    for leased in desk.lease("support-mail").await {
        let to = leased.draft.to.as_ref().unwrap();
        let list = |all: &[Recipient]| {
            let all: Vec<_> = all.iter().map(|one| one.address.as_str()).collect();
            all.join(" ")
        };
        shown += &format!(
            "{}: to {} {} cc {} bcc {}\n",
            leased.draft.text,
            to.address,
            list(&to.also_to),
            list(&to.cc),
            list(&to.bcc)
        );
        let sent = Settlement::Sent {
            provider_ids: vec![format!("{}@shop", leased.draft.text)],
            namespace: Some(Namespace::email()),
            refused: Vec::new(),
        };
        desk.settle(&leased, sent).await;
    }
    expected.assert_eq(&shown);
}

pub async fn whom_an_answer_names_belongs_to_the_conversation_and_a_blind_copy_does_not(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?").cc("bob@example.com")])
        .await;
    let written = Written {
        to: vec!["partner@parcel.example".to_owned()],
        cc: vec!["ada@example.com".to_owned()],
        bcc: vec!["boss@shop.example".to_owned()],
        ..Written::text("Please look.")
    };
    write(&desk, 1, supervisor(), written).await.unwrap();
    let all = Written {
        reply_all: true,
        ..Written::text("All of you.")
    };
    write(&desk, 1, supervisor(), all).await.unwrap();
    leaves(
        &desk,
        expect![[r#"
            Please look.: to partner@parcel.example  cc ada@example.com bcc boss@shop.example
        "#]],
    )
    .await;
    leaves(
        &desk,
        expect![[r#"
            All of you.: to ada@example.com  cc bob@example.com bcc 
        "#]],
    )
    .await;
    desk.deliver([
        mail("partner@parcel.example", "It is in Rome.").token("#1"),
        mail("boss@shop.example", "Who is that?").token("#1"),
    ])
    .await;
    let first = desk.conversation(1).await;
    let participants = first.detail.participants.iter();
    let participants: Vec<_> = participants
        .map(|known| (known.address.as_str(), known.role))
        .collect();
    assert_eq!(
        participants,
        [
            ("ada@example.com", Role::Customer),
            ("bob@example.com", Role::Cc),
            ("partner@parcel.example", Role::To),
        ]
    );
    assert_eq!(first.last_seq, 4, "the partner's answer is in it");
    assert_eq!(desk.conversation(2).await.last_seq, 1, "the other is not");
}

pub async fn an_answer_is_refused_by_the_field_that_the_channel_cannot_carry(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is it?"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    let plain = || Written::text("Hello.");
    let html = Written {
        html: Some("<p>Hello.</p>".to_owned()),
        ..plain()
    };
    let copied = Written {
        cc: vec!["cust-8".to_owned()],
        ..plain()
    };
    let wrong = Written {
        cc: vec!["nobody".to_owned()],
        ..plain()
    };
    let elsewhere = Written {
        channel: Some("outlet-mail".parse().unwrap()),
        ..plain()
    };
    let unknown = Written {
        channel: Some("sales-mail".parse().unwrap()),
        ..plain()
    };
    let nowhere = Written {
        channel: Some("other-chat".parse().unwrap()),
        ..plain()
    };
    let past = Written {
        send_at: Some(desk.now()),
        ..plain()
    };
    let mut table = String::new();
    for (number, written) in [
        (2, html.clone()),
        (2, copied),
        (1, wrong),
        (1, elsewhere),
        (1, unknown),
        (1, nowhere),
        (1, past),
    ] {
        table += &refusal(write(&desk, number, supervisor(), written).await);
        table.push('\n');
    }
    expect![[r#"
        the channel shop-chat takes no HTML: send "text"
        the channel shop-chat takes 1 recipients of one message
        "nobody" is no mail address
        no channel of this conversation can be answered: the channel outlet-mail belongs to another brand
        no channel of this conversation can be answered: the channel sales-mail cannot send
        no channel of this conversation can be answered: nobody in it is known on the channel other-chat: name an address in "to"
        "send_at" must lie in the future, at most 400 days from now
    "#]]
    .assert_eq(&table);
    assert_eq!(desk.store().counts().await.unwrap().outbox, [0, 0, 0]);
    write(&desk, 1, supervisor(), html).await.unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    assert_eq!(leased.draft.html.as_deref(), Some("<p>Hello.</p>"));
}

pub async fn an_answer_over_another_channel_goes_to_where_the_contact_is_known_there(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([chat("cust-7", "Hello?").with_email("ada@example.com")])
        .await;
    let by_mail = Written {
        channel: Some("support-mail".parse().unwrap()),
        ..Written::text("By mail.")
    };
    write(&desk, 1, supervisor(), by_mail).await.unwrap();
    leaves(
        &desk,
        expect![[r#"
            By mail.: to ada@example.com  cc  bcc 
        "#]],
    )
    .await;
    let channels = desk.conversation(1).await.detail.channels;
    let channels: Vec<_> = channels.iter().map(|channel| channel.as_str()).collect();
    assert_eq!(channels, ["shop-chat", "support-mail"]);
}

pub async fn an_answer_is_refused_once_the_customer_wrote_after_what_was_read(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?")])
        .await;
    let read = desk.messages(1).await[0].id;
    let answer = |read| Written {
        if_last_message: Some(read),
        ..Written::text("On its way.")
    };
    desk.deliver([mail("ada@example.com", "I am on holiday.")
        .automatic(connector_api::Automatic::AutoReply)
        .refers_to("x")
        .token("#1")])
        .await;
    write(&desk, 1, supervisor(), answer(read))
        .await
        .expect("what a machine says changes nothing");
    desk.deliver([mail("ada@example.com", "Found it.")]).await;
    let newest = desk.messages(1).await.pop().unwrap().id;
    let refused = write(&desk, 1, supervisor(), answer(read)).await;
    let overtaken = Refusal::Overtaken { last: newest };
    assert_eq!(refused.unwrap_err(), StoreError::Refused(overtaken));
    write(&desk, 1, supervisor(), answer(newest))
        .await
        .expect("now it was read");
    desk.deliver([chat("cust-9", "Me, too.")]).await;
    let of_another = desk.messages(2).await[0].id;
    assert_eq!(
        refusal(write(&desk, 1, supervisor(), answer(of_another)).await),
        "there is no such message in this conversation"
    );
}

pub async fn an_answer_for_later_leaves_at_its_time_and_holds_up_nobody(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?")])
        .await;
    let later = desk.now() + 10 * MINUTE;
    let reminder = Written {
        send_at: Some(later),
        ..Written::text("Is it there?")
    };
    write(&desk, 1, supervisor(), reminder).await.unwrap();
    write(&desk, 1, supervisor(), Written::text("On its way."))
        .await
        .unwrap();
    leaves(
        &desk,
        expect![[r#"
            On its way.: to ada@example.com  cc  bcc 
        "#]],
    )
    .await;
    let channel = "support-mail".parse().unwrap();
    let due = desk.store().next_due(&channel, desk.now()).await.unwrap();
    assert_eq!(due, Some(later));
    desk.later(Duration::from_secs(600));
    let leased = desk.lease("support-mail").await.pop().expect("it is time");
    assert_eq!(leased.accepted_at, later, "its date is when it left");
    assert_eq!(
        leased.tried_since, later,
        "and so is the start of its tries"
    );
}

pub async fn an_answer_for_later_stays_here_once_the_customer_wrote(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?")])
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let reminder = Written {
        send_at: Some(desk.now() + 10 * MINUTE),
        if_last_message: Some(desk.messages(1).await[0].id),
        ..Written::text("Is it there?")
    };
    let reminder = write(&desk, 1, agent("ada"), reminder).await.unwrap();
    desk.deliver([mail("ada@example.com", "Found it.")]).await;
    desk.later(Duration::from_secs(600));
    assert!(desk.lease("support-mail").await.is_empty());
    let messages = desk.messages(1).await;
    let kept = messages.iter().find(|message| message.id == reminder.id);
    assert_eq!(
        kept.unwrap().reason.as_deref(),
        Some("the customer wrote before it was to leave")
    );
    assert_eq!(desk.conversation(1).await.status, Status::Assigned);
}

pub async fn an_answer_taken_back_never_leaves_and_one_that_left_is_not_taken_back(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?")])
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let later = Written {
        send_at: Some(desk.now() + MINUTE),
        ..Written::text("Oops.")
    };
    let oops = write(&desk, 1, agent("ada"), later).await.unwrap();
    let store = desk.store();
    let others = store.cancel(oops.id, agent("bob"), desk.now()).await;
    assert_eq!(
        refusal(others),
        "cannot take back an answer of this conversation: it is not yours"
    );
    let unseen = agent_of("eve", &["backoffice"], &[]);
    let hidden = store.cancel(oops.id, unseen, desk.now()).await;
    assert_eq!(refusal(hidden), "there is no such message");
    let (kept, _) = store
        .cancel(oops.id, agent("ada"), desk.now())
        .await
        .unwrap();
    assert_eq!(
        (kept.delivery, kept.reason.as_deref()),
        (Some(Delivery::Refused), Some("taken back by ada"))
    );
    assert_eq!(desk.conversation(1).await.status, Status::Assigned);
    desk.later(Duration::from_secs(60));
    assert!(desk.lease("support-mail").await.is_empty());
    let left = write(&desk, 1, agent("ada"), Written::text("On its way."))
        .await
        .unwrap();
    desk.lease("support-mail").await;
    let late = desk.store().cancel(left.id, agent("ada"), desk.now()).await;
    assert_eq!(
        refusal(late),
        "only a message that has not left can be taken back: this one is sending"
    );
}

pub async fn an_answer_that_some_recipients_did_not_get_comes_back_to_its_agent(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?").cc("bob@example.com")])
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let all = Written {
        reply_all: true,
        ..Written::text("Here.")
    };
    write(&desk, 1, agent("ada"), all).await.unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    let refused = RefusedRecipient {
        address: "bob@example.com".to_owned(),
        reason: "550 no such user".to_owned(),
    };
    let sent = Settlement::Sent {
        provider_ids: vec!["a-1@shop".to_owned()],
        namespace: Some(Namespace::email()),
        refused: vec![refused],
    };
    desk.settle(&leased, sent).await;
    let message = desk.messages(1).await.pop().unwrap();
    assert_eq!(
        (message.delivery, message.reason.as_deref()),
        (
            Some(Delivery::Sent),
            Some("it did not go to bob@example.com: 550 no such user")
        )
    );
    assert_eq!(desk.conversation(1).await.status, Status::Assigned);
}

pub async fn what_we_begin_waits_for_the_customer_whose_answer_comes_to_who_began_it(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    let (message, begun) = desk
        .store()
        .start(beginning(&desk, "support-mail", "eve@example.com"))
        .await
        .unwrap();
    assert_eq!(
        (
            begun.status,
            begun.assignee.as_deref(),
            begun.queue.as_str()
        ),
        (Status::Pending, Some("ada"), "frontline")
    );
    assert_eq!(
        message.id.0, begun.id.0,
        "a conversation bears its founding message's number"
    );
    assert_eq!(begun.detail.tags, ["late"]);
    assert_eq!(begun.detail.attributes["order_id"], json!("17"));
    leaves(
        &desk,
        expect![[r#"
            It is late.: to eve@example.com  cc  bcc 
        "#]],
    )
    .await;
    desk.deliver([mail("eve@example.com", "How late?").token("#1")])
        .await;
    let answered = desk.conversation(1).await;
    assert_eq!(
        (
            answered.status,
            answered.assignee.as_deref(),
            answered.last_seq
        ),
        (Status::Assigned, Some("ada"), 2)
    );
    write(&desk, 1, agent("ada"), Written::text("A day."))
        .await
        .unwrap();
    leaves(
        &desk,
        expect![[r#"
            A day.: to eve@example.com  cc  bcc 
        "#]],
    )
    .await;
}

pub async fn what_we_begin_goes_on_to_whom_it_was_begun_with(backend: Arc<dyn Backend>) {
    let desk = desk(backend).await;
    desk.store()
        .start(beginning(&desk, "support-mail", "eve@example.com"))
        .await
        .unwrap();
    write(&desk, 1, agent("ada"), Written::text("Later still."))
        .await
        .unwrap();
    leaves(
        &desk,
        expect![[r#"
            It is late.: to eve@example.com  cc  bcc 
        "#]],
    )
    .await;
    leaves(
        &desk,
        expect![[r#"
            Later still.: to eve@example.com  cc  bcc 
        "#]],
    )
    .await;
}

pub async fn what_we_begin_is_its_contacts_and_a_matter_of_its_own_beside_an_open_one(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("eve@example.com", "Where is it?")])
        .await;
    let known = desk.conversation(1).await;
    let (_, begun) = desk
        .store()
        .start(beginning(&desk, "support-mail", "eve@example.com"))
        .await
        .unwrap();
    assert_eq!(begun.contact, known.contact);
    assert!(known.matter.is_none() && begun.matter.is_some());
    let by_contact = NewConversation {
        contact: Some(known.contact),
        written: Written::text("By her contact."),
        ..beginning(&desk, "support-mail", "")
    };
    let (_, third) = desk.store().start(by_contact).await.unwrap();
    assert_eq!(third.contact, known.contact);
    assert!(third.has_participant(&Namespace::email(), "eve@example.com"));
}

pub async fn a_repeated_beginning_begins_once(backend: Arc<dyn Backend>) {
    let desk = desk(backend).await;
    let keyed = || NewConversation {
        idempotency: Some((b"ada:key-1".to_vec(), vec![1; 32])),
        ..beginning(&desk, "support-mail", "eve@example.com")
    };
    let (first, _) = desk.store().start(keyed()).await.unwrap();
    let (again, _) = desk.store().start(keyed()).await.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(desk.conversations().await.len(), 1);
}

pub async fn a_system_begins_what_nobody_holds(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    let system = NewConversation {
        actor: supervisor(),
        automatic: true,
        queue: Some("backoffice".parse().unwrap()),
        written: Written {
            to: vec!["cust-7".to_owned()],
            ..Written::text("It is late.")
        },
        ..beginning(&desk, "shop-chat", "")
    };
    let (_, begun) = desk.store().start(system).await.unwrap();
    assert_eq!((begun.status, begun.assignee), (Status::Pending, None));
    let leased = desk.lease("shop-chat").await.pop().unwrap();
    assert!(leased.draft.automatic, "marked towards the receiver");
    desk.deliver([chat("cust-7", "Thanks!")]).await;
    let answered = desk.conversation(1).await;
    assert_eq!(
        (answered.status, answered.queue.as_str()),
        (Status::Queued, "backoffice")
    );
}

pub async fn a_beginning_is_refused_where_it_cannot_be(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("eve@example.com", "Where is it?")])
        .await;
    let reader = Actor {
        role: TokenRole::Reader,
        ..supervisor()
    };
    let outlet = agent_of("olga", &[], &["outlet"]);
    let frontline = agent_of("fay", &["frontline"], &[]);
    let contact = Some(desk.conversation(1).await.contact);
    let base = |channel: &str, to: &str| beginning(&desk, channel, to);
    let cases = [
        NewConversation {
            actor: reader,
            ..base("support-mail", "eve@example.com")
        },
        NewConversation {
            actor: outlet.clone(),
            ..base("support-mail", "eve@example.com")
        },
        NewConversation {
            actor: outlet,
            contact,
            ..base("outlet-mail", "")
        },
        NewConversation {
            actor: frontline,
            queue: Some("backoffice".parse().unwrap()),
            ..base("support-mail", "eve@example.com")
        },
        base("sales-mail", "eve@example.com"),
        base("other-chat", "cust-1"),
        base("support-mail", "eve"),
        NewConversation {
            written: Written::text("To nobody."),
            ..base("support-mail", "")
        },
    ];
    let mut table = String::new();
    for mut case in cases {
        case.written.to.retain(|to| !to.is_empty());
        table += &refusal(desk.store().start(case).await);
        table.push('\n');
    }
    expect![[r#"
        a reader may not do this
        there is no channel support-mail for you
        there is no such contact
        there is no such queue
        the channel sales-mail cannot send
        the channel other-chat can only answer whoever wrote
        "eve" is no mail address
        "to" names nobody whom this channel can write to
    "#]]
    .assert_eq(&table);
    assert_eq!(desk.conversations().await.len(), 1);
}

pub async fn every_verb_is_allowed_or_refused_by_state_and_holder(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    let reader = Actor {
        role: TokenRole::Reader,
        ..supervisor()
    };
    let verbs = |desk: &Desk| {
        let bob = Recipient {
            namespace: Namespace::email(),
            address: "bob@example.com".to_owned(),
            name: None,
        };
        let edit = Edit {
            add_tags: vec!["vip".to_owned()],
            ..Edit::default()
        };
        let until = desk.now() + MINUTE;
        [
            ("edit", Verb::Edit(edit)),
            ("snooze", Verb::Snooze { until }),
            ("wake", Verb::Wake),
            (
                "transfer",
                Verb::Transfer(Target::Queue("backoffice".parse().unwrap())),
            ),
            (
                "add",
                Verb::AddParticipant {
                    recipient: bob,
                    role: Role::Cc,
                },
            ),
        ]
    };
    let mut table = String::new();
    let mut number = 0;
    for state in ["queued", "assigned", "pending", "resolved"] {
        for (name, verb) in verbs(&desk) {
            let mut line = format!("{state:<9}{name:<9}");
            for actor in [agent("ada"), agent("bob"), supervisor(), reader.clone()] {
                number += 1;
                let customer = format!("cust-{number}");
                desk.deliver([chat(&customer, "Hello?")]).await;
                bring(&desk, number, state).await;
                let outcome = perform(&desk, number, actor, verb.clone()).await;
                line += &match outcome {
                    Ok(after) => format!(
                        "{}{} | ",
                        after.status.as_str(),
                        after
                            .assignee
                            .map(|who| format!(" @{who}"))
                            .unwrap_or_default()
                    ),
                    Err(StoreError::Refused(Refusal::WrongState { .. })) => "409 | ".to_owned(),
                    Err(StoreError::Refused(
                        Refusal::NotAssignee { .. } | Refusal::Role { .. },
                    )) => "403 | ".to_owned(),
                    other => panic!("{name}: {other:?}"),
                };
                desk.act(number, supervisor(), switchboard::dispatch::Action::Resolve)
                    .await
                    .ok();
            }
            table += line.trim_end_matches(" | ");
            table.push('\n');
        }
    }
    expect![[r#"
        queued   edit     queued | queued | queued | 403
        queued   snooze   403 | 403 | snoozed | 403
        queued   wake     403 | 403 | 409 | 403
        queued   transfer 403 | 403 | queued | 403
        queued   add      403 | 403 | queued | 403
        assigned edit     assigned @ada | assigned @ada | assigned @ada | 403
        assigned snooze   snoozed @ada | 403 | snoozed @ada | 403
        assigned wake     409 | 403 | 409 | 403
        assigned transfer queued | 403 | queued | 403
        assigned add      assigned @ada | 403 | assigned @ada | 403
        pending  edit     pending @ada | pending @ada | pending @ada | 403
        pending  snooze   snoozed @ada | 403 | snoozed @ada | 403
        pending  wake     409 | 403 | 409 | 403
        pending  transfer queued | 403 | queued | 403
        pending  add      pending @ada | 403 | pending @ada | 403
        resolved edit     resolved @ada | resolved @ada | resolved @ada | 403
        resolved snooze   409 | 403 | 409 | 403
        resolved wake     409 | 403 | 409 | 403
        resolved transfer 409 | 403 | 409 | 403
        resolved add      resolved @ada | 403 | resolved @ada | 403
    "#]]
    .assert_eq(&table);
}

async fn bring(desk: &Desk, number: usize, state: &str) {
    if state == "queued" {
        return;
    }
    desk.claim("frontline", agent("ada")).await.unwrap();
    match state {
        "pending" => {
            write(desk, number, agent("ada"), Written::text("Hello."))
                .await
                .unwrap();
        }
        "resolved" => desk.resolve(number).await,
        _ => {}
    }
}

pub async fn a_snoozed_conversation_is_back_at_its_time_over_a_restart(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([chat("cust-1", "Hello?"), chat("cust-2", "Hello?")])
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let until = desk.now() + 10 * MINUTE;
    let held = perform(&desk, 1, agent("ada"), Verb::Snooze { until })
        .await
        .unwrap();
    assert_eq!(held.status, Status::Snoozed);
    let waiting = perform(
        &desk,
        2,
        supervisor(),
        Verb::Snooze {
            until: until + MINUTE,
        },
    )
    .await
    .unwrap();
    let rank = waiting.enqueued_at;
    assert!(desk.claim("frontline", agent("bob")).await.is_none());
    desk.crash().await;
    let early = desk.store().wake_due(10, desk.now()).await.unwrap();
    assert_eq!((early.rings, early.next), (Default::default(), Some(until)));
    desk.later(Duration::from_secs(660));
    let woken = desk.store().wake_due(10, desk.now()).await.unwrap();
    assert_eq!(woken.next, None);
    assert_eq!(woken.rings.queues, ["frontline".parse().unwrap()]);
    let first = desk.conversation(1).await;
    assert_eq!(
        (
            first.status,
            first.assignee.as_deref(),
            first.detail.snoozed_until
        ),
        (Status::Assigned, Some("ada"), None)
    );
    let second = desk.claim("frontline", agent("bob")).await.unwrap();
    assert_eq!(second.enqueued_at, rank, "it kept its place");
}

pub async fn a_customer_wakes_a_snoozed_conversation_and_its_old_timer_does_nothing(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([chat("cust-1", "Hello?")]).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let until = desk.now() + 10 * MINUTE;
    perform(&desk, 1, agent("ada"), Verb::Snooze { until })
        .await
        .unwrap();
    desk.deliver([chat("cust-1", "Still here?")]).await;
    let woken = desk.conversation(1).await;
    assert_eq!((woken.status, woken.assignee), (Status::Queued, None));
    desk.claim("frontline", agent("bob")).await.unwrap();
    let further = until + 10 * MINUTE;
    perform(&desk, 1, agent("bob"), Verb::Snooze { until: further })
        .await
        .unwrap();
    desk.later(Duration::from_secs(601));
    let at_the_old_time = desk.store().wake_due(10, desk.now()).await.unwrap();
    assert_eq!(at_the_old_time.next, Some(further));
    assert_eq!(desk.conversation(1).await.status, Status::Snoozed);
}

pub async fn a_transferred_conversation_keeps_its_rank_or_is_somebodys_at_once(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([chat("cust-1", "Hello?")]).await;
    let claimed = desk.claim("frontline", agent("ada")).await.unwrap();
    desk.hours_later(1);
    let to = Target::Queue("backoffice".parse().unwrap());
    let handed = perform(&desk, 1, agent("ada"), Verb::Transfer(to))
        .await
        .unwrap();
    assert_eq!(
        (handed.status, handed.enqueued_at),
        (Status::Queued, claimed.enqueued_at)
    );
    assert_eq!(
        desk.claim("backoffice", agent("bob")).await.unwrap().id,
        claimed.id
    );
    let to = Target::Agent {
        name: "cleo".to_owned(),
        queue: Some("frontline".parse().unwrap()),
    };
    let given = perform(&desk, 1, agent("bob"), Verb::Transfer(to))
        .await
        .unwrap();
    assert_eq!(
        (
            given.status,
            given.assignee.as_deref(),
            given.queue.as_str()
        ),
        (Status::Assigned, Some("cleo"), "frontline")
    );
    let lost = perform(&desk, 1, agent("bob"), Verb::Wake).await;
    assert_eq!(
        refusal(lost),
        "cannot wake this conversation: it is not yours"
    );
}

pub async fn what_is_said_of_a_conversation_is_merged_and_bounded(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([chat("cust-1", "Hello?"), chat("cust-2", "Hello?")])
        .await;
    let attributes = |pairs: serde_json::Value| {
        let pairs = pairs.as_object().unwrap().clone();
        pairs.into_iter().collect::<BTreeMap<_, _>>()
    };
    let first = Edit {
        priority: Some(Priority::Urgent),
        add_tags: vec!["vip".to_owned(), "refund".to_owned()],
        attributes: attributes(json!({ "order_id": "17", "carrier": "x", "paid": true })),
        ..Edit::default()
    };
    perform(&desk, 2, agent("ada"), Verb::Edit(first.clone()))
        .await
        .unwrap();
    let version = desk.conversation(2).await.version;
    let again = perform(&desk, 2, agent("bob"), Verb::Edit(first))
        .await
        .unwrap();
    assert_eq!(again.version, version, "nothing changed");
    let second = Edit {
        add_tags: vec!["late".to_owned()],
        remove_tags: vec!["refund".to_owned()],
        attributes: attributes(json!({ "carrier": null, "weight": 3.5 })),
        ..Edit::default()
    };
    let after = perform(&desk, 2, agent("bob"), Verb::Edit(second))
        .await
        .unwrap();
    assert_eq!(after.detail.tags, ["vip", "late"]);
    assert_eq!(
        json!(after.detail.attributes),
        json!({ "order_id": "17", "paid": true, "weight": 3.5 })
    );
    let claimed = desk.claim("frontline", agent("ada")).await.unwrap();
    assert_eq!(claimed.id, after.id, "urgent comes first");
    let mut table = String::new();
    for wrong in [
        Edit {
            attributes: attributes(json!({ "a b": 1 })),
            ..Edit::default()
        },
        Edit {
            attributes: attributes(json!({ "list": [] })),
            ..Edit::default()
        },
        Edit {
            attributes: attributes(json!({ "long": "x".repeat(1_001) })),
            ..Edit::default()
        },
        Edit {
            tags: Some((0..51).map(|tag| tag.to_string()).collect()),
            ..Edit::default()
        },
        Edit {
            add_tags: vec!["two\nlines".to_owned()],
            ..Edit::default()
        },
    ] {
        table += &refusal(perform(&desk, 1, agent("ada"), Verb::Edit(wrong)).await);
        table.push('\n');
    }
    expect![[r#"
        an attribute's name has 1 to 64 letters, digits, "_", "-" and "."
        the attribute "list" must be a text, a number, true or false
        the attribute "long" may have 1000 characters
        a conversation has at most 50 tags
        a tag has 1 to 64 characters on one line
    "#]]
    .assert_eq(&table);
}

pub async fn whoever_is_taken_out_joins_no_more(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?").cc("bob@example.com")])
        .await;
    let remove = |address: &str| Verb::RemoveParticipant {
        namespace: Namespace::email(),
        address: address.to_owned(),
    };
    perform(&desk, 1, supervisor(), remove("bob@example.com"))
        .await
        .unwrap();
    desk.deliver([mail("bob@example.com", "And mine?").token("#1")])
        .await;
    assert_eq!(desk.conversations().await.len(), 2);
    assert_eq!(
        refusal(perform(&desk, 1, supervisor(), remove("ada@example.com")).await),
        "a customer who wrote cannot be taken out of the conversation"
    );
    assert_eq!(
        refusal(perform(&desk, 1, supervisor(), remove("eve@example.com")).await),
        "there is no such participant"
    );
}
