//! What a large mail costs a daemon in memory: its bytes as they came, and one decoded form of its
//! files; never a copy more, and nothing for good. Read from the kernel, of the daemon's own process.

mod posted;

use std::fs;

use posted::{Form, Long};

use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE};
use crate::peers::wait_until;

const MAIL_BYTES: usize = 25_000_000;

/// Most that a mail of that size may add to a daemon that has seen mail before.
const ADDED_BYTES_MAX: u64 = 60_000_000;

/// Most that the caches of the database take of the first few; SQLite bounds them at 128 MiB, whatever comes.
const CACHES_BYTES_MAX: u64 = 16_000_000;

/// Most that may be left of each of those after them: code that ran for the first time, caches.
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

/// A file as it stands in a mail of that size.
fn file() -> Vec<u8> {
    base64(MAIL_BYTES - 2_000)
}

fn long_text() -> String {
    "Where is my parcel? It was to come on Monday.\r\n".repeat(MAIL_BYTES / 47)
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
    mail(number, "text/plain", long_text().as_bytes())
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

/// How a mail comes, and what of it is large.
#[derive(Debug)]
enum Arrival {
    Imap(Vec<u8>),
    Posted(Form, Vec<u8>),
    Fields(Form, usize, What),
}

#[derive(Debug, Clone, Copy)]
enum What {
    File,
    Text,
}

impl Arrival {
    fn name(&self) -> String {
        match self {
            Self::Imap(_) => "IMAP".to_owned(),
            Self::Posted(form, _) => format!("{form:?}"),
            Self::Fields(form, _, what) => format!("{form:?} {what:?}"),
        }
    }
}

#[test]
fn a_mail_of_25_mb_costs_at_most_60_mb_of_memory() {
    let office = PostOffice::open();
    let config = format!(
        "[queues.frontline]\n{}{}",
        office.config(),
        posted::CHANNELS
    );
    let daemon = Installation::new(&config);
    posted::prepare(&daemon);
    daemon.run();
    office.wait_for_reader();
    let mut filed = 0.0;
    let mut arrives = |by: Arrival| {
        match by {
            Arrival::Imap(mail) => office.deliver(mail),
            Arrival::Posted(form, mail) => posted::post_raw(&daemon, form, &mail),
            Arrival::Fields(form, number, What::File) => {
                posted::post_fields(&daemon, form, number, &Long::File(&file()));
            }
            Arrival::Fields(form, number, What::Text) => {
                posted::post_fields(&daemon, form, number, &Long::Text(&long_text()));
            }
        }
        filed += 1.0;
        wait_until("the mail to be decided", PATIENCE * 3, || {
            daemon.metric("switchboard_routed_total") >= filed
        });
    };
    let small = |number| mail(number, "text/plain", b"small");
    arrives(Arrival::Imap(small(0)));
    arrives(Arrival::Posted(Form::SendgridRaw, small(1)));
    let started = resident(daemon.pid(), "VmRSS");
    // The first large ones leave something for good, within its own bound: caches of the database fill.
    arrives(Arrival::Imap(with_files(2, 1)));
    arrives(Arrival::Imap(with_long_text(3)));
    arrives(Arrival::Fields(Form::SendgridFields, 4, What::Text));
    wait_until("the caches to be all that is left", PATIENCE, || {
        resident(daemon.pid(), "VmRSS") <= started + CACHES_BYTES_MAX
    });
    let before = resident(daemon.pid(), "VmRSS");
    let mut costs = Vec::new();
    // What one mail took is given back before the next one comes.
    let is_given_back = || resident(daemon.pid(), "VmRSS") <= before + LEFT_BYTES_MAX;
    let given_back = || wait_until("the memory to be given back", PATIENCE, is_given_back);
    let mut costs_of = |by: Arrival| {
        let name = by.name();
        forget_the_most(daemon.pid());
        arrives(by);
        let added = resident(daemon.pid(), "VmHWM").saturating_sub(before);
        costs.push((name, added));
        given_back();
    };
    for (form, number) in [
        (Form::SendgridFields, 50),
        (Form::PostmarkFields, 60),
        (Form::MailgunFields, 70),
    ] {
        costs_of(Arrival::Fields(form, number, What::File));
        costs_of(Arrival::Fields(form, number + 1, What::Text));
    }
    costs_of(Arrival::Imap(with_files(10, 1)));
    costs_of(Arrival::Imap(with_files(11, 10)));
    costs_of(Arrival::Imap(with_long_text(12)));
    for (form, number) in [
        (Form::SendgridRaw, 20),
        (Form::PostmarkRaw, 30),
        (Form::MailgunRaw, 40),
    ] {
        costs_of(Arrival::Posted(form, with_files(number, 1)));
        costs_of(Arrival::Posted(form, with_files(number + 1, 10)));
        costs_of(Arrival::Posted(form, with_long_text(number + 2)));
    }
    let dear: Vec<_> = costs
        .iter()
        .filter(|cost| cost.1 > ADDED_BYTES_MAX)
        .collect();
    assert!(dear.is_empty(), "{dear:?} over {before}");
    assert!(daemon.terminate(), "it ends with success");
}
