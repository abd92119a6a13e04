//! A connector outside of this repository plugs in without a fork.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::process::{Installation, json_of};

#[test]
fn a_connector_of_another_workspace_runs_in_the_daemon() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = root.join("tests/external/Cargo.toml");
    // The same versions as here, so that what is built already is used.
    fs::copy(
        root.join("Cargo.lock"),
        root.join("tests/external/Cargo.lock"),
    )
    .unwrap();
    let deps = std::env::current_exe().unwrap();
    let target = deps.ancestors().nth(3).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(target)
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );

    let daemon = Installation::new(
        "[queues.frontline]\n[channels.night-pager]\nconnector = \"pager\"\nqueue = \"frontline\"\n\
         key = { file = \"{dir}/secret\" }\ngateway_url = \"http://127.0.0.1:9/none\"\n",
    );
    daemon.run_binary(&target.join("debug/switchboard-with-pager"));
    let token = daemon.token_of(&target.join("debug/switchboard-with-pager"), "ada");
    let request = daemon
        .http
        .post(daemon.url("/hooks/night-pager"))
        .bearer_auth(super::process::SECRET);
    let page =
        serde_json::json!({ "page": "p-1", "pager": "door-4", "words": "the gate is stuck" });
    json_of(request.json(&page).send().unwrap());
    let claimed = daemon.claim(&token, "frontline").expect("the page");
    assert_eq!(claimed["messages"][0]["text"], "the gate is stuck");

    // The limits it claims are kept where answers are written.
    let path = format!(
        "/v1/conversations/{}/messages",
        claimed["id"].as_str().unwrap()
    );
    let answer = daemon
        .http
        .post(daemon.url(&path))
        .bearer_auth(token)
        .header("Idempotency-Key", "k-1")
        .json(&serde_json::json!({ "text": "x".repeat(81) }))
        .send()
        .unwrap();
    assert_eq!(answer.status(), 422);
    let problem: serde_json::Value = answer.json().unwrap();
    assert_eq!(problem["type"], "/docs#problem-text-too-long");
    let limit = serde_json::json!({ "name": "text_max", "max": 80, "unit": "characters" });
    assert_eq!(problem["limit"], limit);
}
