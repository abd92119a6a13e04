//! Addresses that strangers give: nothing on this machine or in its network is reached, however it
//! is spelled, and by whatever path a request leaves.

use std::fs;
use std::path::Path;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_api::Bytes;
use switchboard::http::egress::{Egress, FetchError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// Somebody who should never be asked, and how often it was.
async fn canary(address: &str) -> Option<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind((address, 0)).await.ok()?;
    let port = listener.local_addr().ok()?.port();
    let asked = Arc::<AtomicUsize>::default();
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret";
            drop(stream.write_all(answer).await);
        }
    });
    Some((port, asked))
}

/// Ways to spell this machine and what is behind it.
fn spellings() -> Vec<String> {
    let mut hosts: Vec<String> = [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "0",
        "0.0.0.0",
        "0x0",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "0177.1",
        "127.0.0.0x1",
        "127.0x1",
        "00000177.0.0.01",
        "0x7F.0x0.0x0.0x1",
        "0x0000007f.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "LocalHost",
        "ｌｏｃａｌｈｏｓｔ",
        "%6c%6f%63alhost",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127｡0｡0｡1",
        "127．0．0．1",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[0000::0001]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[::1%25lo]",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "168.63.129.16",
        "198.18.0.1",
        "user@127.0.0.1",
        "user:pass@127.0.0.1",
        "1.1.1.1@127.0.0.1",
        "example.com@localhost",
        "example.com%40127.0.0.1",
        "127.0.0.1\\@example.com",
        "example.com\\@127.0.0.1",
        "\t127.0.0.1",
        "127.0.0.1\u{200b}",
        "127.0.0.1%00",
        "127.0.0.1%20",
        "127.0.0.1\u{ad}",
    ]
    .map(str::to_owned)
    .into();
    // All other addresses that are this machine, in each base.
    for tail in [2_u32, 77, 4_660, 65_535, 16_777_214] {
        let bits = 0x7f00_0000 + tail;
        hosts.extend([
            format!("{bits}"),
            format!("0x{bits:x}"),
            format!("0{bits:o}"),
            format!("127.{tail}"),
            format!("0x7f.{tail}"),
            format!("0177.0x{tail:x}"),
            format!("[::ffff:{:x}:{:x}]", bits >> 16, bits & 0xffff),
            format!("[64:ff9b::{:x}:{:x}]", bits >> 16, bits & 0xffff),
            format!("[::{:x}:{:x}]", bits >> 16, bits & 0xffff),
        ]);
    }
    for scheme in ["HTTP", "hTTp"] {
        hosts.push(format!("{scheme}://127.0.0.1"));
    }
    hosts
}

/// Mailpit had the same hole three times, each in a path beside the one that was mended.
#[tokio::test]
async fn cve_2026_27808_no_spelling_of_a_private_address_is_reached_by_fetch_post_or_redirect() {
    let egress = Egress::new(&[]).unwrap();
    let mut canaries = vec![canary("127.0.0.1").await.unwrap()];
    canaries.extend(canary("::1").await);
    let mut tried = 0;
    for (port, _) in &canaries {
        for host in spellings() {
            for end in ["/x", "", "/x?a=b", "/%2e%2e/x", "#@example.com/"] {
                let url = match host.contains("://") {
                    true => format!("{host}:{port}{end}"),
                    false => format!("http://{host}:{port}{end}"),
                };
                let fetched = egress.fetch(&url, 1_000).await;
                assert!(fetched.is_err(), "{url} was fetched");
                tried += 1;
            }
            let url = format!("http://{host}:{port}/x");
            let posted = egress.post(&url, &[], Bytes::from_static(b"{}")).await;
            assert!(posted.is_err(), "{url} was posted to");
        }
    }
    assert!(tried >= 500, "{tried}");
    for (_, asked) in &canaries {
        assert_eq!(asked.load(Ordering::SeqCst), 0, "somebody got through");
    }
    for scheme in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1:1/x",
        "data:,x",
        "//127.0.0.1/x",
    ] {
        let refused = egress.fetch(scheme, 1_000).await;
        assert!(
            matches!(refused, Err(FetchError::Refused(_))),
            "{scheme}: {refused:?}"
        );
    }
    // A host that may be asked does not vouch for where it sends us.
    let trusted = Egress::new(&["127.0.0.1".to_owned()]).unwrap();
    let target = Arc::new(canaries[0].0);
    for host in spellings() {
        if host.starts_with("127.0.0.1")
            || host.ends_with("@127.0.0.1")
            || host.contains(char::is_control)
        {
            continue;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = format!("http://{host}:{target}/x");
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            drop(tokio::io::AsyncReadExt::read(&mut stream, &mut head).await);
            drop(stream.write_all(answer.as_bytes()).await);
        });
        let fetched = trusted
            .fetch(&format!("http://127.0.0.1:{port}/"), 1_000)
            .await;
        server.await.unwrap();
        // Some spellings are that host itself once they are read: it is named, so it may be asked.
        let is_itself =
            reqwest::Url::parse(&to).is_ok_and(|url| url.host_str() == Some("127.0.0.1"));
        assert!(fetched.is_err() || is_itself, "{to} was followed");
    }
}

/// The same for the paths that do not exist yet: whoever makes a client that asks strangers' addresses does it here.
#[test]
fn cve_2026_27808_only_the_guarded_client_and_those_for_configured_addresses_exist() {
    // The connectors' client: addresses of configuration, and what SNS names once it is SNS's own.
    const CLIENTS: [&str; 4] = [
        "src/http.rs",
        "src/http/egress.rs",
        "src/cli/demo.rs",
        "src/cli/here.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("connectors")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() && !name.ends_with("tests") && name != "connectors/testkit" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let makes = [
                    "Client::builder()",
                    "Client::new()",
                    "reqwest::get(",
                    "reqwest::blocking",
                ];
                if text.contains("reqwest") && makes.iter().any(|make| text.contains(make)) {
                    found.push(name);
                }
            }
        }
    }
    found.sort();
    let mut expected = CLIENTS.to_vec();
    expected.sort_unstable();
    assert_eq!(
        found, expected,
        "what may a stranger have it fetch? http::egress asks only what is public"
    );
}
