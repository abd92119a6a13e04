//! A report for whoever runs the installation.

use crate::support::chat;

use super::served::Served;

#[tokio::test]
async fn an_administrator_of_everything_gets_a_report_and_nobody_else() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "where is my order?")]).await;
    let token = served.token("admin", "ada", &[], &[]).await;
    let answer = served.get(&token, "/v1/reconciliation").send().await.ok();
    assert_eq!(answer["outcome"], "incomplete", "{answer}");
    let channels = answer["channels"].as_array().unwrap();
    let chat = channels.iter().find(|one| one["channel"] == "shop-chat");
    let chat = chat.expect("the channel that it came to");
    assert_eq!(chat["provider"]["state"], "cannot_be_asked");
    assert_eq!(chat["accepted"]["messages"], 1);
    assert_eq!(chat["routed"]["in_queues"], 1);
    assert!(!answer.to_string().contains("order"), "nobody's words");
    for (query, field) in [
        ("?channel=elsewhere", "channel"),
        ("?since=yesterday", "since"),
        ("?since=2999-01-01T00:00:00Z", "since"),
    ] {
        let path = format!("/v1/reconciliation{query}");
        let refused = served.get(&token, &path).send().await;
        let problem = refused.problem(400, "bad-request");
        assert!(problem.to_string().contains(field), "{problem}");
    }
    let narrow = served.token("admin", "bob", &["frontline"], &[]).await;
    let of_brand = served.token("admin", "cid", &[], &["main"]).await;
    for token in [narrow, of_brand] {
        let refused = served.get(&token, "/v1/reconciliation").send().await;
        refused.problem(403, "forbidden");
    }
}
