//! The loopback address that a browser comes back to (RFC 8252, section 7.3): one port on 127.0.0.1,
//! one page, one answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest request read, in bytes: a browser's headers, and a code of some kilobytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Who says nothing is no browser that comes back.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

pub struct Loopback {
    listener: TcpListener,
    pub port: u16,
}

/// The browser that came back and waits to be told.
pub struct Browser(TcpStream);

impl Loopback {
    pub async fn listen(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// Waits for a request that carries an answer; others (an icon) are not found.
    pub async fn answer(&mut self) -> (String, Browser) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(REQUEST_TIME_MAX).await;
                continue;
            };
            let asked = tokio::time::timeout(REQUEST_TIME_MAX, target_of(&mut stream)).await;
            let Ok(Some(target)) = asked else { continue };
            match target.strip_prefix("/?") {
                Some(query) => return (query.to_owned(), Browser(stream)),
                None => respond(&mut stream, "404 Not Found", "There is nothing here.").await,
            }
        }
    }
}

impl Browser {
    pub async fn tell(mut self, granted: bool) {
        let words = match granted {
            true => "Switchboard has access now. You may close this window.",
            false => "Nothing was granted: the terminal says why.",
        };
        respond(&mut self.0, "200 OK", words).await;
    }
}

/// The target of a GET request.
async fn target_of(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.ok()?;
        request.extend_from_slice(chunk.get(..read)?);
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
    let text = String::from_utf8(request).ok()?;
    let mut words = text.lines().next()?.split(' ');
    let target = words.by_ref().nth(1)?;
    (text.starts_with("GET ")).then(|| target.to_owned())
}

/// A browser that has gone is not told.
async fn respond(stream: &mut TcpStream, status: &str, words: &str) {
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{words}",
        words.len()
    );
    if stream.write_all(response.as_bytes()).await.is_ok() {
        drop(stream.shutdown().await);
    }
}
