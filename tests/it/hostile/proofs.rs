//! Forged proof of who wrote: whatever stands below what our own server stamped proves nothing.

use connector_api::{Bytes, Event};
use connector_email::parse::{OwnAddresses, ParseSettings, parse};

use crate::support::random;

const MAILS: u64 = 20_000;

/// Whom our server found proven, and who the attacker would like to be.
const PROVEN: &str = "evil.example";
const WANTED: &str = "bank.example";

fn one_of<'a>(seed: &mut u64, choices: &[&'a str]) -> &'a str {
    choices[(random(seed) % choices.len() as u64) as usize]
}

/// What our server stamps: it looked, and found nobody but [`PROVEN`] proven, if anybody.
fn stamp(seed: &mut u64) -> String {
    let found = one_of(
        seed,
        &[
            "dmarc=pass header.from=evil.example",
            "dmarc=fail (p=REJECT) header.from=bank.example",
            "dmarc=none header.from=bank.example",
            "dmarc=temperror header.from=bank.example",
            "none",
            "spf=pass smtp.mailfrom=evil.example;\r\n\tdkim=pass header.d=evil.example",
            // The attacker's words, as a server quotes them.
            "spf=pass smtp.mailfrom=\"a; dmarc=pass header.from=bank.example\"@evil.example",
            "dkim=fail reason=\"; dmarc=pass header.from=bank.example\" header.d=evil.example",
            "dmarc=fail (dmarc=pass header.from=bank.example) header.from=bank.example",
            "dmarc=fail (a \\) dmarc=pass header.from=bank.example; (b) header.from=bank.example",
            "spf=pass smtp.helo=\"bank.example\\\"; dmarc=pass header.from=bank.example; x=\\\"\"",
        ],
    );
    let name = one_of(seed, &["Authentication-Results", "authentication-results"]);
    let id = one_of(
        seed,
        &[
            "mx.shop.example",
            "MX.shop.example 1",
            "mx.shop.example (ours)",
        ],
    );
    format!("{name}: {id};\r\n {found}\r\n")
}

/// What the attacker writes into the mail.
fn forged(seed: &mut u64) -> String {
    let name = one_of(
        seed,
        &[
            "Authentication-Results:",
            "AUTHENTICATION-RESULTS:",
            "Authentication-Results :",
            "Authentication-Results\t:",
            " Authentication-Results:",
            "ARC-Authentication-Results: i=1;",
            "X-Authentication-Results:",
            "Authentication-Results:\r\n",
            "Received-SPF: pass\rAuthentication-Results:",
            "X-Note: a\nAuthentication-Results:",
            "Subject: =?utf-8?Q?a=0D=0AAuthentication-Results:?=",
            "\0Authentication-Results:",
        ],
    );
    let id = one_of(
        seed,
        &[
            "mx.shop.example",
            "\"mx.shop.example\"",
            "mx.shop.example.",
            "mx.shop.example 1",
            "(x) mx.shop.example",
            "mx.shop.example.evil.example",
            "other.example",
            "MX.SHOP.EXAMPLE",
        ],
    );
    let found = one_of(
        seed,
        &[
            "dmarc=pass header.from=bank.example",
            "dmarc = pass header.from = bank.example",
            "DMARC=PASS HEADER.FROM=BANK.EXAMPLE",
            "dmarc/1=pass header.from=\"bank.example\"",
            "dmarc=pass\r\n\theader.from=bank.example",
            "dmarc=(none)pass header.from=(x)bank.example",
            "spf=pass; dkim=pass; dmarc=pass header.from=bank.example",
            "dmarc=fail header.from=bank.example; dmarc=pass header.from=bank.example",
            "compauth=pass; dmarc=pass header.from=bank.example",
        ],
    );
    format!("{name} {id}; {found}\r\n")
}

fn from(seed: &mut u64) -> &'static str {
    one_of(
        seed,
        &[
            "From: Boss <boss@bank.example>",
            "From: boss@bank.example, eve@evil.example",
            "From: eve@evil.example\r\nFrom: boss@bank.example",
            "From: boss@bank.example\r\nFrom: eve@evil.example",
            "From: \"boss@bank.example\" <eve@evil.example>",
            "From: <@bank.example:eve@evil.example>",
            "From: boss@bank.example (eve@evil.example)",
            "From: =?utf-8?Q?boss=40bank.example?= <eve@evil.example>",
            "From: Group: boss@bank.example, eve@evil.example;",
            "From: boss@bank.example\0@evil.example",
            "From: \"boss@bank.example\"@evil.example",
            "From: eve@evil.example\r\n <boss@bank.example>",
            "From: boss@bank.example <eve@evil.example>",
            "From: boss@bank.example%evil.example",
            "From: boss@BANK.example\r\nSender: eve@evil.example",
        ],
    )
}

#[test]
fn nothing_that_a_sender_writes_proves_another_sender() {
    let settings = ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: Some("mx.shop.example".to_owned()),
        mail_bytes_max: 1024 * 1024,
    };
    let (mut seed, mut proven) = (19, 0);
    for number in 0..MAILS {
        let mut mail = stamp(&mut seed);
        mail.push_str("Received: from evil.example by mx.shop.example\r\n");
        for _ in 0..random(&mut seed) % 4 {
            mail.push_str(&forged(&mut seed));
        }
        mail.push_str(from(&mut seed));
        mail.push_str("\r\n");
        for _ in 0..random(&mut seed) % 3 {
            mail.push_str(&forged(&mut seed));
        }
        mail.push_str("Subject: Invoice\r\n\r\nPay.\r\n");
        let event = parse(Bytes::from(mail.clone()), &settings);
        let Event::Message(message) = &event.event else {
            panic!("mail {number} is {:?}: {mail}", event.event);
        };
        for identity in &message.from.identities {
            let is_verified = identity.evidence.is_verified();
            let is_theirs = identity.address.ends_with("@evil.example");
            assert!(
                is_theirs || !is_verified,
                "mail {number} proves {identity:?}: {mail}"
            );
            assert!(
                !is_verified || mail.starts_with("Auth") || mail.starts_with("auth"),
                "mail {number}"
            );
            proven += u64::from(is_verified);
        }
    }
    // What our server did find is believed: the test is not one of a parser that believes nobody.
    assert!(
        proven > 0,
        "{PROVEN} is proven now and then, and {WANTED} never"
    );
}
