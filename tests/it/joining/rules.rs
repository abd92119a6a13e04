//! Which queue a conversation waits in, with which priority and tags, and that its first message
//! says why.

use connector_api::Automatic;
use expect_test::expect;
use switchboard::conversation::Priority;
use switchboard::router::policy::Rule;

use crate::support::{Desk, Said, chat, mail};

fn rules() -> Vec<Rule> {
    let rule = |name: &str| Rule {
        name: name.to_owned(),
        ..Rule::default()
    };
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let queue = |queue: &str| Some(queue.parse().expect("a queue id"));
    vec![
        Rule {
            automatic: Some(true),
            queue: queue("backoffice"),
            priority: Some(Priority::Low),
            ..rule("machines")
        },
        Rule {
            keywords: words(&["lawyer", "anwalt"]),
            priority: Some(Priority::Urgent),
            ..rule("threats")
        },
        Rule {
            languages: words(&["de"]),
            queue: queue("backoffice"),
            tags: words(&["german"]),
            ..rule("german")
        },
        Rule {
            intents: words(&["refund"]),
            tags: words(&["money"]),
            ..rule("refunds")
        },
        Rule {
            channels: vec!["shop-chat".parse().expect("a channel id")],
            keywords: words(&["hello"]),
            priority: Some(Priority::High),
            ..rule("greetings")
        },
        Rule {
            labels: words(&["intent:delivery"]),
            tags: words(&["parcel"]),
            ..rule("parcels")
        },
    ]
}

/// Where `said` waits, and what its explanation says of it.
async fn routed(said: Said) -> String {
    let mut desk = Desk::new().await;
    desk.configure(|policy| {
        policy.rules = rules();
        policy.rules_version = "v7".to_owned();
        policy
            .priorities
            .insert("outlet".parse().expect("a queue id"), Priority::High);
    });
    desk.deliver([said]).await;
    let found = desk.conversation(1).await;
    let why = desk.messages(1).await[0].explanation["queue"].clone();
    assert_eq!(why["rules_version"], "v7");
    assert_eq!(why["queue"], found.queue.as_str());
    assert_eq!(why["priority"], found.priority.as_str());
    let rule = why["rule"]
        .as_str()
        .unwrap_or("the channel's own")
        .to_owned();
    let tags = found.detail.tags.join(" ");
    format!(
        "{} {} [{tags}] by {rule}\n",
        found.queue,
        found.priority.as_str()
    )
}

#[tokio::test]
async fn the_first_rule_whose_every_condition_holds_decides() {
    let mut table = String::new();
    for said in [
        mail("ada@example.com", "Where is my order? I call my lawyer."),
        mail("ada@example.com", "I am lawyerly."),
        mail(
            "ada@example.com",
            "Guten Tag, wo bleibt meine Bestellung? Ich warte seit zwei Wochen auf das Paket.",
        ),
        mail("ada@example.com", "I want a refund."),
        mail("ada@example.com", "Hello"),
        chat("cust-7", "Hello"),
        chat("cust-7", "Where is my order?"),
        mail(
            "mailer-daemon@example.com",
            "A lawyer's mail was not delivered.",
        )
        .automatic(Automatic::Bounce),
        mail("ada@example.com", "Hello").on("outlet-mail"),
    ] {
        table += &routed(said).await;
    }
    expect![[r#"
        frontline urgent [] by threats
        frontline normal [] by the channel's own
        backoffice normal [german] by german
        frontline normal [money] by refunds
        frontline normal [] by the channel's own
        frontline high [] by greetings
        frontline normal [parcel] by parcels
        backoffice low [] by machines
        outlet high [] by the channel's own
    "#]]
    .assert_eq(&table);
}

#[tokio::test]
async fn a_message_that_reopens_may_raise_the_priority_and_never_lowers_it() {
    let mut desk = Desk::new().await;
    desk.configure(|policy| policy.rules = rules());
    let mut priorities = Vec::new();
    for text in ["Hi", "I call my lawyer.", "Hi again"] {
        desk.deliver([mail("ada@example.com", text)]).await;
        priorities.push(desk.conversation(1).await.priority);
        desk.resolve(1).await;
    }
    assert_eq!(
        priorities,
        [Priority::Normal, Priority::Urgent, Priority::Urgent]
    );
}
