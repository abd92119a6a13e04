//! What a large mail costs a daemon in memory: its bytes as they came, and one decoded form of its
//! files; never a copy more, and nothing for good. Read from the kernel, of the daemon's own process.

use std::fs;

use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE};
use crate::peers::wait_until;

const MAIL_BYTES: usize = 25_000_000;

/// Most that a mail of that size may add to a daemon that has seen mail before.
const ADDED_BYTES_MAX: u64 = 60_000_000;

/// Most that may be left of it: code that ran for the first time, caches.
const LEFT_BYTES_MAX: u64 = 12_000_000;

/// A mail whose content comes to that many bytes with its headers.
fn mail(number: usize, content_type: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: ada@example.org\r\nTo: support@shop.example\r\nSubject: Large\r\n\
         Date: Mon, 5 Jan 2026 09:00:00 +0000\r\nMessage-ID: <large-{number}@example.org>\r\n\
         Content-Type: {content_type}\r\n\r\n"
    );
    [head.as_bytes(), content].concat()
}

/// Lines of base64 that nothing can make smaller.
fn base64(bytes: usize) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 0x9e37_79b9_u32;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        for _ in 0..76 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            out.push(alphabet[(state >> 26) as usize]);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn with_files(number: usize, files: usize) -> Vec<u8> {
    let file = base64((MAIL_BYTES - 2_000) / files);
    let mut content = b"--b\r\n\r\nSee the files.\r\n".to_vec();
    for at in 0..files {
        let head = format!(
            "--b\r\nContent-Type: application/pdf; name={number}-{at}.pdf\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{at:04}"
        );
        content.extend_from_slice(head.as_bytes());
        content.extend_from_slice(&file);
    }
    content.extend_from_slice(b"--b--\r\n");
    mail(number, "multipart/mixed; boundary=b", &content)
}

fn with_long_text(number: usize) -> Vec<u8> {
    let text = "Where is my parcel? It was to come on Monday.\r\n".repeat(MAIL_BYTES / 47);
    mail(number, "text/plain", text.as_bytes())
}

/// Resident memory of a process, in bytes: `VmRSS`, or the most it ever was as `VmHWM`.
fn resident(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.unwrap().trim_matches([':', '\t', ' ', 'k', 'B']);
    number.parse::<u64>().unwrap() * 1024
}

/// Lets `VmHWM` begin anew (proc(5), `clear_refs`).
fn forget_the_most(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// How a mail comes.
#[derive(Debug, Clone, Copy)]
enum By {
    Imap,
    Webhook,
}

#[test]
fn a_mail_of_25_mb_costs_at_most_60_mb_of_memory() {
    let office = PostOffice::open();
    let config = format!("[queues.frontline]\n{}{POSTED}", office.config());
    let daemon = Installation::new(&config);
    fs::write(daemon.dir.path().join("token"), "shop-token").unwrap();
    daemon.run();
    office.wait_for_reader();
    let mut filed = 0.0;
    let mut arrives = |by: By, mail: Vec<u8>| {
        match by {
            By::Imap => office.deliver(mail),
            By::Webhook => post(&daemon, &mail),
        }
        filed += 1.0;
        wait_until("the mail to be decided", PATIENCE * 3, || {
            daemon.metric("switchboard_routed_total") >= filed
        });
    };
    arrives(By::Imap, mail(0, "text/plain", b"small"));
    arrives(By::Webhook, mail(1, "text/plain", b"small"));
    let before = resident(daemon.pid(), "VmRSS");
    let mut number = 10;
    let mut costs = Vec::new();
    // What one mail took is given back before the next one comes.
    let is_given_back = || resident(daemon.pid(), "VmRSS") <= before + LEFT_BYTES_MAX;
    let given_back = || wait_until("the memory to be given back", PATIENCE, is_given_back);
    for by in [By::Imap, By::Webhook] {
        for (what, large) in [
            ("one file", with_files(number, 1)),
            ("ten files", with_files(number + 1, 10)),
            ("long text", with_long_text(number + 2)),
        ] {
            forget_the_most(daemon.pid());
            arrives(by, large);
            let added = resident(daemon.pid(), "VmHWM").saturating_sub(before);
            costs.push((by, what, added));
            given_back();
        }
        number += 10;
    }
    let dear: Vec<_> = costs
        .iter()
        .filter(|cost| cost.2 > ADDED_BYTES_MAX)
        .collect();
    assert!(dear.is_empty(), "{dear:?} over {before}");
    assert!(daemon.terminate(), "it ends with success");
}

/// Mail that a service receives for the shop and posts whole.
const POSTED: &str = "[channels.posted-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
    address = \"desk@shop.example\"\n\
    smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n\
    webhook = { provider = \"sendgrid\", token = { file = \"{dir}/token\" } }\n";

/// As SendGrid's Inbound Parse posts it with "send raw" on.
fn post(daemon: &Installation, mail: &[u8]) {
    let mut body = b"--f\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n".to_vec();
    body.extend_from_slice(mail);
    body.extend_from_slice(b"\r\n--f--\r\n");
    let answer = reqwest::blocking::Client::new()
        .post(daemon.url("/hooks/posted-mail?token=shop-token"))
        .header("content-type", "multipart/form-data; boundary=f")
        .body(body)
        .send()
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
