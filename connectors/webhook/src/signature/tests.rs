//! The public vector of Standard Webhooks, and everything near it that must be refused.

use connector_api::{Bytes, ErrorKind, Timestamp};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SENT: i64 = 1_614_265_330;
const BODY: &str = r#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn signed() -> WebhookRequest {
    let headers = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", SIGNATURE),
    ];
    WebhookRequest {
        method: "POST".to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes())))
            .into(),
        body: BODY.into(),
        received_at: Timestamp::from_second(SENT).unwrap(),
        ..WebhookRequest::default()
    }
}

fn set(request: &mut WebhookRequest, name: &str, value: &str) {
    request.headers.retain(|(header, _)| header != name);
    let value = Bytes::copy_from_slice(value.as_bytes());
    request.headers.push((name.to_owned(), value));
}

fn verifier(secrets: &[&str], token: Option<&str>) -> Verifier {
    let keys = secrets
        .iter()
        .map(|secret| SigningKey::new(secret).unwrap());
    Verifier::new(
        keys.collect(),
        token.map(|token| BearerToken::new(token).unwrap()),
    )
}

/// Changes the vector's request and says whether it is still let in.
fn check(what: &str, expected: bool, change: impl FnOnce(&mut WebhookRequest)) {
    let mut request = signed();
    change(&mut request);
    let result = verifier(&[SECRET], None).verify(&request);
    assert_eq!(result.is_ok(), expected, "{what}: {result:?}");
    if let Err(error) = result {
        assert_eq!(error.kind, ErrorKind::Auth, "{what}: {error}");
    }
}

#[test]
fn the_public_vector_is_signed_and_verified() {
    let signature = sign(SECRET, ID, SENT, BODY.as_bytes()).unwrap();
    assert_eq!(signature, SIGNATURE);
    check("as published", true, |_| {});
}

#[test]
fn whatever_was_changed_is_refused() {
    check("a digit of the body", false, |r| {
        r.body = BODY.replace('4', "5").into()
    });
    check("the body written again", false, |r| {
        r.body = BODY.replace(' ', "").into()
    });
    check("an empty body", false, |r| r.body = Bytes::new());
    check("another id", false, |r| set(r, "webhook-id", "msg_other"));
    check("a dot in the id", false, |r| set(r, "webhook-id", "msg.1"));
    check("another time", false, |r| {
        set(r, "webhook-timestamp", "1614265331")
    });
    check("a time with a sign", false, |r| {
        set(r, "webhook-timestamp", "+1614265330")
    });
    check("a time with a space", false, |r| {
        set(r, "webhook-timestamp", " 1614265330")
    });
    check("a time beyond 2^63", false, |r| {
        set(r, "webhook-timestamp", "99999999999999999999")
    });
    check("no number as time", false, |r| {
        set(r, "webhook-timestamp", "now")
    });
    check("an asymmetric signature", false, |r| {
        set(r, "webhook-signature", &SIGNATURE.replace("v1,", "v1a,"));
    });
    check("no version", false, |r| {
        set(r, "webhook-signature", &SIGNATURE.replace("v1,", ""))
    });
    check("no base64", false, |r| {
        set(r, "webhook-signature", "v1,***")
    });
    check("an empty signature", false, |r| {
        set(r, "webhook-signature", "v1,")
    });
    check("half a signature", false, |r| {
        set(r, "webhook-signature", "v1,g0hM9SsE+OTPJTGt")
    });
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        check(header, false, |r| {
            r.headers.retain(|(name, _)| name != header)
        });
        check(header, false, |r| set(r, header, ""));
    }
    check("no header at all", false, |r| r.headers.clear());
    check("a token where none is configured", false, |r| {
        r.headers.clear();
        set(r, "authorization", "Bearer ");
    });
}

#[test]
fn five_minutes_either_way_are_fresh_and_a_second_more_is_not() {
    for (offset, expected) in [
        (0, true),
        (300, true),
        (301, false),
        (-300, true),
        (-301, false),
    ] {
        check(&format!("arrival {offset} s later"), expected, |r| {
            r.received_at = Timestamp::from_second(SENT + offset).unwrap();
        });
    }
}

#[test]
fn one_good_signature_among_several_is_enough() {
    let bad = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    check("the second is good", true, |r| {
        set(
            r,
            "webhook-signature",
            &format!("{bad} v1a,xyz {SIGNATURE}"),
        );
    });
    check("the seventeenth is not looked at", false, |r| {
        set(
            r,
            "webhook-signature",
            &format!("{}{SIGNATURE}", format!("{bad} ").repeat(16)),
        );
    });
}

#[test]
fn both_live_secrets_are_taken_and_no_third() {
    let next = "a raw secret of thirty-two bytes";
    for (secret, expected) in [(SECRET, true), (next, true), ("whsec_AAAA", false)] {
        let mut request = signed();
        let signature = sign(secret, ID, SENT, BODY.as_bytes()).unwrap();
        set(&mut request, "webhook-signature", &signature);
        let verified = verifier(&[SECRET, next], None).verify(&request).is_ok();
        assert_eq!(verified, expected);
    }
}

#[test]
fn the_token_is_taken_whole_and_only_where_one_is_configured() {
    let token = "a-token-of-this-channel";
    for (authorization, expected) in [
        ("Bearer a-token-of-this-channel", true),
        ("bearer a-token-of-this-channel", true),
        ("Bearer a-token-of-this-channe", false),
        ("Bearer a-token-of-this-channel2", false),
        ("Bearer ", false),
        ("a-token-of-this-channel", false),
        ("Basic a-token-of-this-channel", false),
    ] {
        let mut request = WebhookRequest::default();
        set(&mut request, "authorization", authorization);
        for secrets in [&[][..], &[SECRET][..]] {
            let verified = verifier(secrets, Some(token)).verify(&request).is_ok();
            assert_eq!(verified, expected, "{authorization}");
        }
        assert!(verifier(&[SECRET], None).verify(&request).is_err());
    }
}

#[test]
fn a_signed_request_with_a_foreign_token_is_judged_by_its_signature() {
    let mut request = signed();
    set(
        &mut request,
        "authorization",
        "Bearer of-a-proxy-in-between",
    );
    assert!(verifier(&[SECRET], Some("ours")).verify(&request).is_ok());
    set(&mut request, "webhook-id", "other");
    assert!(verifier(&[SECRET], Some("ours")).verify(&request).is_err());
}

#[test]
fn an_empty_key_is_no_key() {
    for secret in ["", "whsec_", "whsec_not base64"] {
        assert!(SigningKey::new(secret).is_err(), "{secret}");
        assert!(sign(secret, ID, SENT, b"").is_err(), "{secret}");
    }
    assert!(BearerToken::new(" ").is_err());
}

#[test]
fn every_single_bit_of_the_signature_counts() {
    let tag = STANDARD
        .decode(SIGNATURE.trim_start_matches("v1,"))
        .unwrap();
    for bit in 0..tag.len() * 8 {
        let mut flipped = tag.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check("a flipped bit", false, |r| {
            set(
                r,
                "webhook-signature",
                &format!("v1,{}", STANDARD.encode(&flipped)),
            );
        });
    }
}
