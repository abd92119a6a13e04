//! Threads of others: guessed and stolen marks join nothing, and an id used again suppresses nothing.

use expect_test::expect;
use switchboard::ids::{ConversationId, IdKind};
use switchboard::router::Verdict;
use switchboard::router::reply_token::ReplyTokens;

use crate::complaints::{answered, claimed, proven, shown};
use crate::support::{Desk, Said, random};

/// Forged marks in all, and in one mail: fewer than a mail may carry.
const MARKS: usize = 100_000;
const MARKS_OF_A_MAIL: usize = 50;

/// Mails with a Message-ID of somebody else's.
const PAIRS: usize = 10_000;

/// FreeScout before 1.8.220 took a mail for an agent's answer by an id it never checked the MAC of,
/// and sent it on to the customer.
#[tokio::test]
async fn cve_2026_47123_a_forged_agent_is_a_stranger_and_reaches_no_customer() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let forged = format!("sb{}.{}", "a2".repeat(13), id.split_once('.').unwrap().1);
    for head in [
        format!("From: support@shop.example\nIn-Reply-To: <{forged}>"),
        format!("From: support@shop.example\nIn-Reply-To: <{id}>"),
        format!("From: agent@shop.example\nIn-Reply-To: <{id}>\nReply-To: ada@example.com"),
    ] {
        desk.deliver([claimed(&head, "Pay to this account.")]).await;
    }
    let shown = shown(&desk).await;
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
        #2 queued frontline normal [support@shop.example claimed]
          sha256 support@shop.example: Pay to this account. | 6 first_of_contact
        #3 queued own-matter frontline normal [support@shop.example claimed] -> #1 not_a_participant
          sha256 support@shop.example: Pay to this account. | 6 not_a_participant, not by reply_token
        #4 queued frontline normal [agent@shop.example claimed] -> #1 not_a_participant
          sha256 agent@shop.example: Pay to this account. | 6 not_a_participant, not by reply_token
    "#]]
    .assert_eq(&shown);
}

/// What an attacker may know of a conversation and guess from it.
struct Victim {
    number: ConversationId,
    /// The token, the public id of our answer, and both as our Message-ID.
    token: String,
    answer: String,
    id: String,
}

impl Victim {
    /// A mark that looks like one of ours and is none.
    fn forged_token(&self, seed: &mut u64) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let letter = |seed: &mut u64| char::from(ALPHABET[(random(seed) % 32) as usize]);
        match random(seed) % 4 {
            // Nothing of it is known.
            0 => format!("sb{}", (0..26).map(|_| letter(seed)).collect::<String>()),
            // The number is known, the MAC guessed.
            1 => {
                let known = self.token.split_at(11).0;
                let guessed: String = (0..17).map(|_| letter(seed)).collect();
                format!("{known}{guessed}")
            }
            // Another installation's, whose key the attacker has.
            2 => ReplyTokens::new(&random(seed).to_be_bytes()).mint(self.number),
            // A real one with one letter changed. The last letter has bits to spare.
            _ => loop {
                let at = 2 + (random(seed) % 25) as usize;
                let changed = letter(seed);
                let mut token: Vec<char> = self.token.chars().collect();
                if token[at] != changed {
                    token[at] = changed;
                    break token.into_iter().collect();
                }
            },
        }
    }

    /// A public id that looks like that of our answer and names nothing.
    fn forged_answer(&self, seed: &mut u64) -> String {
        let mut id: Vec<char> = self.answer.chars().collect();
        loop {
            let at = id.len() - 1 - (random(seed) % 32) as usize;
            let digit = char::from_digit((random(seed) % 16) as u32, 16).unwrap();
            if id[at] != digit {
                id[at] = digit;
                return id.into_iter().collect();
            }
        }
    }

    /// A Message-ID as ours or as the customer's might be.
    fn forged_id(&self, seed: &mut u64) -> String {
        let token = self.forged_token(seed);
        match random(seed) % 4 {
            0 => format!("{token}.{}@shop.example", self.forged_answer(seed)),
            1 => format!("{token}.{}@shop.example", self.answer),
            2 => format!("a{}@example.com", 2 + random(seed) % 100_000),
            _ => self.forged_answer(seed),
        }
    }

    /// A mail with as many forged marks as [`MARKS_OF_A_MAIL`]; whoever is somebody else has stolen
    /// the real ones, too.
    fn attack(&self, number: usize, seed: &mut u64) -> Said {
        let is_victims_name = number.is_multiple_of(4);
        let ids: Vec<String> = (0..MARKS_OF_A_MAIL - 10)
            .map(|_| format!("<{}>", self.forged_id(seed)))
            .collect();
        let tokens: Vec<String> = (0..8)
            .map(|_| format!("support+{}@shop.example", self.forged_token(seed)))
            .collect();
        let stolen = match is_victims_name {
            // Our own answer's id is what only the customer has.
            true => "<a1@example.com>".to_owned(),
            false => format!("<a1@example.com> <{}>", self.id),
        };
        let thread_index = format!("Ad{:016x}{:016x}", random(seed), random(seed));
        let nearest = self.forged_id(seed);
        let head = |from: &str| {
            format!(
                "From: {from}\nSubject: Re: Order 17\nTo: {}\nIn-Reply-To: <{nearest}>\nReferences: {}\n {stolen}\nThread-Index: {thread_index}\nMessage-ID: <x{number}@evil.example>",
                tokens.join(",\n "),
                ids.join("\n "),
            )
        };
        let text = format!("Send it to me instead, {number}.");
        match number % 4 {
            0 => claimed(&head("Ada <ada@example.com>"), &text),
            1 => proven(&head(&format!("eve{number}@evil.example")), &text),
            2 => claimed(&head("support@shop.example"), &text),
            _ => claimed(
                &head(&format!("ada@example.com.evil{number}.example")),
                &text,
            ),
        }
    }
}

#[tokio::test]
async fn of_a_hundred_thousand_forged_marks_none_joins() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let number = desk.conversation(1).await.id;
    let answer = desk.messages(1).await[1].id;
    let victim = Victim {
        number,
        token: desk.keys.reply_tokens.mint(number),
        answer: desk.keys.ids.encode(IdKind::Message, answer.0),
        id,
    };
    let (mut seed, mut attacks) = (17, 0);
    while attacks < MARKS / MARKS_OF_A_MAIL {
        let batch: Vec<Said> = (attacks..attacks + 250)
            .map(|number| victim.attack(number, &mut seed))
            .collect();
        attacks += batch.len();
        desk.accept_at_once(batch).await;
        let verdicts = desk.route(500).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Filed));
    }
    assert_eq!(desk.messages(1).await.len(), 2, "nobody joined");
    let hers = desk.conversation(1).await.contact;
    let all = desk.conversations().await;
    let of_hers = all.iter().filter(|found| found.contact == hers).count();
    assert_eq!(of_hers, 1, "nobody became her");
    // The real thing joins, from her own address.
    let genuine = format!("From: ada@example.com\nIn-Reply-To: <{}>", victim.id);
    desk.deliver([claimed(&genuine, "Thanks!")]).await;
    assert_eq!(desk.messages(1).await.len(), 3);
}

#[tokio::test]
async fn ten_thousand_message_ids_used_again_with_other_content_suppress_no_mail() {
    let mut desk = Desk::new().await;
    let mut seed = 18;
    let mail = |number: usize, from: &str, text: &str| {
        let head = format!("From: {from}\nSubject: Order\nMessage-ID: <m{number}@example.com>");
        claimed(&head, &format!("{text} {number}"))
    };
    let mut filed = 0;
    for batch in 0..PAIRS / 250 {
        let mut mails = Vec::new();
        for number in batch * 250..(batch + 1) * 250 {
            let customer = format!("c{}@example.com", number % 100);
            let theirs = mail(number, &customer, "Where is my order");
            let others = match random(&mut seed) % 3 {
                // Under the customer's own name, under another one, or with the same words.
                0 => mail(number, &customer, "Cancel all of it"),
                1 => mail(
                    number,
                    &format!("e{}@evil.example", number % 100),
                    "Nothing",
                ),
                _ => mail(number, "e@evil.example", "Where is my order"),
            };
            // Whoever knows an id beforehand comes first.
            match random(&mut seed).is_multiple_of(2) {
                true => mails.extend([theirs, others]),
                false => mails.extend([others, theirs]),
            }
        }
        // Once more the same: a redelivery is one, whichever of the two it is of.
        let again: Vec<Said> = mails.iter().take(20).cloned().collect();
        desk.accept_at_once(mails).await;
        let verdicts = desk.route(500).await;
        filed += verdicts
            .iter()
            .filter(|one| **one == Verdict::Filed)
            .count();
        desk.accept_at_once(again).await;
        let verdicts = desk.route(500).await;
        assert_eq!(verdicts, [Verdict::Duplicate; 20]);
    }
    assert_eq!(filed, 2 * PAIRS);
}
