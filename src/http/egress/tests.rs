use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const BYTES_MAX: u64 = 1_000;

fn public(address: &str) -> bool {
    is_public(address.parse().unwrap())
}

#[test]
fn only_addresses_of_the_public_internet_are_public() {
    for address in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.19.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!public(address), "{address}");
    }
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "223.255.255.255",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00::1",
    ] {
        assert!(public(address), "{address}");
    }
}

/// A server on loopback that answers each path as the table says, and which paths it was asked for.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        break;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let found = answers.iter().find(|(known, _)| *known == path);
                let answer = found.map_or_else(
                    || "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n".to_owned(),
                    |(_, answer)| answer.replace("PORT", &port.to_string()),
                );
                seen.lock().unwrap().push(path);
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Self { port, asked }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }
}

fn ok(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn redirect(to: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
    )
}

async fn server() -> Server {
    let large = "x".repeat(BYTES_MAX as usize + 1);
    let announced = format!("Content-Length: {}\r\n", large.len());
    Server::start(vec![
        (
            "/photo",
            ok("Content-Type: image/png\r\nContent-Length: 5\r\n", "photo"),
        ),
        ("/announced", ok(&announced, &large)),
        ("/endless", ok("", &large)),
        ("/short", ok("Content-Length: 9\r\n", "photo")),
        (
            "/busy",
            "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        ("/moved", redirect("/photo")),
        ("/round", redirect("/round")),
        ("/to-name", redirect("http://localhost:PORT/photo")),
        (
            "/to-address",
            redirect("http://[::ffff:127.0.0.1]:PORT/photo"),
        ),
        (
            "/to-metadata",
            redirect("http://169.254.169.254/latest/meta-data/"),
        ),
        ("/to-file", redirect("file:///etc/passwd")),
    ])
    .await
}

/// What comes of fetching: the bytes, `refused` or `unavailable`.
async fn fetched(hosts: &[&str], url: &str) -> String {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let egress = Egress::new(&hosts).unwrap();
    match egress.fetch(url, BYTES_MAX).await {
        Ok(file) => {
            let content_type = file.content_type.unwrap_or_default();
            format!("{} {content_type}", String::from_utf8_lossy(&file.bytes))
        }
        Err(FetchError::Refused(_)) => "refused".to_owned(),
        Err(FetchError::Unavailable(_)) => "unavailable".to_owned(),
    }
}

#[tokio::test]
async fn a_private_address_is_reached_only_where_the_channel_names_its_host() {
    let server = server().await;
    let photo = "photo image/png";
    for (hosts, host, expected) in [
        (&["127.0.0.1"][..], "127.0.0.1", photo),
        (&["localhost"], "localhost", photo),
        (&["LOCALHOST"], "localhost", photo),
        (&[], "127.0.0.1", "refused"),
        (&[], "localhost", "refused"),
        (&["localhost"], "127.0.0.1", "refused"),
        (&["127.0.0.1"], "localhost", "refused"),
        (&["127.0.0.1"], "[::ffff:127.0.0.1]", "refused"),
        // Other ways to write 127.0.0.1.
        (&[], "2130706433", "refused"),
        (&[], "0x7f.1", "refused"),
        (&[], "0177.0.0.1", "refused"),
        (&[], "[::1]", "refused"),
    ] {
        let came = fetched(hosts, &server.url(host, "/photo")).await;
        assert_eq!(came, expected, "{host} where {hosts:?} are named");
    }
    assert_eq!(
        server.asked.lock().unwrap().len(),
        3,
        "nobody else got through"
    );
}

#[tokio::test]
async fn every_redirect_is_checked_anew() {
    let server = server().await;
    for (path, expected) in [
        ("/moved", "photo image/png"),
        ("/to-name", "refused"),
        ("/to-address", "refused"),
        ("/to-metadata", "refused"),
        ("/to-file", "refused"),
        ("/round", "refused"),
    ] {
        let came = fetched(&["127.0.0.1"], &server.url("127.0.0.1", path)).await;
        assert_eq!(came, expected, "{path}");
    }
    let asked = server.asked.lock().unwrap();
    let photos = asked.iter().filter(|path| *path == "/photo").count();
    assert_eq!(photos, 1, "{asked:?}");
}

#[tokio::test]
async fn what_is_too_large_or_gone_is_refused_and_what_may_come_back_is_not() {
    let server = server().await;
    for (path, expected) in [
        ("/announced", "refused"),
        ("/endless", "refused"),
        ("/gone", "refused"),
        ("/busy", "unavailable"),
        ("/short", "unavailable"),
    ] {
        let came = fetched(&["127.0.0.1"], &server.url("127.0.0.1", path)).await;
        assert_eq!(came, expected, "{path}");
    }
    for url in ["ftp://127.0.0.1/x", "not a url", "http://"] {
        assert_eq!(fetched(&["127.0.0.1"], url).await, "refused", "{url}");
    }
    let closed = fetched(&["127.0.0.1"], "http://127.0.0.1:1/x").await;
    assert_eq!(closed, "unavailable");
}
