//! A daemon whose files are in a bucket of a foreign S3 store.

use connector_api::Bytes;
use serde_json::{Value, json};
use switchboard::blobs::{hex, sha256};

use super::process::{Installation, PATIENCE, chat, chat_config};
use crate::peers::{self, Chaos, S3, wait_until};

fn film(seed: u8) -> Vec<u8> {
    (0..100_000).map(|at| (at % 241) as u8 ^ seed).collect()
}

fn with_film(key: &str, seed: u8) -> Value {
    use base64::Engine as _;

    let mut message = chat(key, &format!("cust-{key}"), "It came like this.");
    let content = base64::engine::general_purpose::STANDARD.encode(film(seed));
    message["attachments"] =
        json!([{ "name": "film.bin", "content_type": "image/png", "base64": content }]);
    message
}

fn object(content: &[u8]) -> String {
    let name = hex(&sha256(content));
    format!("shop/{}/{name}", name.split_at(2).0)
}

fn state(daemon: &Installation) -> (String, String) {
    let answer = daemon.http.get(daemon.url("/readyz")).send().unwrap();
    let states: Value = serde_json::from_str(&answer.text().unwrap()).unwrap();
    let text = |field: &str| {
        let state = &states["states"]["blobs"][field];
        state.as_str().unwrap_or_default().to_owned()
    };
    (text("state"), text("reason"))
}

#[test]
fn files_go_into_the_bucket_and_out_of_it_and_nothing_is_acknowledged_while_it_is_away() {
    if !peers::enabled() {
        return;
    }
    let s3 = S3::start();
    let chaos = Chaos::start(s3.port);
    let config = format!(
        "[store]\nblobs_url = \"s3://switchboard/shop\"\nblobs_endpoint = \"http://127.0.0.1:{}\"\n\
         blobs_access_key = {{ file = \"{{dir}}/access\" }}\nblobs_secret_key = {{ file = \"{{dir}}/secret-key\" }}\n{}",
        chaos.port,
        chat_config("http://127.0.0.1:9/none")
    );
    let prepared = || {
        let daemon = Installation::new(&config);
        let home = daemon.config().parent().unwrap().to_owned();
        std::fs::write(home.join("access"), &s3.access_key).unwrap();
        std::fs::write(home.join("secret-key"), &s3.secret_key).unwrap();
        daemon
    };
    let daemon = prepared();
    // Away at the start: up, and it says so.
    chaos.cut_after_bytes(1);
    daemon.run();
    wait_until("the state", PATIENCE, || state(&daemon).0 == "degraded");
    let status = |message: &Value| daemon.hook("shop-chat", message).unwrap().status().as_u16();
    assert_eq!(status(&with_film("m-1", 1)), 503);
    assert_eq!(status(&chat("m-0", "cust-0", "No file.")), 200);
    chaos.heal();
    wait_until("it to heal", PATIENCE, || state(&daemon).0 == "ready");
    assert_eq!(status(&with_film("m-1", 1)), 200);
    let token = daemon.token("ada");
    let read = |conversation: &Value| {
        let id = conversation["id"].as_str().unwrap();
        let file = daemon.messages(&token, id)[0]["attachments"][0]["id"].clone();
        let path = format!("/v1/attachments/{}", file.as_str().unwrap());
        let request = daemon.http.get(daemon.url(&path)).bearer_auth(&token);
        let answer = request.send().unwrap();
        (answer.status().as_u16(), answer.bytes().unwrap())
    };
    let first = daemon.claim(&token, "frontline").expect("a conversation");
    let second = daemon.claim(&token, "frontline").expect("a conversation");
    let has_film = |one: &&Value| {
        let id = one["id"].as_str().unwrap();
        !daemon.messages(&token, id)[0]["attachments"][0].is_null()
    };
    let film_of = [&first, &second].into_iter().find(has_film).unwrap();
    assert_eq!(read(film_of), (200, Bytes::from(film(1))));
    assert!(s3.names().contains(&object(&film(1))));

    // Away in flight.
    chaos.cut_after_bytes(1);
    chaos.cut_all();
    assert_eq!(status(&with_film("m-2", 2)), 503);
    let (state_now, reason) = state(&daemon);
    assert_eq!(state_now, "degraded");
    assert!(reason.contains("store.blobs_endpoint"), "{reason}");
    assert_eq!(read(film_of).0, 503);
    chaos.heal();
    wait_until("it to heal", PATIENCE, || state(&daemon).0 == "ready");
    assert_eq!(status(&with_film("m-2", 2)), 200);

    // Another installation would remove what only this one knows.
    let other = prepared();
    let ended = other.command(&["run", "--listen", &other.address]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        !ended.status.success()
            && said.contains("switchboard/shop")
            && said.contains("of another installation"),
        "{said}"
    );

    // What no row names goes, what one names stays.
    let orphan = object(b"nobody names it");
    s3.put(&orphan, "nobody names it");
    assert!(daemon.terminate());
    daemon.run();
    wait_until("the orphan to go", PATIENCE, || {
        !s3.names().contains(&orphan)
    });
    let names = s3.names();
    assert!(names.contains(&object(&film(1))) && names.contains(&object(&film(2))));
    let log = daemon.log_text();
    assert!(!log.contains(&s3.secret_key) && !log.contains(&s3.access_key));
}
