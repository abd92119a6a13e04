//! Claims and what agents do with what they hold.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use switchboard::conversation::Priority;
use switchboard::dispatch::{Action, Actor, Refusal, Role};
use switchboard::router::policy::Rule;
use switchboard::store::StoreError;

use crate::support::{Backend, Desk, Said, agent, agent_of, chat, mail, supervisor};

/// A letter to a priority: "low: …", "urgent: …".
fn prioritise(desk: &mut Desk) {
    desk.configure(|policy| {
        policy.rules = Priority::ALL
            .into_iter()
            .map(|priority| Rule {
                name: priority.as_str().to_owned(),
                keywords: vec![priority.as_str().to_owned()],
                priority: Some(priority),
                ..Rule::default()
            })
            .collect();
    });
}

fn from_customer(number: usize, text: &str) -> Said {
    mail(&format!("customer-{number}@example.com"), text)
}

pub async fn whoever_waits_longest_is_claimed_first_and_priority_is_a_head_start(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    prioritise(&mut desk);
    desk.deliver([
        from_customer(1, "low"),
        from_customer(2, "normal"),
        from_customer(3, "normal"),
    ])
    .await;
    desk.later(Duration::from_secs(59 * 60));
    desk.deliver([
        from_customer(4, "normal"),
        from_customer(5, "high"),
        from_customer(6, "urgent"),
    ])
    .await;
    desk.later(Duration::from_secs(2 * 60));
    desk.deliver([from_customer(7, "high")]).await;
    let mut order = Vec::new();
    while let Some(claimed) = desk.claim("frontline", agent("ada")).await {
        assert_eq!(claimed.assignee.as_deref(), Some("ada"));
        order.push(claimed.detail.participants[0].address.clone());
    }
    let numbers: Vec<&str> = order
        .iter()
        .filter_map(|address| address.strip_prefix("customer-")?.split('@').next())
        .collect();
    // Urgent a day, high an hour before its time, low an hour behind.
    assert_eq!(numbers, ["6", "5", "2", "3", "7", "4", "1"]);
}

/// 100,000 with `SWITCHBOARD_LONG=1`.
fn racing_conversations() -> usize {
    match std::env::var("SWITCHBOARD_LONG").is_ok_and(|value| value == "1") {
        true => 100_000,
        false => 10_000,
    }
}

pub async fn racing_agents_take_every_conversation_once(backend: Arc<dyn Backend>) {
    const AGENTS: usize = 64;
    let conversations = racing_conversations();
    let mut desk = Desk::on(backend).await;
    desk.accept_at_once((0..conversations).map(|number| from_customer(number, "Hi")))
        .await;
    desk.route(500).await;
    let now = desk.now();
    let racing = (0..AGENTS).map(|number| {
        let store = desk.store().clone();
        tokio::spawn(async move {
            let name = format!("agent-{number}");
            let mut taken = Vec::new();
            while let Some(claimed) = store
                .claim(&"frontline".parse().unwrap(), agent(&name), None, now)
                .await
                .unwrap()
            {
                assert_eq!(claimed.assignee.as_deref(), Some(name.as_str()));
                taken.push(claimed.id);
            }
            taken
        })
    });
    let mut taken = Vec::new();
    for racer in futures::future::join_all(racing).await {
        taken.extend(racer.unwrap());
    }
    let distinct: HashSet<_> = taken.iter().copied().collect();
    assert_eq!(
        (taken.len(), distinct.len()),
        (conversations, conversations),
        "taken, and taken by one"
    );
}

pub async fn a_released_conversation_keeps_its_place(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([from_customer(1, "Hi"), from_customer(2, "Hi")])
        .await;
    let first = desk.claim("frontline", agent("ada")).await.unwrap();
    desk.hours_later(1);
    desk.deliver([from_customer(3, "Hi")]).await;
    let released = desk.act(1, agent("ada"), Action::Release).await.unwrap();
    assert_eq!(
        (released.enqueued_at, released.assignee),
        (first.enqueued_at, None)
    );
    let again = desk.claim("frontline", agent("bob")).await.unwrap();
    assert_eq!(again.id, first.id, "it is still the first");
}

pub async fn a_customers_message_goes_to_the_agent_who_waits_for_it(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([from_customer(1, "Hi")]).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let reply = desk.reply_to(desk.conversation(1).await.id, agent("ada"), "Hello.");
    let (_, conversation) = desk.store().reply(reply).await.unwrap();
    assert_eq!(conversation.status.as_str(), "pending");
    desk.deliver([from_customer(1, "Thanks.")]).await;
    let conversation = desk.conversation(1).await;
    assert_eq!(
        (
            conversation.status.as_str(),
            conversation.assignee.as_deref()
        ),
        ("assigned", Some("ada"))
    );
    assert!(
        desk.claim("frontline", agent("bob")).await.is_none(),
        "nothing waits"
    );
}

/// Brings the conversation of `customer` into a state.
async fn bring(desk: &Desk, number: usize, state: &str) {
    let id = desk.conversation(number).await.id;
    if state == "queued" {
        return;
    }
    let claimed = desk.claim("frontline", agent("ada")).await.unwrap();
    assert_eq!(claimed.id, id, "only this one waits");
    match state {
        "pending" => drop(
            desk.store()
                .reply(desk.reply_to(id, agent("ada"), "Hello."))
                .await
                .unwrap(),
        ),
        "resolved" => desk.resolve(number).await,
        _ => {}
    }
}

async fn attempt(desk: &Desk, number: usize, actor: Actor, action: Action) -> String {
    let id = desk.conversation(number).await.id;
    let outcome = match action {
        Action::Reply => desk
            .store()
            .reply(desk.reply_to(id, actor, "Hello."))
            .await
            .map(|(_, after)| after),
        Action::Note => desk
            .store()
            .note(desk.reply_to(id, actor, "Careful."))
            .await
            .map(|(_, after)| after),
        _ => desk.store().act(id, actor, action, None, desk.now()).await,
    };
    match outcome {
        Ok(after) => {
            let holder = after
                .assignee
                .map(|agent| format!(" @{agent}"))
                .unwrap_or_default();
            format!("{}{holder}", after.status.as_str())
        }
        Err(StoreError::Refused(refusal)) => match refusal {
            Refusal::NotFound { .. } => "not found".to_owned(),
            Refusal::WrongState { status, holder, .. } => {
                format!("409 {} {holder:?}", status.as_str())
            }
            Refusal::NotAssignee { holder, .. } => format!("403 {holder:?}"),
            Refusal::Role { .. } => "403 role".to_owned(),
            other => other.to_string(),
        },
        Err(other) => panic!("{action:?}: {other}"),
    }
}

pub async fn every_action_is_allowed_or_refused_by_state_and_holder(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let reader = Actor {
        role: Role::Reader,
        agent: None,
        ..supervisor()
    };
    let admin = Actor {
        role: Role::Admin,
        agent: None,
        ..supervisor()
    };
    let elsewhere = agent_of("eve", &["backoffice"], &[]);
    let actors = [
        agent("ada"),
        agent("bob"),
        supervisor(),
        reader,
        admin,
        elsewhere,
    ];
    let actions = [
        Action::Release,
        Action::Resolve,
        Action::Reopen,
        Action::Reply,
        Action::Note,
    ];
    let mut table = String::new();
    let mut number = 0;
    for state in ["queued", "assigned", "pending", "resolved"] {
        table += &format!("{state}\n");
        for actor in &actors {
            let name = actor.agent.as_deref().unwrap_or(actor.role.as_str());
            table += &format!("  {name}:");
            for action in actions {
                // A conversation of its own for every cell, the only one that waits.
                number += 1;
                desk.deliver([from_customer(number, "Hi")]).await;
                bring(&desk, number, state).await;
                let outcome = attempt(&desk, number, actor.clone(), action).await;
                table += &format!(" {action:?} {outcome};");
                if desk.conversation(number).await.status.is_open() {
                    desk.resolve(number).await;
                }
            }
            table.push('\n');
        }
    }
    expect![[r#"
        queued
          ada: Release 409 queued None; Resolve 403 None; Reopen 409 queued None; Reply 409 queued None; Note queued;
          bob: Release 409 queued None; Resolve 403 None; Reopen 409 queued None; Reply 409 queued None; Note queued;
          sue: Release 409 queued None; Resolve resolved; Reopen 409 queued None; Reply queued; Note queued;
          reader: Release 403 role; Resolve 403 role; Reopen 403 role; Reply 403 role; Note 403 role;
          admin: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
          eve: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
        assigned
          ada: Release queued; Resolve resolved @ada; Reopen 409 assigned Some("ada"); Reply pending @ada; Note assigned @ada;
          bob: Release 403 Some("ada"); Resolve 403 Some("ada"); Reopen 409 assigned Some("ada"); Reply 403 Some("ada"); Note assigned @ada;
          sue: Release queued; Resolve resolved @ada; Reopen 409 assigned Some("ada"); Reply pending @ada; Note assigned @ada;
          reader: Release 403 role; Resolve 403 role; Reopen 403 role; Reply 403 role; Note 403 role;
          admin: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
          eve: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
        pending
          ada: Release queued; Resolve resolved @ada; Reopen 409 pending Some("ada"); Reply pending @ada; Note pending @ada;
          bob: Release 403 Some("ada"); Resolve 403 Some("ada"); Reopen 409 pending Some("ada"); Reply 403 Some("ada"); Note pending @ada;
          sue: Release queued; Resolve resolved @ada; Reopen 409 pending Some("ada"); Reply pending @ada; Note pending @ada;
          reader: Release 403 role; Resolve 403 role; Reopen 403 role; Reply 403 role; Note 403 role;
          admin: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
          eve: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
        resolved
          ada: Release 409 resolved Some("ada"); Resolve 409 resolved Some("ada"); Reopen queued; Reply 409 resolved Some("ada"); Note resolved @ada;
          bob: Release 409 resolved Some("ada"); Resolve 409 resolved Some("ada"); Reopen queued; Reply 409 resolved Some("ada"); Note resolved @ada;
          sue: Release 409 resolved Some("ada"); Resolve 409 resolved Some("ada"); Reopen queued; Reply 409 resolved Some("ada"); Note resolved @ada;
          reader: Release 403 role; Resolve 403 role; Reopen 403 role; Reply 403 role; Note 403 role;
          admin: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
          eve: Release not found; Resolve not found; Reopen not found; Reply not found; Note not found;
    "#]].assert_eq(&table);
}

pub async fn an_action_on_another_version_is_refused(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([chat("cust-7", "Hi")]).await;
    let read = desk.conversation(1).await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    let now = desk.now();
    let stale = desk
        .store()
        .act(
            read.id,
            supervisor(),
            Action::Resolve,
            Some(read.version),
            now,
        )
        .await;
    let current = desk.conversation(1).await.version;
    assert_eq!(
        stale.unwrap_err(),
        StoreError::Refused(Refusal::Stale {
            current,
            given: read.version
        })
    );
    let mut reply = desk.reply_to(read.id, supervisor(), "Hello.");
    reply.version = Some(read.version);
    let refused = desk.store().reply(reply.clone()).await;
    assert_eq!(
        refused.unwrap_err(),
        StoreError::Refused(Refusal::Stale {
            current,
            given: read.version
        })
    );
    reply.version = Some(current);
    let (_, after) = desk.store().reply(reply).await.unwrap();
    assert!(after.version > current);
    let resolved = desk
        .store()
        .act(
            read.id,
            supervisor(),
            Action::Resolve,
            Some(after.version),
            now,
        )
        .await
        .unwrap();
    assert_eq!(resolved.status.as_str(), "resolved");
}
