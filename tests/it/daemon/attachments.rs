//! A photo by URL: accepted with the message, fetched by the daemon, read by an agent.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::process::{Installation, PATIENCE, chat, chat_config, json_of};
use crate::peers::wait_for;

/// Serves one photo to everybody, on a port of loopback.
fn photos() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5\r\nConnection: close\r\n\r\nphoto";
            if read > 0 {
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    port
}

#[test]
fn a_photo_by_url_is_fetched_where_the_channel_allows_its_host_and_read_by_an_agent() {
    let port = photos();
    let config = chat_config("http://127.0.0.1:9/none") + "attachment_hosts = [\"127.0.0.1\"]\n";
    let daemon = Installation::start(&config);
    let token = daemon.token("ada");
    let mut message = chat("m-1", "cust-7", "It came like this.");
    message["attachments"] = json!([
        { "name": "box.png", "url": format!("http://127.0.0.1:{port}/box.png") },
        { "name": "inside.png", "url": format!("http://localhost:{port}/box.png") },
        { "name": "note.txt", "content_type": "text/plain", "base64": "aGVsbG8=" },
    ]);
    json_of(daemon.hook("shop-chat", &message).unwrap());
    let claimed = daemon.claim(&token, "frontline").expect("the conversation");
    let id = claimed["id"].as_str().unwrap();
    let files = wait_for("the files to be settled", PATIENCE, || {
        let files = daemon.messages(&token, id)[0]["attachments"].clone();
        let states: Vec<&Value> = files
            .as_array()?
            .iter()
            .map(|file| &file["state"])
            .collect();
        (states == ["stored", "failed", "stored"]).then_some(files)
    });
    assert_eq!(files[0]["content_type"], "image/png");
    assert_eq!(files[0]["size_bytes"], 5);
    let read = |file: &Value| {
        let path = format!("/v1/attachments/{}", file["id"].as_str().unwrap());
        let request = daemon.http.get(daemon.url(&path)).bearer_auth(&token);
        let answer = request.send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    assert_eq!(read(&files[0]), (200, "photo".to_owned()));
    assert_eq!(read(&files[1]).0, 409);
    assert_eq!(read(&files[2]), (200, "hello".to_owned()));
}
