//! Just enough of HTTP/1.1 to cost the driver next to nothing: one request at a time on a kept connection.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A kept connection; it connects again by itself after an error.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

pub struct Response {
    pub status: u16,
    pub retry_after_seconds: Option<u64>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn new(address: SocketAddr) -> Connection {
        Connection {
            address,
            stream: None,
            buffer: Vec::with_capacity(16 * 1024),
        }
    }

    /// Connects, so that the first request does not pay for it.
    pub async fn open(&mut self) -> Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends a whole request and reads its answer. An error leaves open whether the request was carried out.
    pub async fn call(&mut self, request: &[u8]) -> Result<Response> {
        let answer = self.exchange(request).await;
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Response> {
        self.open().await?;
        let Some(stream) = self.stream.as_mut() else {
            return Err(Error::from(ErrorKind::NotConnected));
        };
        stream.write_all(request).await?;
        self.buffer.clear();
        let head_length = loop {
            if let Some(length) = head_length(&self.buffer) {
                break length;
            }
            read_more(stream, &mut self.buffer).await?;
        };
        let head = String::from_utf8_lossy(self.buffer.get(..head_length).unwrap_or_default())
            .into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| invalid("an answer without a status"))?;
        let length = match header(&head, "content-length") {
            Some(text) => text
                .parse()
                .map_err(|_| invalid("a content-length that is no number"))?,
            None if status == 204 || status == 304 => 0,
            None => return Err(invalid("an answer without content-length")),
        };
        while self.buffer.len() < head_length + length {
            read_more(stream, &mut self.buffer).await?;
        }
        if header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(Response {
            status,
            retry_after_seconds: header(&head, "retry-after").and_then(|value| value.parse().ok()),
            body: self
                .buffer
                .get(head_length..head_length + length)
                .unwrap_or_default()
                .to_vec(),
        })
    }
}

/// Writes a request into `out`, replacing what was there.
pub fn write_request(
    out: &mut Vec<u8>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) {
    out.clear();
    for part in [
        method,
        " ",
        path,
        " HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ",
        &body.len().to_string(),
        "\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// Returns the value of a header of a message's head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines
        .map(|(key, value)| (key, value.trim()))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Returns where the body starts, once the whole head is there.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|position| position + 4)
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.reserve(4096);
    if stream.read_buf(buffer).await? == 0 {
        return Err(Error::from(ErrorKind::UnexpectedEof));
    }
    Ok(())
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}
