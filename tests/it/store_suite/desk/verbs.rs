//! What a desk does with a conversation: snooze, hand on, say of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Namespace, Recipient};
use expect_test::expect;
use serde_json::json;
use switchboard::conversation::{Priority, Status};
use switchboard::dispatch::verbs::{Edit, Target, Verb};
use switchboard::dispatch::{Actor, Refusal, Role as TokenRole};
use switchboard::router::facts::{Conversation, Role};
use switchboard::store::{Doing, StoreError, Token, Written};

use crate::support::{Backend, Desk, agent, chat, mail, supervisor};

use super::{MINUTE, desk, refusal, write};

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

/// Gives somebody a token of a role for these brands (none: all).
async fn hired(desk: &Desk, role: &str, agent: &str, queues: &[&str], brands: &[&str]) -> Token {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let token = Token {
        id: 0,
        label: agent.to_owned(),
        role: role.to_owned(),
        agent: Some(agent.to_owned()),
        queues: owned(queues),
        brands: owned(brands),
        scopes: Vec::new(),
        created_at: desk.now(),
        revoked_at: None,
    };
    let hash = agent.as_bytes().to_vec();
    desk.store().create_token(hash, token).await.unwrap()
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
    hired(&desk, "agent", "cleo", &[], &[]).await;
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

pub async fn a_conversation_is_given_to_nobody_who_could_not_work_on_it(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([chat("cust-1", "Hello?")]).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    hired(&desk, "agent", "olga", &[], &["outlet"]).await;
    hired(&desk, "reader", "rita", &[], &[]).await;
    let gone = hired(&desk, "agent", "gus", &[], &[]).await;
    let revoked = desk.store().revoke_token(gone.id, desk.now()).await;
    assert!(revoked.unwrap());
    hired(&desk, "agent", "bea", &["backoffice"], &["main", "outlet"]).await;
    let to = |name: &str| {
        let name = name.to_owned();
        Verb::Transfer(Target::Agent { name, queue: None })
    };
    for nobody in ["bbo", "olga", "rita", "gus"] {
        for by in [agent("ada"), supervisor()] {
            let refused = perform(&desk, 1, by, to(nobody)).await;
            let Err(StoreError::Refused(Refusal::Unusable { field, .. })) = refused else {
                panic!("{nobody}: {refused:?}")
            };
            assert_eq!(field, "agent", "{nobody}");
        }
        let still = desk.conversation(1).await;
        assert_eq!(still.assignee.as_deref(), Some("ada"), "{nobody}");
    }
    // What is given to somebody is theirs in a queue of others, too: they see what they hold.
    let given = perform(&desk, 1, agent("ada"), to("bea")).await.unwrap();
    assert!(crate::support::agent_of("bea", &["backoffice"], &[]).may_see(&given));
    let backend = Actor {
        acts: true,
        ..supervisor()
    };
    let named = perform(&desk, 1, backend, to("nora")).await.unwrap();
    assert_eq!(named.assignee.as_deref(), Some("nora"));
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
