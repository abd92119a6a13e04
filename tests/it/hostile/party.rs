//! Machines at one address: what comes to `help@theirs.example` goes to another Switchboard, to a
//! vacation notice, to a bounce bot and to one that says nothing of itself, and each answers.

use std::collections::{BTreeMap, VecDeque};

use crate::loops::{MAILS_MAX, Mail, Office, PER_PAIR_MAX, Random, World, deliver};

const PARTIES: u64 = 2_000;

/// Who else reads there, besides the desk.
const GUESTS: [&str; 3] = ["vacation", "mailer-daemon", "assistant"];

fn field(mail: &Mail, name: &str) -> String {
    let text = String::from_utf8_lossy(&mail.bytes).into_owned();
    let lines = text.lines().take_while(|line| !line.is_empty());
    let mut values = lines.filter_map(|line| line.strip_prefix(name));
    values.next().unwrap_or_default().trim().to_owned()
}

/// What a guest answers, to where answers are wanted or to whoever sent.
fn answer(guest: &str, mail: &Mail, number: usize, random: &mut Random) -> Mail {
    let reply_to = field(mail, "Reply-To:");
    let to = match random.is() && !reply_to.is_empty() {
        true => reply_to.trim_matches(['<', '>']).to_owned(),
        false => mail.from.clone(),
    };
    let (id, subject) = (field(mail, "Message-ID:"), field(mail, "Subject:"));
    let from = format!("{guest}@theirs.example");
    let refers = match random.is() {
        true => format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"),
        false => String::new(),
    };
    let (mark, subject, body) = match guest {
        "vacation" => (
            random.one_of(&["Auto-Submitted: auto-replied\r\n", "Precedence: bulk\r\n"]),
            format!("Out of office: {subject}"),
            "\r\nI am away until Monday.\r\n".to_owned(),
        ),
        // A genuine report, or one in words alone.
        "mailer-daemon" if random.is() => (
            "Return-Path: <>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
            "Undelivered Mail Returned to Sender".to_owned(),
            format!(
                "\r\n--b\r\n\r\nNo such user.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; theirs.example\r\n\r\nFinal-Recipient: rfc822; nobody@theirs.example\r\nAction: failed\r\nStatus: 5.1.1\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {id}\r\n--b--\r\n"
            ),
        ),
        "mailer-daemon" => (
            "",
            "Delivery failure".to_owned(),
            "\r\nYour message could not be delivered: no such user here.\r\n".to_owned(),
        ),
        _ => (
            "",
            format!("Re: {subject}"),
            format!("\r\nThank you for your mail {number}, it matters to us.\r\n"),
        ),
    };
    let bytes = format!(
        "{mark}{refers}From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{number}.{guest}@theirs.example>\r\n{body}"
    );
    Mail {
        from,
        to,
        bytes: bytes.into_bytes(),
        has_null_sender: guest == "mailer-daemon",
    }
}

/// Automatic mails between us and another address: both ways together, and those of them that we sent.
#[derive(Debug, Default, Clone, Copy)]
struct Mails {
    all: usize,
    ours: usize,
}

async fn party(seed: u64, world: &World) -> BTreeMap<String, Mails> {
    let mut random = Random::of(seed);
    let (mut ours, mut theirs) = (world.ours.desk(), world.theirs.desk());
    let (is_stripped, is_stamped) = (random.is(), random.is());
    let question = format!(
        "From: {}\r\nTo: {}\r\nSubject: A question\r\nMessage-ID: <{seed}@theirs.example>\r\n\r\nWhere is my order 4711?\r\n",
        world.theirs.address, world.ours.address
    );
    let mut on_the_way = VecDeque::from([Mail {
        from: world.theirs.address.clone(),
        to: world.ours.address.clone(),
        bytes: question.into_bytes(),
        has_null_sender: false,
    }]);
    let mut counts: BTreeMap<String, Mails> = BTreeMap::new();
    let mut mails = 0;
    while let Some(mut mail) = on_the_way.pop_front() {
        mails += 1;
        if mails > 10 * MAILS_MAX {
            break;
        }
        let is_ours = mail.from == world.ours.address;
        deliver(&mut mail, is_stripped, is_stamped && !is_ours);
        let mut sent = Vec::new();
        if !is_ours {
            sent = ours.take(&mail).await;
        } else if mail.to == world.theirs.address {
            sent = theirs.take(&mail).await;
            for guest in GUESTS {
                sent.push(answer(guest, &mail, mails, &mut random));
            }
        } else {
            // One of the guests was written to.
            let guest = mail.to.split('@').next().unwrap_or_default().to_owned();
            sent.push(answer(&guest, &mail, mails, &mut random));
        }
        for mail in sent {
            let is_ours = mail.from == world.ours.address;
            let other = match is_ours {
                true => &mail.to,
                false => &mail.from,
            };
            let known = counts.entry(other.clone()).or_default();
            known.all += 1;
            known.ours += usize::from(is_ours);
            on_the_way.push_back(mail);
        }
    }
    counts
}

#[test]
fn freescout_3670_machines_that_share_an_address_get_one_answer_each_at_most() {
    let world = World {
        ours: Office::new("support@ours.example"),
        theirs: Office::new("help@theirs.example"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut most: BTreeMap<String, Mails> = BTreeMap::new();
    for seed in 0..PARTIES {
        let counts = runtime.block_on(party(seed, &world));
        for (other, count) in counts {
            // A guest also answers what went to the address it shares, and may be answered for that.
            let max = PER_PAIR_MAX + usize::from(other != world.theirs.address);
            assert!(
                count.all <= max && count.ours <= 1,
                "party {seed}: {count:?} between us and {other}"
            );
            let known = most.entry(other).or_default();
            known.all = count.all.max(known.all);
            known.ours = count.ours.max(known.ours);
        }
    }
    assert_eq!(most.len(), 1 + GUESTS.len(), "all took part: {most:?}");
    assert!(
        most.values().any(|most| most.ours == 1),
        "we answer once: {most:?}"
    );
}
