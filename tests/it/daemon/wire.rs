//! One keep-alive connection to a daemon, by hand: tests that count connections must know that a
//! client opens no other one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::process::{PATIENCE, now, sign};

pub struct Wire {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Wire {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            address: address.to_owned(),
        }
    }

    /// Posts a signed webhook and gives the status; the connection stays open for the next one.
    pub fn hook(&mut self, channel: &str, body: &Value) -> u16 {
        let body = body.to_string();
        let (address, time) = (&self.address, now());
        let request = format!(
            "POST /hooks/{channel} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nwebhook-id: delivery\r\n\
             webhook-timestamp: {time}\r\nwebhook-signature: {}\r\n\r\n{body}",
            body.len(),
            sign("delivery", time, &body),
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> u16 {
        let status = self.line();
        let mut length = 0;
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        status.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).unwrap();
        assert!(
            length > 0,
            "the daemon closed a connection that is kept alive"
        );
        line.trim_end().to_owned()
    }
}
