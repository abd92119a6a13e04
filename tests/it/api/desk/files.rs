//! Files of answers, over HTTP.

use serde_json::{Value, json};
use switchboard::outbound::Files;

use super::{desk, held, pick};
use crate::api::served::Served;
use crate::support::chat;

async fn upload(served: &Served, token: &str, name: &str, bytes: &[u8]) -> Value {
    let call = served.post(token, &format!("/v1/uploads?name={name}"));
    let uploaded = call.body(bytes).send().await.is(201);
    uploaded["id"].clone()
}

#[tokio::test]
async fn an_answer_takes_its_uploaded_files_along_once() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let large = vec![b'x'; 100_000];
    let small = upload(&served, &token, "note.txt", b"See page 2.").await;
    let big = upload(&served, &token, "label.bin", &large).await;
    let logo = upload(&served, &token, "logo.png", b"\x89PNG\r\n\x1a\n").await;
    let body = json!({
        "html": "<p>See <img src=\"cid:logo\"></p>",
        "attachments": [small, { "id": big, "name": "Label 17.bin" }, { "id": logo, "content_id": "logo" }],
    });
    let messages = format!("{path}/messages");
    let send = |token: &str, key: &str, body: &Value| {
        let call = served.post(token, &messages).key(key);
        call.json(body).send()
    };
    let sent = send(&token, "k-1", &body).await.is(202);
    let shown: Vec<_> = sent["attachments"].as_array().unwrap().iter().collect();
    let names = [
        "name",
        "content_type",
        "size_bytes",
        "content_id",
        "inline",
        "state",
    ];
    assert_eq!(
        shown
            .iter()
            .map(|file| pick(file, &names))
            .collect::<Value>(),
        json!([
            { "name": "note.txt", "content_type": "application/octet-stream", "size_bytes": 11,
                "content_id": null, "inline": false, "state": "stored" },
            { "name": "Label 17.bin", "content_type": "application/octet-stream", "size_bytes": 100_000,
                "content_id": null, "inline": false, "state": "stored" },
            { "name": "logo.png", "content_type": "image/png", "size_bytes": 8,
                "content_id": "logo", "inline": true, "state": "stored" },
        ])
    );
    for (file, bytes) in [(shown[0], &b"See page 2."[..]), (shown[1], &large)] {
        let path = format!("/v1/attachments/{}", file["id"].as_str().unwrap());
        let got = served.get(&token, &path).send().await;
        assert_eq!(got.text.as_bytes(), bytes);
    }
    // The lane reads both the small ones and the large one.
    let leased = served.desk.lease("support-mail").await.pop().unwrap();
    let files = Files::new(served.desk.store().clone(), served.desk.blobs.clone());
    let files = files.of(&leased).await.unwrap();
    let mut read = Vec::new();
    for file in &files {
        read.push(file.content.whole(file.size_bytes).await.unwrap());
    }
    assert_eq!(read[0].as_ref(), b"See page 2.");
    assert_eq!(read[1].as_ref(), large);
    assert_eq!(files[2].content_id.as_deref(), Some("logo"));

    let again = send(&token, "k-2", &body)
        .await
        .problem(422, "unprocessable");
    assert_eq!(again["field"], "attachments");
    let same_key = send(&token, "k-1", &body).await.is(202);
    assert_eq!(same_key["id"], sent["id"]);
    let sue = served.supervisor().await;
    let hers = upload(&served, &sue, "hers.txt", b"Hers.").await;
    let stolen = json!({ "text": "a", "attachments": [hers] });
    let refused = send(&token, "k-3", &stolen)
        .await
        .problem(422, "unprocessable");
    assert_eq!(refused["field"], "attachments");
    for (wrong, field) in [
        (
            json!({ "text": "a", "attachments": "fil_1" }),
            "attachments",
        ),
        (
            json!({ "text": "a", "attachments": ["fil_1"] }),
            "attachments",
        ),
        (
            json!({ "text": "a", "attachments": [{ "id": hers, "content_id": "a b" }] }),
            "content_id",
        ),
        (
            json!({ "text": "a", "attachments": [{ "id": hers, "size": 1 }] }),
            "size",
        ),
    ] {
        let problem = send(&token, "k-4", &wrong)
            .await
            .problem(422, "unprocessable");
        assert_eq!(problem["field"], field, "{wrong}");
    }
}

#[tokio::test]
async fn a_refused_answer_leaves_its_files_to_the_next_one() {
    let mut served = desk().await;
    served.deliver([chat("cust-7", "Hello?")]).await;
    let token = served.agent("ada").await;
    let id = served.claim(&token, "frontline").await["id"].clone();
    let path = format!("/v1/conversations/{}", id.as_str().unwrap());
    let file = upload(&served, &token, "label.pdf", b"%PDF-1.7").await;
    let body = json!({ "text": "See the file.", "attachments": [file] });
    // The chat takes no files here.
    served
        .post(&token, &format!("{path}/messages"))
        .key("k-1")
        .json(&body)
        .send()
        .await
        .problem(422, "unprocessable");
    let noted = served
        .post(&token, &format!("{path}/notes"))
        .json(&body)
        .send()
        .await
        .is(201);
    assert_eq!(noted["attachments"][0]["content_type"], "application/pdf");
}
