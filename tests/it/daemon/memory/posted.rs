//! A mail as the services post it: whole, and in the fields that they make of one.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::Clock;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;
use switchboard::clock::SystemClock;

use super::super::process::Installation;

/// One channel for each service; SES carries no large mails.
pub const CHANNELS: &str = "[channels.sendgrid-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
    address = \"desk@shop.example\"\n\
    smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n\
    webhook = { provider = \"sendgrid\", token = { file = \"{dir}/token\" } }\n\
    [channels.postmark-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
    address = \"help@shop.example\"\n\
    smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n\
    webhook = { provider = \"postmark\", token = { file = \"{dir}/token\" } }\n\
    [channels.mailgun-mime]\nconnector = \"email\"\nqueue = \"frontline\"\n\
    address = \"info@shop.example\"\n\
    smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n\
    webhook = { provider = \"mailgun\", token = { file = \"{dir}/token\" }, signing_keys = [{ file = \"{dir}/token\" }] }\n";

/// In a form a blank is a plus.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b' ');

const TOKEN: &str = "shop-token";

/// How a service gives a mail.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    SendgridRaw,
    SendgridFields,
    PostmarkRaw,
    PostmarkFields,
    /// As `application/x-www-form-urlencoded`.
    MailgunRaw,
    MailgunFields,
}

/// A file in base64, as it stands in a mail, or a long text.
pub enum Long<'a> {
    File(&'a [u8]),
    Text(&'a str),
}

pub fn prepare(daemon: &Installation) {
    std::fs::write(daemon.dir.path().join("token"), TOKEN).unwrap();
}

/// Posts a whole mail.
pub fn post_raw(daemon: &Installation, form: Form, mail: &[u8]) {
    match form {
        Form::PostmarkRaw => {
            let mail = String::from_utf8(mail.to_vec()).unwrap();
            post_json(daemon, json!({ "RawEmail": mail }).to_string());
        }
        Form::MailgunRaw => {
            let mail = percent_encode(mail, ESCAPED).to_string();
            let mail = mail.replace(' ', "+");
            let body = format!("{}&body-mime={mail}", proof("raw").join("&"));
            let content_type = "application/x-www-form-urlencoded";
            post(daemon, "mailgun-mime", content_type, body.into_bytes());
        }
        _ => post_form(daemon, "sendgrid-mail", &[("email", mail)]),
    }
}

/// Posts the fields of a mail with something long in it.
pub fn post_fields(daemon: &Installation, form: Form, number: usize, long: &Long<'_>) {
    let id = format!("<fields-{number}@example.org>");
    let (text, file) = match long {
        Long::File(base64) => ("See the file.", *base64),
        Long::Text(text) => (*text, &b""[..]),
    };
    let lines: Vec<u8> = (file.iter().copied())
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let whole = lines.len() / 4 * 4;
    let decoded = || STANDARD.decode(&lines[..whole]).unwrap();
    match form {
        Form::PostmarkFields => {
            let encoded = std::str::from_utf8(&lines[..whole]).unwrap();
            let files =
                json!([{ "Name": "a.pdf", "ContentType": "application/pdf", "Content": encoded }]);
            let body = json!({
                "From": "ada@example.org", "Subject": "Large", "TextBody": text,
                "Headers": [{ "Name": "Message-ID", "Value": id }],
                "Attachments": files,
            });
            post_json(daemon, body.to_string());
        }
        Form::MailgunFields => {
            let headers = json!([["Message-Id", id]]).to_string();
            let mut fields: Vec<(String, Vec<u8>)> = vec![
                ("message-headers".to_owned(), headers.into_bytes()),
                ("from".to_owned(), b"ada@example.org".to_vec()),
                ("body-plain".to_owned(), text.as_bytes().to_vec()),
                ("attachment-1".to_owned(), decoded()),
            ];
            for pair in proof(&number.to_string()) {
                let (name, value) = pair.split_once('=').unwrap();
                fields.push((name.to_owned(), value.as_bytes().to_vec()));
            }
            let fields: Vec<(&str, &[u8])> = (fields.iter())
                .map(|(name, value)| (name.as_str(), value.as_slice()))
                .collect();
            post_form(daemon, "mailgun-mime", &fields);
        }
        _ => {
            let headers = format!("Message-ID: {id}\nFrom: ada@example.org\n");
            let file = decoded();
            let fields: [(&str, &[u8]); 3] = [
                ("headers", headers.as_bytes()),
                ("text", text.as_bytes()),
                ("attachment1", &file),
            ];
            post_form(daemon, "sendgrid-mail", &fields);
        }
    }
}

/// What Mailgun signs, as `name=value`.
fn proof(token: &str) -> [String; 3] {
    let timestamp = SystemClock.now().as_second().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}{token}").as_bytes());
    let signature: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    [
        format!("timestamp={timestamp}"),
        format!("token={token}"),
        format!("signature={signature}"),
    ]
}

fn post_json(daemon: &Installation, body: String) {
    post(
        daemon,
        "postmark-mail",
        "application/json",
        body.into_bytes(),
    );
}

fn post_form(daemon: &Installation, channel: &str, fields: &[(&str, &[u8])]) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--f\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--f--\r\n");
    post(daemon, channel, "multipart/form-data; boundary=f", body);
}

fn post(daemon: &Installation, channel: &str, content_type: &str, body: Vec<u8>) {
    let answer = reqwest::blocking::Client::new()
        .post(daemon.url(&format!("/hooks/{channel}?token={TOKEN}")))
        .header("content-type", content_type)
        .body(body)
        .send()
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
