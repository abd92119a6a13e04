//! What the harness promises to the tests that use it, held against the real servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::mail::header;
use super::{Chaos, Dovecot, PATIENCE, Postfix, enabled, wait_until, with_auth_results};

fn mail(subject: &str) -> Vec<u8> {
    format!(
        "From: Ada <ada@customer.example>\r\nTo: support@shop.example\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@customer.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nHello\r\n.dot\r\n"
    )
    .into_bytes()
}

fn subjects(mails: &[Vec<u8>]) -> Vec<String> {
    mails
        .iter()
        .filter_map(|mail| header(mail, "Subject"))
        .collect()
}

#[test]
fn mail_through_postfix_lands_in_dovecot_with_its_plus_address() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let stamped = with_auth_results(
        &mail("first"),
        "mx.shop.example",
        "customer.example",
        "pass",
    );
    postfix.send(
        "ada@customer.example",
        "support+abc.1@shop.example",
        &stamped,
    );
    let received = dovecot.wait_for_mails("support", 1);
    let text = String::from_utf8_lossy(&received[0]).into_owned();
    assert_eq!(
        header(&received[0], "Delivered-To").as_deref(),
        Some("support+abc.1@shop.example"),
        "{text}"
    );
    assert_eq!(
        header(&received[0], "Return-Path").as_deref(),
        Some("<ada@customer.example>"),
        "{text}"
    );
    assert_eq!(
        header(&received[0], "Message-ID").as_deref(),
        Some("<first@customer.example>"),
        "{text}"
    );
    let stamp = header(&received[0], "Authentication-Results").unwrap_or_default();
    assert!(stamp.starts_with("mx.shop.example; dmarc=pass"), "{text}");
    assert!(
        text.ends_with("\n\nHello\n.dot\n") || text.ends_with("\r\n\r\nHello\r\n.dot\r\n"),
        "{text}"
    );
}

#[test]
fn mail_to_a_user_who_is_gone_comes_back_as_a_delivery_status_notification() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    postfix.send(
        "support+token@shop.example",
        "bob@gone.example",
        &mail("answer"),
    );
    let received = dovecot.wait_for_mails("support", 1);
    let text = String::from_utf8_lossy(&received[0]).into_owned();
    assert_eq!(
        header(&received[0], "Delivered-To").as_deref(),
        Some("support+token@shop.example"),
        "{text}"
    );
    assert_eq!(
        header(&received[0], "Return-Path").as_deref(),
        Some("<>"),
        "{text}"
    );
    for part in [
        "report-type=delivery-status",
        "Final-Recipient: rfc822; bob@gone.example",
        "Status: 5.1.1",
        "<answer@customer.example>",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_refusal_reaches_the_client_that_is_still_connected() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    for (recipient, code) in [("bob@refused.example", 550), ("bob@busy.example", 451)] {
        let refusal = postfix
            .try_send("support@shop.example", recipient, &mail("x"))
            .expect_err(recipient);
        assert_eq!(
            (refusal.during, refusal.code),
            ("RCPT TO", code),
            "{refusal}"
        );
    }
}

#[test]
fn passwords_are_checked_where_one_is_given() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let right = postfix.try_login("support@shop.example", dovecot.password);
    assert!(right.is_ok(), "{right:?}");
    let wrong = postfix
        .try_login("support@shop.example", "guessed")
        .expect_err("a wrong password");
    assert_eq!((wrong.during, wrong.code), ("AUTH", 535), "{wrong}");
}

#[test]
fn every_way_into_tls_shows_a_certificate_of_the_test_authority() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let ways: [(u16, &[&str]); 4] = [
        (dovecot.imaps_port, &[]),
        (dovecot.imap_port, &["-starttls", "imap"]),
        (postfix.smtps_port, &[]),
        (postfix.smtp_port, &["-starttls", "smtp"]),
    ];
    for (port, way) in ways {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-verify_return_error",
                "-verify_hostname",
                "localhost",
            ])
            .args(["-connect", &format!("127.0.0.1:{port}")])
            .arg("-CAfile")
            .arg(&dovecot.certificate.authority)
            .args(way)
            .stdin(Stdio::null())
            .output()
            .expect("openssl comes with Dovecot");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("Verify return code: 0 (ok)"),
            "{way:?} {port}: {said}"
        );
    }
}

#[test]
fn a_uidvalidity_reset_keeps_the_mails_and_renumbers_them() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    for subject in ["one", "two", "three"] {
        dovecot.deliver("support@shop.example", &mail(subject));
    }
    let before = dovecot.status("support");
    assert_eq!(dovecot.subjects_by_uid("support")[&1], "one");
    dovecot.reset_uidvalidity("support");
    let after = dovecot.status("support");
    assert_ne!(before.uidvalidity, after.uidvalidity);
    assert_eq!((before.messages, after.messages), (3, 3));
    assert_eq!(dovecot.subjects_by_uid("support")[&1], "three");
    dovecot.deliver("support@shop.example", &mail("four"));
    assert_eq!(dovecot.subjects_by_uid("support")[&4], "four");
    assert_eq!(
        subjects(&dovecot.fetch_all("support")),
        ["one", "two", "three", "four"]
    );
}

#[test]
fn a_kicked_session_is_closed_by_the_server() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let mut session =
        TcpStream::connect(("127.0.0.1", dovecot.imap_port)).expect("the server listens");
    session
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out above zero");
    session
        .write_all(
            format!(
                "a LOGIN support@shop.example {}\r\nb SELECT INBOX\r\n",
                dovecot.password
            )
            .as_bytes(),
        )
        .expect("the server reads");
    dovecot.wait_for_session("support");
    dovecot.kick("support");
    let mut rest = Vec::new();
    session.read_to_end(&mut rest).ok();
    wait_until("the session to be gone", PATIENCE, || {
        dovecot.sessions("support").is_empty()
    });
    assert!(
        String::from_utf8_lossy(&rest).contains("a OK"),
        "the login succeeded"
    );
}

#[test]
fn a_lost_answer_means_a_mail_delivered_and_a_client_that_does_not_know() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let chaos = Chaos::start(postfix.smtp_port);
    chaos.lose_answer_to(b"\r\n.\r\n");
    let through = Postfix::send_at(
        chaos.port,
        "ada@customer.example",
        "support@shop.example",
        &mail("lost"),
    );
    assert_eq!(through.expect_err("no answer").during, "end of data");
    assert_eq!(chaos.answers_lost(), 1);
    assert_eq!(subjects(&dovecot.wait_for_mails("support", 1)), ["lost"]);
    let again = Postfix::send_at(
        chaos.port,
        "ada@customer.example",
        "support@shop.example",
        &mail("second"),
    );
    assert!(again.is_ok(), "only one answer is lost");
}

#[test]
fn dropping_the_handles_ends_the_servers_and_removes_their_files() {
    if !enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let ports = [dovecot.imap_port, dovecot.lmtp_port, postfix.smtp_port];
    let directories = [dovecot.directory(), postfix.directory()];
    drop(postfix);
    drop(dovecot);
    for port in ports {
        assert!(
            TcpStream::connect(("127.0.0.1", port)).is_err(),
            "port {port} is still open"
        );
    }
    for directory in directories {
        assert!(
            !directory.exists(),
            "{} is still there",
            directory.display()
        );
    }
}

/// Answers every line with itself.
fn echo_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

fn connect(chaos: &Chaos) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", chaos.port)).expect("the proxy listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time-out above zero");
    stream
}

/// Sends `text` and returns what comes back until it is complete, or the connection ends.
fn exchange(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.take(text.len() as u64).read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_proxy_cuts_what_is_open_and_serves_what_comes_later() {
    let chaos = Chaos::start(echo_server());
    let mut first = connect(&chaos);
    assert_eq!(exchange(&mut first, "hello"), "hello");
    chaos.cut_all();
    assert_eq!(exchange(&mut first, "hello"), "");
    assert_eq!(exchange(&mut connect(&chaos), "again"), "again");
    assert_eq!(chaos.connections(), 2);
}

#[test]
fn the_proxy_cuts_after_so_many_bytes_of_the_answer() {
    let chaos = Chaos::start(echo_server());
    chaos.cut_after_bytes(7);
    assert_eq!(exchange(&mut connect(&chaos), "twelve bytes"), "twelve ");
    chaos.heal();
    assert_eq!(
        exchange(&mut connect(&chaos), "twelve bytes"),
        "twelve bytes"
    );
}

#[test]
fn a_black_hole_keeps_the_connection_and_says_nothing() {
    let chaos = Chaos::start(echo_server());
    let mut stream = connect(&chaos);
    assert_eq!(exchange(&mut stream, "hello"), "hello");
    chaos.black_hole();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a time-out above zero");
    stream
        .write_all(b"anyone?")
        .expect("the connection is open");
    let silence = stream.read(&mut [0; 8]).expect_err("nothing comes back");
    assert!(
        matches!(
            silence.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
        "{silence}"
    );
    chaos.heal();
    assert_eq!(
        stream.read(&mut [0; 8]).unwrap_or(0),
        0,
        "what was open is cut"
    );
    assert_eq!(exchange(&mut connect(&chaos), "back"), "back");
}
