//! Conversations that we begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use connector_api::Namespace;
use expect_test::expect;
use serde_json::json;
use switchboard::conversation::{Priority, Status};
use switchboard::dispatch::surgery::Refused;
use switchboard::dispatch::{Actor, Refusal, Role as TokenRole};
use switchboard::store::surgery::Order;
use switchboard::store::{ContactEdit, NewConversation, StoreError, Written};

use crate::support::{Backend, Desk, agent, agent_of, chat, holder, mail, supervisor};

use super::{desk, leaves, refusal, write};

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

pub async fn nothing_is_begun_with_or_said_of_a_contact_that_was_merged_away(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("eve@example.com", "Hello?"), chat("cust-7", "Hello?")])
        .await;
    let eve = desk.conversation(1).await.contact;
    let gone = desk.conversation(2).await.contact;
    let order = Order {
        actor: supervisor(),
        version: None,
        other_version: None,
        idempotency: None,
        at: desk.now(),
    };
    let merged = desk.store().merge_contacts(gone, eve, order).await;
    merged.unwrap();
    let into = |outcome: Result<(), StoreError>| match outcome {
        Err(StoreError::Refused(Refusal::Surgery(Refused::ContactGone { into }))) => into,
        other => panic!("{other:?}"),
    };
    for to in [vec![], vec!["eve@example.com".to_owned()]] {
        let mut new = beginning(&desk, "support-mail", "");
        new.contact = Some(gone);
        new.written.to = to;
        assert_eq!(into(desk.store().start(new).await.map(drop)), eve);
    }
    assert_eq!(desk.conversations().await.len(), 2);
    let edit = ContactEdit {
        contact: gone,
        actor: supervisor(),
        name: Some("Eve".to_owned()),
        attributes: BTreeMap::new(),
        version: None,
        at: desk.now(),
    };
    assert_eq!(into(desk.store().edit_contact(edit).await.map(drop)), eve);
    let still = desk.store().contact(supervisor(), gone).await.unwrap();
    assert_eq!(still.unwrap().name, None);
}
