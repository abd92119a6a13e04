//! Browsers: pages of the configured origins may use the API, others may not.

use reqwest::Method;

use super::served::{Answer, ORIGIN, Served};
use crate::support::chat;

const ALLOWED: &str = "access-control-allow-origin";

async fn preflight(served: &Served, origin: &str, path: &str) -> Answer {
    served
        .call(Method::OPTIONS, "", path)
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header(
            "Access-Control-Request-Headers",
            "authorization,idempotency-key,if-match",
        )
        .send()
        .await
}

#[tokio::test]
async fn a_page_of_a_configured_origin_may_ask_and_read_what_it_needs() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let answer = preflight(&served, ORIGIN, "/v1/queues/frontline/claim").await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.header(ALLOWED), ORIGIN);
    assert!(
        answer
            .header("access-control-allow-methods")
            .contains("POST")
    );
    let headers = answer.header("access-control-allow-headers");
    for name in [
        "authorization",
        "idempotency-key",
        "if-match",
        "last-event-id",
        "switchboard-agent",
    ] {
        assert!(headers.contains(name), "{name} of {headers}");
    }
    assert!(
        !answer
            .headers
            .contains_key("access-control-allow-credentials")
    );
    assert!(answer.header("vary").to_lowercase().contains("origin"));
    let token = served.agent("ada").await;
    let id = served.conversation(1).await;
    let path = format!("/v1/conversations/{id}");
    let answer = served
        .get(&token, &path)
        .header("Origin", ORIGIN)
        .send()
        .await;
    assert_eq!(answer.header(ALLOWED), ORIGIN);
    let exposed = answer
        .header("access-control-expose-headers")
        .to_lowercase();
    for name in ["etag", "location", "retry-after", "content-range"] {
        assert!(exposed.contains(name), "{name} of {exposed}");
    }
    answer.ok();
    // Also of what goes wrong: a page could not read why otherwise.
    let refused = served.get("", &path).header("Origin", ORIGIN).send().await;
    assert_eq!(refused.header(ALLOWED), ORIGIN);
    refused.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_page_of_any_other_origin_gets_no_permission() {
    let served = Served::new().await;
    let token = served.agent("ada").await;
    let strange = [
        "https://evil.example",
        "http://desk.example",
        "https://desk.example:8443",
        "https://desk.example.evil.example",
        "https://DESK.example",
        "null",
    ];
    for origin in strange {
        let answer = preflight(&served, origin, "/v1/queues").await;
        assert!(!answer.headers.contains_key(ALLOWED), "{origin}");
        let answer = served
            .get(&token, "/v1/queues")
            .header("Origin", origin)
            .send()
            .await;
        assert!(!answer.headers.contains_key(ALLOWED), "{origin}");
    }
    let answer = served.get(&token, "/v1/queues").send().await;
    assert!(!answer.headers.contains_key(ALLOWED), "no browser");
}
