//! What a large mail costs a daemon in memory: its bytes as they came, and one decoded form of its
//! files; never a copy more. Read from the kernel, of the daemon's own process.

use std::fs;

use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE};
use crate::peers::wait_until;

const MAIL_BYTES: usize = 25_000_000;

/// Most that a mail of that size may add to a daemon that has seen mail before.
const ADDED_BYTES_MAX: u64 = 60_000_000;

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
    let mut content = b"--b\r\n\r\nSee the files.\r\n".to_vec();
    let each = base64(MAIL_BYTES / files - 1_000);
    for file in 0..files {
        let head = format!(
            "--b\r\nContent-Type: application/pdf; name={file}.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        );
        content.extend_from_slice(head.as_bytes());
        content.extend_from_slice(&each);
    }
    content.extend_from_slice(b"--b--\r\n");
    mail(number, "multipart/mixed; boundary=b", &content)
}

/// Resident memory of a process, in bytes: `VmRSS`, or the most it ever was as `VmHWM`.
fn resident(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.unwrap().trim_matches([':', '\t', ' ', 'k', 'B']);
    number.parse::<u64>().unwrap() * 1024
}

#[test]
fn a_mail_of_25_mb_costs_at_most_60_mb_of_memory_by_imap_and_by_webhook() {
    let office = PostOffice::open();
    let smtp = "smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n";
    let daemon = Installation::start(&format!(
        "[server]\nbody_bytes_max = \"40MiB\"\n[queues.frontline]\n{}\
         [channels.posted]\nconnector = \"email\"\nqueue = \"frontline\"\naddress = \"other@shop.example\"\n\
         webhook = {{ provider = \"sendgrid\", token = {{ file = \"{{dir}}/mail-password\" }} }}\n{smtp}",
        office.config()
    ));
    office.wait_for_reader();
    let mut filed = 0.0;
    let mut deliver = |mail: Vec<u8>, by_webhook: bool| {
        if by_webhook {
            let head = b"--f\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n";
            let body = [&head[..], &mail, b"\r\n--f--\r\n"].concat();
            let answer = daemon
                .http
                .post(daemon.url("/hooks/posted?token=secret"))
                .header("content-type", "multipart/form-data; boundary=f")
                .body(body)
                .send()
                .unwrap();
            assert_eq!(answer.status(), 200, "{:?}", answer.text());
        } else {
            office.deliver(mail);
        }
        filed += 1.0;
        wait_until("the mail to be decided", PATIENCE * 3, || {
            daemon.metric("switchboard_routed_total") >= filed
        });
    };
    deliver(mail(0, "text/plain", b"small"), false);
    deliver(mail(1, "text/plain", b"small"), true);
    let before = resident(daemon.pid(), "VmRSS");
    let mails = [with_files(2, 1)];
    for (place, mail) in mails.into_iter().enumerate() {
        for by_webhook in [false, true] {
            let mail = match by_webhook {
                // Another one, or it would be a duplicate of another channel's.
                true => [b"X-Way: hook\r\n", mail.as_slice()].concat(),
                false => mail.clone(),
            };
            deliver(mail, by_webhook);
            let added = resident(daemon.pid(), "VmHWM").saturating_sub(before);
            println!("mail {place}, by webhook: {by_webhook}: {added} bytes added");
            assert!(
                added <= ADDED_BYTES_MAX,
                "mail {place}, by webhook: {by_webhook}: {added} bytes over {before}"
            );
        }
    }
    assert!(daemon.terminate(), "it ends with success");
}
