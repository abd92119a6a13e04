//! Bounces that others collected: which become receipts of the mail they are about, of whom, and
//! with which words. The mails name their own originals; those ids are made ours here, as if the
//! mail that bounced had been one of ours.

use std::fmt::Write as _;

use connector_api::{Bytes, DeliveryStage, Event, InboundEvent};
use connector_email::parse::{OwnAddresses, ParseSettings, each_recipient, parse};

use crate::shared_mails::mails;

const OURS: &str = "sbk3k3k3k3k3k3k3k3k3k3k3k3k3.msg_01990000000070008000000000000001@shop.example";
const RETURN_PATH: &str = "support+msg_01990000000070008000000000000001@shop.example";

fn settings() -> ParseSettings {
    ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: None,
        mail_bytes_max: 25 * 1024 * 1024,
    }
}

fn read(raw: Vec<u8>) -> Vec<InboundEvent> {
    each_recipient(parse(Bytes::from(raw), &settings()))
}

/// Puts our Message-ID wherever the body names one.
fn about_ours(mail: &[u8]) -> Vec<u8> {
    let text: String = mail.iter().map(|byte| char::from(*byte)).collect();
    let end = ["\r\n\r\n", "\n\n"]
        .iter()
        .filter_map(|blank| text.find(blank))
        .min();
    let (head, body) = text.split_at(end.unwrap_or(text.len()));
    let mut changed = head.to_owned();
    for line in body.split_inclusive('\n') {
        let name = line
            .trim_start_matches(['>', ' ', '\t'])
            .to_ascii_lowercase();
        if name.starts_with("message-id:") && line.contains('<') {
            let before = line.split(':').next().unwrap_or_default();
            writeln!(changed, "{before}: <{OURS}>").unwrap();
        } else {
            changed.push_str(line);
        }
    }
    changed.chars().map(|c| c as u32 as u8).collect()
}

fn receipts(events: &[InboundEvent]) -> Vec<(DeliveryStage, Option<String>, Option<String>)> {
    let receipts = events.iter().filter_map(|event| match &event.event {
        Event::Receipt {
            target,
            stage,
            reason,
            recipient,
        } => {
            assert!(OURS.contains(target.as_str()), "{target}");
            Some((*stage, recipient.clone(), reason.clone()))
        }
        _ => None,
    });
    receipts.collect()
}

/// File, how many receipts, the first's stage and recipient, and whether it says why; `-` for
/// none. A `?` before the name: it quotes no Message-ID, so only its return path tells what it is
/// about.
const EXPECTED: &str = "\
?flanker-delayed-broken: 1 failed demo@example.com +
?flanker-delayed: 1 failed foo@example.com +
?flanker-gmail-no-dns: 1 failed user@example.comm -
 flanker-office365: 1 failed noname@example.com +
 flanker-zed: 1 failed asdfasdfasdfasdfasdfasdfewrqertrtyrthsfgdfgadfqeadvxzvz@gmail.com +
 mikel-multi_address_bounce1: 5 failed bbbbvhvbbvkjbhfbvbvjhb@gmail.com +
 mikel-multipart_report_multiple_status: 1 failed u@ci.com +
 mikel-report_422: 1 delayed fraser@oooooooo.com.au +
 lhost-activehunter-01: 1 failed kijitora@example.org +
 lhost-amavis-01: 1 failed neko@example.co.jp +
 lhost-amazonses-01: 1 failed shironeko@example.co.jp +
 lhost-barracuda-01: 1 failed kijitora@example.org +
 lhost-bigfoot-02: 1 failed kijitora@example.org +
 lhost-biglobe-01: 1 failed - -
?lhost-courier-01: 1 failed kijitora@example.co.jp +
?lhost-domino-01: 1 failed kijitora@example.jp -
 lhost-exchange2007-02: 1 failed kijitora@example.edu +
 lhost-exim-01: 1 failed kijitora@example.ed.jp +
 lhost-exim-02: 1 failed kijitora@example.jp +
 lhost-exim-03: 1 failed kijitora@example.jp +
 lhost-gmail-01: 1 failed userunknown@example.jp +
 lhost-gmail-03: 1 failed kijitora@example.co.jp +
 lhost-gmail-04: 1 failed kijitora@example.com +
 lhost-googlegroups-01: 1 failed libsisimai@googlegroups.com -
 lhost-googleworkspace-01: 1 failed neko-nyaan-cat-meeting@google-groups.example.com -
 lhost-imailserver-01: 1 failed kijitora@example.com -
 lhost-kddi-01: 1 failed kijitora@x0000000000000.dion.ne.jp -
 lhost-mailfoundry-01: 1 failed kijitora@example.org +
 lhost-mcafee-01: 1 failed kijitora@example.co.jp +
 lhost-messagingserver-01: 1 failed kijitora@example.jp +
 lhost-mfilter-01: 1 failed kijitora@example.com +
?lhost-mimecast-01: 1 failed sabineko@neko.ef.example.org +
 lhost-mxlogic-01: 1 failed kijitora@example.co.jp +
 lhost-notes-01: 1 failed kijitora@u1.example.co.jp -
 lhost-office365-01: 1 failed kijitora@example.com +
 lhost-office365-02: 1 failed kijitora@example.onmicrosoft.com +
 lhost-office365-03: 1 failed kijitora@example.com +
 lhost-office365-04: 1 failed otsu-sakaba-hunter-neko-nyaaaaaaan@ezweb.ne.jp +
 lhost-outlook-01: 1 failed kijitora@example.jp +
?lhost-postfix-01: 1 failed kijitora@example.org +
?lhost-postfix-02: 2 failed filtered@example.co.jp +
 lhost-postfix-03: 1 failed kijitora@example.net +
 lhost-postfix-04: 1 failed kijitora@example.co.jp +
 lhost-postfix-05: 1 failed kijitora@example.org +
 lhost-powermta-01: 1 failed kijitora@example.jp +
 lhost-qmail-01: 1 failed kijitora@example.ne.jp +
 lhost-sendmail-01: 1 failed userunknown@bouncehammer.jp +
 lhost-surfcontrol-01: 1 failed kijitora@example.com +
 lhost-surfcontrol-03: 1 failed kijitora@example.net +
 lhost-trendmicro-01: 1 failed kijitora@example.co.jp +
 lhost-x1-01: 1 failed shironeko@example.jp -
 lhost-x3-01: 1 failed kijitora@example.com +
 lhost-x4-01: 1 failed kijitora@example.com -
 lhost-x6-01: 1 failed kijitora@nyaan.example.org +
 lhost-yandex-01: 1 failed kijitora@example.jp +
 lhost-zoho-01: 1 failed kijitora@example.co.jp +
 rfc3464-03: 1 failed kijitora@example.com +
 rfc3464-07: 1 delayed kijitora@example.net +
 rhost-aol-01: 1 failed kijitora@example.jp +
 rhost-cox-01: 1 failed recipient55@cox.net +
?rhost-facebook-03: 1 failed kijitora@facebook.com +
 rhost-franceptt-01: 1 failed pseudo-local-part-kijitora-nyaaan@orange.fr +
 rhost-godaddy-02: 1 failed kijitora@example.com +
 rhost-google-01: 1 failed shironeko@example.ne.jp +
 rhost-gsuite-01: 1 failed kijitora@example.de +
 rhost-iua-01: 1 failed neko@email.example.ua +
 rhost-kddi-01: 1 failed otsu-sakaba-hunter-neko-nyaaaaaaan@ezweb.ne.jp +
 rhost-messagelabs-01: 1 failed kijitora@example.messagelabs.com +
 rhost-nttdocomo-01: 1 failed azumakuniyuki@ntt.docomo.example.ne.jp +
 rhost-outlook-01: 1 failed kijitora@example.jp +
 rhost-tencent-01: 1 failed nekochan@qq.example.cn +
 rhost-zoho-01: 1 failed kijitora@zoho.example.com +
";

fn line(events: &[InboundEvent]) -> String {
    let found = receipts(events);
    let Some((stage, recipient, reason)) = found.first() else {
        return "-".to_owned();
    };
    let stage = match stage {
        DeliveryStage::Failed => "failed",
        DeliveryStage::Accepted => "delayed",
        _ => "other",
    };
    let recipient = recipient.as_deref().unwrap_or("-");
    let words = if reason.is_some() { "+" } else { "-" };
    format!("{} {stage} {recipient} {words}", found.len())
}

#[test]
fn every_collected_bounce_is_told_by_what_it_quotes_or_by_where_it_comes_to() {
    let mut table = String::new();
    for (name, mail) in mails("email_dsn") {
        let by_id = line(&read(about_ours(&mail)));
        let returned = [format!("Delivered-To: {RETURN_PATH}\n").as_bytes(), &mail].concat();
        let by_path = line(&read(returned));
        let quotes = match by_id == "-" {
            true => "?",
            false => {
                assert_eq!(by_id, by_path, "{name}");
                " "
            }
        };
        let name = name.trim_start_matches("sisimai-").trim_end_matches(".eml");
        writeln!(table, "{quotes}{name}: {by_path}").unwrap();
    }
    assert_eq!(table, EXPECTED, "{table}");
}

#[test]
fn what_people_and_their_answering_machines_write_to_a_return_path_is_no_receipt() {
    for folder in ["email_autoreply", "email_notbounce", "email_reply"] {
        for (name, mail) in mails(folder) {
            let returned = [format!("Delivered-To: {RETURN_PATH}\n").as_bytes(), &mail].concat();
            let events = read(returned);
            assert!(receipts(&events).is_empty(), "{folder}/{name}: {events:?}");
        }
    }
}

/// A report on four recipients of the copy for each, as Postfix writes it.
#[test]
fn a_report_on_several_recipients_is_a_receipt_for_each() {
    let report = |to: &str| {
        let status = |address: &str, action: &str, status: &str| {
            format!("Final-Recipient: rfc822; {address}\nAction: {action}\nStatus: {status}\n\n")
        };
        format!(
            "Delivered-To: {to}\nFrom: MAILER-DAEMON@mx.example.org\nMessage-ID: <b@mx.example.org>\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n{}{}{}{}\n--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <{OURS}>\n\n--b--\n",
            status("delivered@example.org", "delivered", "2.0.0"),
            status("late@example.org", "delayed", "4.4.1"),
            status("relayed@example.org", "relayed", "2.0.0"),
            status("gone@example.org", "failed", "5.1.1"),
        )
    };
    let events = read(report("support@shop.example").into_bytes());
    let expected = [
        (DeliveryStage::Failed, "gone@example.org", "5.1.1"),
        (
            DeliveryStage::Accepted,
            "late@example.org",
            "delayed: 4.4.1",
        ),
        (DeliveryStage::Delivered, "delivered@example.org", "2.0.0"),
    ];
    let expected =
        expected.map(|(stage, who, why)| (stage, Some(who.to_owned()), Some(why.to_owned())));
    assert_eq!(receipts(&events), expected);
    let keys: Vec<&str> = events
        .iter()
        .map(|event| event.dedupe_key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "mid:b@mx.example.org",
            "mid:b@mx.example.org#2",
            "mid:b@mx.example.org#3"
        ]
    );
    // The raw mail is kept once.
    assert!(events[0].raw.is_some() && events[1].raw.is_none());
}

#[test]
fn the_copy_that_a_return_path_was_made_for_is_named() {
    let to = RETURN_PATH.replace('@', ".3@");
    let bounce = format!(
        "Return-Path: <>\nDelivered-To: {to}\nFrom: MAILER-DAEMON@mx.example.org\nSubject: failure notice\n\n<forwarded@elsewhere.example>: 550 5.1.1 no such user\n"
    );
    let found = receipts(&read(bounce.into_bytes()));
    let [(DeliveryStage::Failed, Some(recipient), Some(_))] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(recipient, "#3");
}
