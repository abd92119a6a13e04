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

fn with_a_file(number: usize) -> Vec<u8> {
    let head = b"--b\r\n\r\nSee the file.\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n";
    let file = base64(MAIL_BYTES - 1_000);
    let content = [&head[..], &file, b"--b--\r\n"].concat();
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
fn a_mail_of_25_mb_costs_at_most_60_mb_of_memory() {
    let office = PostOffice::open();
    let config = format!("[queues.frontline]\n{}", office.config());
    let daemon = Installation::start(&config);
    office.wait_for_reader();
    let mut filed = 0.0;
    let mut deliver = |mail: Vec<u8>| {
        office.deliver(mail);
        filed += 1.0;
        wait_until("the mail to be decided", PATIENCE * 3, || {
            daemon.metric("switchboard_routed_total") >= filed
        });
    };
    deliver(mail(0, "text/plain", b"small"));
    let before = resident(daemon.pid(), "VmRSS");
    deliver(with_a_file(2));
    let added = resident(daemon.pid(), "VmHWM").saturating_sub(before);
    assert!(added <= ADDED_BYTES_MAX, "{added} bytes over {before}");
    assert!(daemon.terminate(), "it ends with success");
}
