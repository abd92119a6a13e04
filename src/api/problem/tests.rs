use std::collections::HashSet;

use super::*;

#[test]
fn every_problem_has_a_name_of_its_own_and_an_error_status() {
    let names: HashSet<_> = Kind::ALL.map(Kind::uri).into();
    assert_eq!(names.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert!((400..600).contains(&kind.status()), "{kind:?}");
    }
}

#[test]
fn what_the_store_refuses_and_what_it_cannot_do_have_their_answers() {
    let (action, status, holder) = ("reply to", Status::Assigned, Some("ada".to_owned()));
    let cases: [(StoreError, u16, bool); 14] = [
        (Refusal::NotFound { what: "queue" }.into(), 404, false),
        (
            Refusal::WrongState {
                action,
                status,
                holder: holder.clone(),
            }
            .into(),
            409,
            false,
        ),
        (
            Refusal::NotAssignee {
                action,
                status,
                holder,
            }
            .into(),
            403,
            false,
        ),
        (Refusal::Role { role: Role::Admin }.into(), 403, false),
        (
            Refusal::Stale {
                current: 3,
                given: 2,
            }
            .into(),
            412,
            false,
        ),
        (
            Refusal::NotAnswerable {
                reason: "a bounce".to_owned(),
            }
            .into(),
            409,
            false,
        ),
        (Refusal::KeyReused.into(), 422, false),
        (
            Refusal::NotHeld {
                delivery: Some(Delivery::Sent),
            }
            .into(),
            409,
            false,
        ),
        (
            Refusal::TooLong {
                channel: "sms-us".parse().unwrap(),
                length: 3,
                max: 2,
                unit: "characters",
            }
            .into(),
            422,
            false,
        ),
        (
            Refusal::WindowClosed {
                channel: "sms-us".parse().unwrap(),
                window_seconds: 60,
            }
            .into(),
            409,
            false,
        ),
        (
            StoreError::Unavailable("/data/x.db is locked".to_owned()),
            503,
            true,
        ),
        (StoreError::Closed, 503, true),
        (
            StoreError::Poisoned("/data/x.db is broken".to_owned()),
            500,
            false,
        ),
        (StoreError::StaleEpoch("2".to_owned()), 500, false),
    ];
    for (error, status, waits) in cases {
        let what = error.to_string();
        let response = ApiError::from(error).into_response();
        assert_eq!(response.status().as_u16(), status, "{what}");
        assert_eq!(
            response.headers().contains_key(header::RETRY_AFTER),
            waits,
            "{what}"
        );
    }
    let inner = ApiError::from(StoreError::Poisoned("/data/x.db is broken".to_owned()));
    assert!(
        !inner.problem.detail.contains("/data"),
        "what is inside is not shown"
    );
}
