//! Requests made to cost: JSON of any depth and shape, bodies and heads that never end, bodies that
//! unpack. Each has a clear answer within its time and memory, and whoever asks meanwhile is served.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream as Blocking;
use std::time::Duration;

use serde_json::Value;
use switchboard::api::Deadlines;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::served::Served;
use crate::daemon::process::{Installation, PATIENCE, chat, chat_config, sign};
use crate::peers::wait_until;
use crate::support::{chat as said, within_patience};

/// Clients that are slow on purpose, at once.
const SLOW: usize = 200;

/// What bodies without an end may add to the memory of a daemon.
const ADDED_BYTES_MAX: u64 = 20_000_000;

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    [open.repeat(depth).as_str(), inner, &close.repeat(depth)].concat()
}

/// JSON that parsers broke on, and the answers that are clear.
fn json_bombs() -> Vec<(String, String, &'static [u16])> {
    let mut bombs = Vec::new();
    let in_field = |value: &str| format!("{{\"text\":{value}}}");
    for depth in [1, 64, 126, 127, 128, 129, 1_000, 100_000, 400_000] {
        let shapes = [
            ("[", "", "]"),
            ("{\"a\":", "1", "}"),
            ("[{\"a\":", "[]", "}]"),
        ];
        for (open, inner, close) in shapes {
            let value = nested(open, inner, close, depth);
            bombs.push((
                format!("depth {depth} of {open}"),
                in_field(&value),
                &[400, 413, 422][..],
            ));
        }
    }
    bombs.push((
        "depth 1,000,000, open".to_owned(),
        "[".repeat(1_000_000),
        &[400, 422],
    ));
    for (what, value, expected) in [
        (
            "no number of a machine",
            "1".repeat(100_000),
            &[400, 422][..],
        ),
        ("a huge exponent", "1e999999999".to_owned(), &[400, 422]),
        ("a tiny exponent", "1e-999999999".to_owned(), &[400, 422]),
        ("a lone surrogate", "\"\\ud800\"".to_owned(), &[400]),
        (
            "surrogates the wrong way round",
            "\"\\udc00\\ud800\"".to_owned(),
            &[400],
        ),
        ("a NUL", "\"a\\u0000b\"".to_owned(), &[201, 422]),
        (
            "bidirectional marks",
            "\"\\u202eabc\"".to_owned(),
            &[201, 422],
        ),
        (
            "one letter with 100,000 marks",
            format!("\"a{}\"", "\\u0301".repeat(90_000)),
            &[201, 422],
        ),
    ] {
        bombs.push((what.to_owned(), in_field(&value), expected));
    }
    let equal = "\"text\":\"a\",".repeat(10_000);
    bombs.push((
        "equal keys".to_owned(),
        format!("{{{equal}\"text\":\"last\"}}"),
        // The last one counts.
        &[201],
    ));
    let many: Vec<String> = (0..60_000).map(|key| format!("\"k{key}\":0")).collect();
    bombs.push((
        "60,000 keys".to_owned(),
        format!("{{{}}}", many.join(",")),
        &[422],
    ));
    bombs.push((
        "a long key".to_owned(),
        format!("{{\"{}\":0}}", "k".repeat(900_000)),
        &[422],
    ));
    bombs
}

#[tokio::test]
async fn json_of_any_depth_and_shape_has_a_clear_answer() {
    let mut served = Served::new().await;
    served.deliver([said("cust-7", "Hello")]).await;
    let sue = served.supervisor().await;
    let note = format!("/v1/conversations/{}/notes", served.conversation(1).await);
    for (what, body, expected) in json_bombs() {
        let call = served
            .post(&sue, &note)
            .header("Content-Type", "application/json");
        let answer = call.body(body).send().await;
        assert!(
            expected.contains(&answer.status.as_u16()),
            "{what}: {} {}",
            answer.status,
            answer.text
        );
        let is_brief = answer.status.is_success() || answer.text.len() < 4_000;
        assert!(is_brief, "{what}: {} bytes of answer", answer.text.len());
    }
    let query = format!("/v1/search?q={}", "%28".repeat(10_000));
    let long = served.get(&sue, &query).send().await;
    assert!(
        matches!(long.status.as_u16(), 400 | 414 | 422),
        "{}",
        long.status
    );
}

#[tokio::test]
async fn a_body_that_would_have_to_be_unpacked_is_refused_by_name() {
    let mut served = Served::new().await;
    served.deliver([said("cust-7", "Hello")]).await;
    let sue = served.supervisor().await;
    let note = format!("/v1/conversations/{}/notes", served.conversation(1).await);
    for path in ["/hooks/shop-chat", note.as_str(), "/v1/uploads?name=a.gz"] {
        for coding in ["gzip", "br", "deflate", "zstd", "gzip, gzip", "x-unknown"] {
            let call = served
                .post(&sue, path)
                .header("Content-Type", "application/json");
            let call = call
                .header("Content-Encoding", coding)
                .body(b"\x1f\x8b\x08\0".to_vec());
            let problem = call.send().await.problem(415, "unsupported-media-type");
            assert!(
                problem["detail"]
                    .as_str()
                    .unwrap()
                    .contains("Content-Encoding"),
                "{problem}"
            );
        }
    }
    let plain = served
        .post(&sue, &note)
        .header("Content-Type", "application/json");
    let plain = plain
        .header("Content-Encoding", "identity")
        .body(b"{\"text\":\"Hi\"}".to_vec());
    plain.send().await.is(201);
}

/// How a client is slow.
const MANNERS: [&str; 4] = [
    "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "POST /hooks/shop-chat HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n",
    "POST /hooks/shop-chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /v1/conversations/cnv_1/notes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n",
];

#[tokio::test]
async fn slow_clients_are_cut_off_in_time_and_keep_nobody_waiting() {
    let deadlines = Deadlines {
        head: Duration::from_secs(2),
        body: Duration::from_secs(2),
        ..Deadlines::default()
    };
    let served = Served::with_deadlines(deadlines).await;
    let token = served.supervisor().await;
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let manner = MANNERS[number % MANNERS.len()].replace("TOKEN", &token);
        let is_chunked = manner.contains("chunked");
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(manner.as_bytes()).await.unwrap();
        slow.push(tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            // A byte now and then, for as long as it is taken.
            let drip = tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(100));
                let byte: &[u8] = if is_chunked { b"1\r\nx\r\n" } else { b"x" };
                loop {
                    ticks.tick().await;
                    if writer.write_all(byte).await.is_err() {
                        return;
                    }
                }
            });
            let mut answer = Vec::new();
            drop(reader.read_to_end(&mut answer).await);
            drip.abort();
            String::from_utf8_lossy(&answer).into_owned()
        }));
    }
    for _ in 0..50 {
        served.get(&token, "/v1/queues").send().await.ok();
        let hook = served.post("", "/hooks/shop-chat").body(b"{}".to_vec());
        hook.send().await.ok();
    }
    let mut refused = 0;
    for client in slow {
        let answer = within_patience("cutting a slow client off", client)
            .await
            .unwrap();
        refused += usize::from(answer.starts_with("HTTP/1.1 408"));
        let is_clear = answer.is_empty() || answer.starts_with("HTTP/1.1 408");
        assert!(is_clear, "{answer}");
    }
    assert_eq!(refused, SLOW / 4 * 3, "who has sent its head is told why");
    served.get(&token, "/v1/queues").send().await.ok();
}

/// Resident memory of a process, in bytes; the most it ever was as `VmHWM`.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse::<u64>().unwrap() * 1024
}

/// Sends a head and then the same piece for as long as it is taken; gives the status.
fn pour(address: &str, head: &str, piece: &[u8]) -> u16 {
    let mut stream = Blocking::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    while !piece.is_empty() && sent < 64 * 1024 * 1024 && stream.write_all(piece).is_ok() {
        sent += piece.len();
    }
    let mut answer = [0; 12];
    // A connection that is cut while we still send may take its answer along.
    match stream.read_exact(&mut answer) {
        Ok(()) => String::from_utf8_lossy(&answer[9..]).parse().unwrap(),
        Err(_) => 0,
    }
}

#[test]
fn bodies_of_ten_gigabytes_and_without_an_end_cost_a_daemon_no_memory() {
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/none"));
    let token = daemon.token("ada");
    let id = "x";
    // Everything that runs for the first time has run.
    daemon
        .hook("shop-chat", &chat("m-1", "cust-7", "Hello"))
        .unwrap();
    wait_until("the first message", PATIENCE, || {
        daemon.conversations(&token).len() == 1
    });
    let before = resident(daemon.pid());
    let post = |path: &str, further: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{further}\r\n"
        )
    };
    let chunk = [b"10000\r\n".to_vec(), vec![b'['; 0x10000], b"\r\n".to_vec()].concat();
    let note = "/v1/conversations/cnv_1/notes";
    let mut told = 0;
    for _ in 0..50 {
        for path in ["/hooks/shop-chat", note] {
            let announced = pour(
                &daemon.address,
                &post(path, "Content-Length: 10737418240\r\n"),
                b"",
            );
            assert_eq!(announced, 413, "{path}");
        }
    }
    for _ in 0..5 {
        let endless = pour(
            &daemon.address,
            &post(note, "Transfer-Encoding: chunked\r\n"),
            &chunk,
        );
        assert!(matches!(endless, 0 | 413), "{endless}");
        told += usize::from(endless == 413);
        let head = pour(&daemon.address, "GET /livez HTTP/1.1\r\nX: ", &[b'x'; 4096]);
        assert!(matches!(head, 0 | 400 | 431), "{head}");
    }
    // Signed by whoever has the key, and as deep as a hook may be large.
    let now = crate::daemon::process::now();
    for depth in [100, 1_000, 1_000_000, 4_000_000] {
        let body = nested("{\"a\":", "1", "}", depth / 3);
        let request = daemon.http.post(daemon.url("/hooks/shop-chat"));
        let request = request
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string());
        let request = request
            .header("webhook-signature", sign(id, now, &body))
            .body(body);
        let answer = request.send().unwrap();
        assert_eq!(answer.status().as_u16(), 400, "depth {depth}");
    }
    let added = resident(daemon.pid()).saturating_sub(before);
    assert!(
        added <= ADDED_BYTES_MAX,
        "{added} bytes more than before; {told} were told"
    );
    // And it works on.
    daemon
        .hook("shop-chat", &chat("m-2", "cust-8", "Hello"))
        .unwrap();
    wait_until("a message", PATIENCE, || {
        daemon.conversations(&token).len() == 2
    });
    let version: Value = daemon.get(&token, "/version");
    assert_eq!(version["name"], "switchboard");
}
