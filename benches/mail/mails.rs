//! The mails: each from somebody else, about something else, the size of an ordinary question.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::peers::with_auth_results;

/// Whose `dmarc=pass` counts.
pub const AUTHSERV_ID: &str = "mx.shop.example";

/// A question of about 6 KB, in text and HTML, its sender proven. Its subject says which one it is.
pub fn question(number: usize, what: &str) -> Vec<u8> {
    let words = "Hello, my parcel was to arrive last Tuesday and has not. The page says it is with the carrier since then. \
                 Could you please find out where it is, and send me another one if it is lost?\r\n";
    let text = words.repeat(8);
    let html = format!("<html><body><p>{}</p></body></html>", words.repeat(16));
    let mail = format!(
        "From: Customer {number} <c{number}-{what}@customer.example>\r\n\
         To: Support <support@shop.example>\r\n\
         Subject: {what} {number}\r\n\
         Message-ID: <{what}-{number}@customer.example>\r\n\
         Date: Mon, 05 Jan 2026 09:00:00 +0000\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n\
         --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--b--\r\n"
    );
    with_auth_results(mail.as_bytes(), AUTHSERV_ID, "customer.example", "pass")
}

/// One with a film: this many bytes in all.
pub fn large(bytes_len: usize) -> Vec<u8> {
    // Base64 in lines of 76 characters: 57 bytes become 78.
    let film: Vec<u8> = (0..bytes_len / 78 * 57)
        .map(|at| (at * 31 % 251) as u8)
        .collect();
    let mut lines = String::with_capacity(bytes_len + 1024);
    for line in film.chunks(57) {
        lines.push_str(&STANDARD.encode(line));
        lines.push_str("\r\n");
    }
    let mail = format!(
        "From: Film <film@customer.example>\r\nTo: support@shop.example\r\nSubject: film\r\n\
         Message-ID: <film@customer.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nIt arrived broken, see the film.\r\n\
         --b\r\nContent-Type: video/mp4\r\nContent-Disposition: attachment; filename=\"film.mp4\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{lines}--b--\r\n"
    );
    with_auth_results(mail.as_bytes(), AUTHSERV_ID, "customer.example", "pass")
}

/// Puts mails where the server finds them, as if they had been delivered: faster than delivering them.
pub fn lay_into(maildir: &Path, mails: impl Iterator<Item = Vec<u8>>, arrived: u64) -> Result<()> {
    let new = maildir.join("new");
    let owner = fs::metadata(maildir)
        .with_context(|| format!("there is no mailbox {}", maildir.display()))?;
    for (number, mail) in mails.enumerate() {
        let file = new.join(format!("{arrived}.M{number}P1.bench"));
        fs::write(&file, mail).with_context(|| format!("cannot write {}", file.display()))?;
        chown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}
