//! Files that came as a reference are fetched after their message is filed, with tries over hours,
//! and what became of each is a state that the message shows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use switchboard::inbound::attachments::Fetcher;
use switchboard::store::attachments::FETCH_ATTEMPTS_MAX;
use switchboard::store::{AttachmentState, StoredAttachment};
use switchboard::wake::Wakes;

use crate::support::{Desk, Said, channels, chat, delete, supervisor};

type Answers = Arc<Mutex<VecDeque<u16>>>;

/// A shop's file server on loopback: answers with these statuses in turn, then with 200.
async fn shop(statuses: impl IntoIterator<Item = u16>) -> (u16, Answers) {
    async fn answer(State(answers): State<Answers>) -> impl IntoResponse {
        let status = answers.lock().unwrap().pop_front().unwrap_or(200);
        let status = StatusCode::from_u16(status).unwrap();
        (status, [(header::CONTENT_TYPE, "image/png")], "photo")
    }
    let answers: Answers = Arc::new(Mutex::new(statuses.into_iter().collect()));
    let app = Router::new().fallback(answer).with_state(answers.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (port, answers)
}

fn fetcher(desk: &Desk) -> Fetcher {
    let channels: BTreeMap<_, _> = channels()
        .into_values()
        .map(|channel| (channel.id.clone(), Arc::new(channel)))
        .collect();
    Fetcher::new(
        desk.store().clone(),
        Arc::new(channels).into(),
        desk.blobs.clone(),
        desk.clock.clone(),
        Arc::new(Wakes::default()),
    )
}

/// A message whose file is at a loopback address under this name.
fn photo(host: &str, port: u16) -> Said {
    chat("cust-7", "See this.")
        .key("m-1")
        .file_at("photo.png", &format!("http://{host}:{port}/photo.png"))
}

async fn file(desk: &Desk) -> StoredAttachment {
    let message = desk.messages(1).await[0].id;
    let store = desk.store();
    let found = store.attachment(supervisor(), message, 0).await.unwrap();
    found.expect("the file of the message")
}

#[tokio::test]
async fn a_file_is_fetched_once_its_message_is_filed_also_after_a_crash() {
    let (port, _) = shop([]).await;
    let mut desk = Desk::new().await;
    desk.accept([photo("127.0.0.1", port)]).await.unwrap();
    assert_eq!(fetcher(&desk).fetch_due().await, Ok(0), "not filed yet");
    desk.route(10).await;
    assert_eq!(file(&desk).await.standing.state, AttachmentState::Pending);
    desk.crash().await;
    assert_eq!(fetcher(&desk).fetch_due().await, Ok(1));
    desk.crash().await;
    let file = file(&desk).await;
    assert_eq!(file.standing.state, AttachmentState::Stored);
    assert_eq!(file.standing.size_bytes, Some(5));
    assert_eq!(
        file.standing.content_type, "image/png",
        "nobody said another"
    );
    assert_eq!(file.inline.as_deref(), Some(&b"photo"[..]));
    assert_eq!(fetcher(&desk).fetch_due().await, Ok(0));
}

#[tokio::test]
async fn a_file_on_a_private_host_is_not_fetched_unless_the_channel_names_it() {
    let (port, answers) = shop([200]).await;
    let mut desk = Desk::new().await;
    desk.deliver([photo("localhost", port)]).await;
    fetcher(&desk).fetch_due().await.unwrap();
    let standing = file(&desk).await.standing;
    assert_eq!(standing.state, AttachmentState::Failed);
    let reason = standing.reason.unwrap();
    assert!(reason.contains("attachment_hosts"), "{reason}");
    assert_eq!(answers.lock().unwrap().len(), 1, "nobody asked the host");
}

#[tokio::test]
async fn what_may_come_back_is_tried_again_over_hours_and_then_given_up() {
    let (port, answers) = shop([503]).await;
    let mut desk = Desk::new().await;
    desk.deliver([photo("127.0.0.1", port)]).await;
    let fetcher = fetcher(&desk);
    assert_eq!(fetcher.fetch_due().await, Ok(1));
    let standing = file(&desk).await.standing;
    assert_eq!(standing.state, AttachmentState::Pending);
    assert!(standing.reason.unwrap().contains("503"));
    assert_eq!(fetcher.fetch_due().await, Ok(0), "not at once");
    answers.lock().unwrap().extend([503; 20]);
    let mut tries = 1;
    for _ in 0..100 {
        desk.later(Duration::from_secs(30 * 60));
        tries += fetcher.fetch_due().await.unwrap();
    }
    assert_eq!(tries, FETCH_ATTEMPTS_MAX as usize);
    let standing = file(&desk).await.standing;
    assert_eq!(standing.state, AttachmentState::Failed);
    assert!(standing.reason.unwrap().contains("given up"));
}

#[tokio::test]
async fn a_second_try_can_succeed_and_a_refusal_is_final() {
    for (status, expected) in [
        (503, AttachmentState::Stored),
        (404, AttachmentState::Failed),
    ] {
        let (port, _) = shop([status]).await;
        let mut desk = Desk::new().await;
        desk.deliver([photo("127.0.0.1", port)]).await;
        let fetcher = fetcher(&desk);
        fetcher.fetch_due().await.unwrap();
        desk.hours_later(1);
        fetcher.fetch_due().await.unwrap();
        assert_eq!(file(&desk).await.standing.state, expected, "{status}");
    }
}

#[tokio::test]
async fn redelivered_and_deleted_messages_have_nothing_fetched() {
    let (port, answers) = shop([200, 200]).await;
    let mut desk = Desk::new().await;
    let again = photo("127.0.0.1", port);
    desk.deliver([again.clone(), again]).await;
    assert_eq!(desk.store().counts().await.unwrap().fetches, 1);
    desk.deliver([delete("m-1")]).await;
    assert_eq!(fetcher(&desk).fetch_due().await, Ok(0));
    assert_eq!(desk.store().counts().await.unwrap().fetches, 0);
    desk.deliver([delete("m-2"), photo("127.0.0.1", port).key("m-2")])
        .await;
    assert_eq!(
        desk.store().counts().await.unwrap().fetches,
        0,
        "deleted before"
    );
    assert_eq!(answers.lock().unwrap().len(), 2, "nobody asked the shop");
}
