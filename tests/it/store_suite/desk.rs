//! What a desk does with a conversation: answers with everything a reply can say, conversations
//! begun by us, and the verbs.

mod beginning;
mod verbs;

use std::sync::Arc;
use std::time::Duration;

use connector_api::{Capabilities, Namespace, Recipient, RefusedRecipient};
use expect_test::{Expect, expect};
use switchboard::conversation::{Delivery, Status};
use switchboard::dispatch::{Actor, Refusal};
use switchboard::router::facts::Role;
use switchboard::store::{Declared, NewReply, Settlement, StoreError, StoredMessage, Written};

use crate::support::{Backend, Desk, agent, agent_of, chat, mail, senders, supervisor};

pub use beginning::*;
pub use verbs::*;

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
    desk.store()
        .set_senders(senders, Declared::default(), desk.now())
        .await
        .unwrap();
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
        the channel shop-chat takes 1 recipient of one message
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
    let refused =
        RefusedRecipient::new("bob@example.com".to_owned(), "550 no such user".to_owned());
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
