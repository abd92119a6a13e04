//! Clients that send slowly, or not at all, hold nothing for long.

use std::time::Duration;

use switchboard::api::Deadlines;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::Served;
use crate::support::within_patience;

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_answered_408() {
    let served = Served::with_deadlines(Deadlines {
        body: SOON,
        ..Deadlines::default()
    })
    .await;
    let token = served.supervisor().await;
    for path in [
        "/hooks/shop-chat",
        "/v1/conversations/cnv_1/messages",
        "/v1/conversations/cnv_1/resolve",
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        );
        let (status, answer) = served.raw(head.as_bytes()).await;
        assert_eq!(status, 408, "{path}: {answer}");
        assert!(answer.contains("request-timeout"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_without_a_whole_head_in_time_is_closed() {
    let served = Served::with_deadlines(Deadlines {
        head: SOON,
        ..Deadlines::default()
    })
    .await;
    for sent in [
        "",
        "GET /livez HTTP/1.1\r\nHost: x\r\n",
        // The pause after a request is bounded, too.
        "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = within_patience("closing", stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{sent:?}: {closed:?}");
        let is_answered = answer.starts_with(b"HTTP/1.1 200");
        assert_eq!(is_answered, sent.ends_with("\r\n\r\n"), "{sent:?}");
    }
}
