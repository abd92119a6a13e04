//! Health, metrics, version, documentation: what needs no token.

use serde_json::{Value, json};
use switchboard::health::State;

use super::served::Served;

#[tokio::test]
async fn readiness_is_that_of_the_parts_and_not_of_the_channels() {
    let served = Served::new().await;
    served.get("", "/livez").send().await.ok();
    let starting = served.get("", "/readyz").send().await;
    assert_ne!(starting.header("retry-after"), "");
    starting.problem(503, "not-ready");
    served.health.set("router", State::Ready);
    served.health.set(
        "channel:support-mail",
        State::Unreachable {
            reason: "no route".to_owned(),
        },
    );
    let ready = served.get("", "/readyz").send().await.ok();
    assert_eq!(ready["ready"], true);
    assert_eq!(
        ready["states"]["channel:support-mail"]["state"],
        "unreachable"
    );
    served.health.set(
        "router",
        State::Unreachable {
            reason: "the store is gone".to_owned(),
        },
    );
    let problem = served
        .get("", "/readyz")
        .send()
        .await
        .problem(503, "not-ready");
    assert_eq!(
        problem["detail"],
        "router is unreachable; `switchboard doctor` says what to do"
    );
    assert_eq!(problem["states"]["router"]["reason"], "the store is gone");
}

#[tokio::test]
async fn the_build_names_itself_and_metrics_are_prometheus_text() {
    let served = Served::new().await;
    let version = served.get("", "/version").send().await.ok();
    let expected = json!({
        "name": "switchboard", "version": env!("CARGO_PKG_VERSION"), "commit": version["commit"], "schema": switchboard::store::rows::migrations::SCHEMA_VERSION,
        "instance": "an-instance"
    });
    assert_eq!(version, expected);
    let metrics = served.get("", "/metrics").send().await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    metrics.is(200);
}

#[tokio::test]
async fn the_documentation_page_loads_nothing_from_outside_and_runs_nothing_inline() {
    let served = Served::new().await;
    let page = served.get("", "/docs").send().await;
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(
        page.text
            .contains("<script src=\"docs/app.js\" defer></script>")
    );
    for inline in ["<style", "onclick", "onload", "<script>"] {
        assert!(!page.text.contains(inline), "{inline}");
    }
    let mut all = page.text.clone();
    for (asset, content_type) in [
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
    ] {
        let answer = served.get("", &format!("/docs/{asset}")).send().await;
        assert_eq!(answer.header("content-type"), content_type);
        all.push_str(&answer.text);
    }
    for outside in [
        "http://",
        "https://",
        ": url(",
        "@import",
        "innerHTML",
        "eval(",
    ] {
        assert!(!all.contains(outside), "{outside}");
    }
    served
        .get("", "/docs/other.js")
        .send()
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn the_served_document_is_that_of_the_build() {
    let served = Served::new().await;
    let document = served.get("", "/openapi.json").send().await.ok();
    let built: Value =
        serde_json::from_str(&switchboard::api::openapi().to_json().unwrap()).unwrap();
    assert_eq!(document, built);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_problems_too() {
    let served = Served::new().await;
    for path in [
        "/",
        "/v1",
        "/v2/queues",
        "/v1/queues/",
        "/hooks",
        "/v1/conversations/a/b/c",
    ] {
        served.get("", path).send().await.problem(404, "not-found");
    }
    let cases = [
        ("DELETE", "/v1/queues", "GET"),
        ("GET", "/hooks/shop-chat", "POST"),
        ("PUT", "/v1/conversations/x/messages", "POST"),
    ];
    for (method, path, allowed) in cases {
        let answer = served.call(method.parse().unwrap(), "", path).send().await;
        assert!(
            answer.header("allow").contains(allowed),
            "{path}: {:?}",
            answer.headers
        );
        answer.problem(405, "method-not-allowed");
    }
}

#[tokio::test]
async fn answers_of_the_api_are_not_kept_by_caches() {
    let served = Served::new().await;
    let token = served.agent("ada").await;
    let answer = served.get(&token, "/v1/queues").send().await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.header("content-security-policy"),
        "default-src 'none'; frame-ancestors 'none'"
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}
