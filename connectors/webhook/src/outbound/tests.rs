//! The table of answers.

use expect_test::expect;

use super::*;

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    HttpResponse {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: body.to_owned().into(),
    }
}

fn kind(status: u16, idempotent: bool) -> String {
    match outcome(&answer(status, &[], ""), idempotent) {
        Ok(_) => "sent".to_owned(),
        Err(error) => format!("{:?}", error.kind),
    }
}

#[test]
fn every_status_has_one_meaning() {
    let mut table = String::new();
    for status in [
        200, 202, 204, 302, 400, 401, 403, 404, 408, 409, 410, 413, 422, 425, 429, 500, 501, 502,
        503, 504, 599,
    ] {
        let (repeats_dropped, repeats_kept) = (kind(status, true), kind(status, false));
        table += &match repeats_dropped == repeats_kept {
            true => format!("{status} {repeats_dropped}\n"),
            false => format!("{status} {repeats_dropped}, not idempotent: {repeats_kept}\n"),
        };
    }
    expect![[r#"
        200 sent
        202 sent
        204 sent
        302 Rejected
        400 Rejected
        401 Auth
        403 Auth
        404 Rejected
        408 Unavailable
        409 Rejected
        410 Rejected
        413 Rejected
        422 Rejected
        425 Unavailable
        429 RateLimited { retry_after: None }
        500 Unavailable, not idempotent: OutcomeUnknown
        501 Unavailable, not idempotent: OutcomeUnknown
        502 Unavailable, not idempotent: OutcomeUnknown
        503 Unavailable
        504 Unavailable, not idempotent: OutcomeUnknown
        599 Unavailable, not idempotent: OutcomeUnknown
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_named_delay_is_carried_and_a_date_is_not_guessed_at() {
    let wait = |status, value| {
        outcome(&answer(status, &[("retry-after", value)], ""), true)
            .unwrap_err()
            .kind
    };
    let limited = |seconds: Option<u64>| ErrorKind::RateLimited {
        retry_after: seconds.map(Duration::from_secs),
    };
    assert_eq!(wait(429, "17"), limited(Some(17)));
    assert_eq!(wait(503, "17"), limited(Some(17)));
    assert_eq!(wait(429, "Fri, 31 Dec 1999 23:59:59 GMT"), limited(None));
    assert_eq!(wait(503, "soon"), ErrorKind::Unavailable);
}

#[test]
fn an_id_is_kept_where_the_answer_has_one_and_anything_else_is_still_sent() {
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(WORD_CHARS_MAX + 1));
    for (body, expected) in [
        (r#"{"id":"r-1","more":true}"#, vec!["r-1".to_owned()]),
        (r#"{"id":7}"#, vec![]),
        (r#"{"id":""}"#, vec![]),
        (long.as_str(), vec![]),
        ("ok", vec![]),
        ("", vec![]),
        ("[", vec![]),
    ] {
        let receipt = outcome(&answer(200, &[], body), false).unwrap();
        assert_eq!(receipt.provider_message_ids, expected, "{body}");
    }
}

#[test]
fn a_refusal_says_why_in_one_short_line() {
    let message = |body: &str| outcome(&answer(422, &[], body), true).unwrap_err().message;
    assert_eq!(
        message(r#"{"error":"customer left"}"#),
        "the receiver answered 422: customer left"
    );
    assert_eq!(
        message(r#"{"title":"no\r\nsuch"}"#),
        "the receiver answered 422: no  such"
    );
    assert_eq!(message("<html>"), "the receiver answered 422");
    let long = format!(r#"{{"error":"{}"}}"#, "ü".repeat(1_000));
    assert!(message(&long).chars().count() < REASON_CHARS_MAX + 40);
}
