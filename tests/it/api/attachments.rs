//! Files of messages: listed with their state, and read only by who may see the message.

use expect_test::expect;
use serde_json::Value;

use super::served::{Served, numbered};
use crate::support::{chat, delete, mail};

/// The attachments of the newest message of the first conversation.
async fn listed(served: &Served, token: &str) -> Value {
    let id = served.conversation(1).await;
    let path = format!("/v1/conversations/{id}/messages");
    served.get(token, &path).send().await.ok()["items"][0]["attachments"].clone()
}

fn path_of(attachment: &Value) -> String {
    format!("/v1/attachments/{}", attachment["id"].as_str().unwrap())
}

#[tokio::test]
async fn files_are_listed_with_their_state() {
    let mut served = Served::new().await;
    let said = chat("cust-7", "See these.")
        .attachment("note.txt", b"hello")
        .file_at("photo.jpg", "https://shop.example/photo.jpg?token=secret");
    served.deliver([said]).await;
    let token = served.agent("ada").await;
    let attachments = listed(&served, &token).await;
    expect![[r#"
        [
          {
            "content_id": null,
            "content_type": "application/octet-stream",
            "id": "att_1",
            "inline": false,
            "name": "note.txt",
            "reason": null,
            "size_bytes": 5,
            "state": "stored"
          },
          {
            "content_id": null,
            "content_type": "application/octet-stream",
            "id": "att_2",
            "inline": false,
            "name": "photo.jpg",
            "reason": null,
            "size_bytes": null,
            "state": "pending"
          }
        ]"#]]
    .assert_eq(&numbered(&attachments));
    let stored = served.get(&token, &path_of(&attachments[0])).send().await;
    assert_eq!(stored.text, "hello");
    let pending = served.get(&token, &path_of(&attachments[1])).send().await;
    pending.problem(409, "attachment-not-stored");
}

#[tokio::test]
async fn a_file_is_given_to_be_saved_and_not_to_be_shown() {
    let mut served = Served::new().await;
    let page: &'static [u8] = b"<script>alert(document.domain)</script>";
    let large: &'static [u8] = vec![b'x'; 300 * 1024].leak();
    let said = mail("ada@customer.example", "See these.")
        .attachment("page \"1\".html", page)
        .attachment("film.mp4", large);
    served.deliver([said]).await;
    let token = served.agent("ada").await;
    let attachments = listed(&served, &token).await;
    let answer = served.get(&token, &path_of(&attachments[0])).send().await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(
        answer
            .header("content-security-policy")
            .ends_with("sandbox")
    );
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"page _1_.html\"; filename*=UTF-8''page%20%221%22.html"
    );
    let answer = served.get(&token, &path_of(&attachments[1])).send().await;
    assert_eq!(answer.header("content-length"), "307200");
    assert!(answer.text.as_bytes() == large, "a file of the blob store");
}

#[tokio::test]
async fn who_may_not_see_the_message_finds_no_file() {
    let mut served = Served::new().await;
    let said = chat("cust-7", "See this.")
        .key("m-1")
        .attachment("note.txt", b"hello");
    served.deliver([said]).await;
    let token = served.agent("ada").await;
    let path = path_of(&listed(&served, &token).await[0]);
    for (role, queues, brands, status) in [
        ("agent", &["backoffice"][..], &[][..], 404),
        ("agent", &[], &["outlet"], 404),
        ("admin", &[], &[], 403),
        ("connector", &[], &[], 403),
        ("agent", &["frontline"], &["main"], 200),
        ("reader", &[], &[], 200),
    ] {
        let other = served.token(role, "bob", queues, brands).await;
        let answer = served.get(&other, &path).send().await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{role} {queues:?} {brands:?}"
        );
    }
    served
        .get("", &path)
        .send()
        .await
        .problem(401, "unauthorized");
    let strange = format!("/v1/attachments/att_{}", "0".repeat(32));
    served
        .get(&token, &strange)
        .send()
        .await
        .problem(404, "not-found");
    served.deliver([delete("m-1")]).await;
    let deleted = served.get(&token, &path).send().await;
    deleted.problem(404, "not-found");
    assert_eq!(listed(&served, &token).await, serde_json::json!([]));
}
