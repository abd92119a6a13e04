//! The kit's own proof: a sound connector passes every case, and for every case there is something
//! broken that it notices.

#[cfg(test)]
mod toy {
    pub mod connector;
    pub mod grants;
    pub mod sender;
    pub mod setup;
    pub mod world;
}

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use connector_testkit::{Outcome, case_outcome, connector_conformance, set_wait_max};

use crate::toy::setup::{Break, Surface};
use crate::toy::world::FakeWorld;

mod webhook {
    use super::*;

    connector_conformance!(FakeWorld::start(Surface::Webhook));
}

mod poll {
    use super::*;

    connector_conformance!(FakeWorld::start(Surface::Poll));
}

mod stream {
    use super::*;

    connector_conformance!(FakeWorld::start(Surface::Stream));
}

/// What is broken, on which surface, and the cases that have to notice.
const BROKEN: &[(Break, Surface, &[&str])] = &[
    (
        Break::ClaimsAnotherSurface,
        Surface::Poll,
        &["capabilities_match_surfaces"],
    ),
    (
        Break::SecretIsOptional,
        Surface::Poll,
        &["missing_secret_is_named"],
    ),
    (Break::BuildConnects, Surface::Poll, &["build_does_no_io"]),
    (
        Break::HealthIsAlwaysReady,
        Surface::Stream,
        &["health_tells_bad_credentials_from_unreachable"],
    ),
    (
        Break::ChecksAreAlwaysReady,
        Surface::Poll,
        &["checks_name_what_was_tried"],
    ),
    (
        Break::ChecksAreEmpty,
        Surface::Webhook,
        &["checks_name_what_was_tried"],
    ),
    (
        Break::SecretInError,
        Surface::Stream,
        &["secrets_never_in_debug_errors_or_logs"],
    ),
    (
        Break::SecretInLog,
        Surface::Poll,
        &["secrets_never_in_debug_errors_or_logs"],
    ),
    (
        Break::GarbagePanics,
        Surface::Poll,
        &["garbage_is_malformed_not_panic"],
    ),
    (
        Break::UnknownFieldsAreDropped,
        Surface::Webhook,
        &["unknown_fields_are_kept"],
    ),
    (
        Break::Shouts,
        Surface::Stream,
        &[
            "customer_text_arrives_unchanged",
            "fixtures_parse_to_golden",
        ],
    ),
    (
        Break::RefusesEverything,
        Surface::Webhook,
        &["genuine_delivery_is_accepted"],
    ),
    (
        Break::LetsEverythingIn,
        Surface::Webhook,
        &[
            "tampered_body_is_refused",
            "unsigned_request_is_refused",
            "stale_timestamp_is_refused",
            "garbage_is_malformed_not_panic",
        ],
    ),
    (
        Break::ForgetsTheTime,
        Surface::Webhook,
        &["stale_timestamp_is_refused"],
    ),
    (
        Break::HandshakeIsAnEvent,
        Surface::Webhook,
        &["handshake_is_answered"],
    ),
    (
        Break::KeyPerDelivery,
        Surface::Webhook,
        &["same_delivery_gives_same_key"],
    ),
    (
        Break::KeyPerDelivery,
        Surface::Stream,
        &["same_delivery_gives_same_key"],
    ),
    (
        Break::KeyFromText,
        Surface::Poll,
        &["same_delivery_gives_same_key"],
    ),
    (
        Break::AddressAsWritten,
        Surface::Poll,
        &["sender_has_an_address"],
    ),
    (
        Break::ForgetsTheThread,
        Surface::Webhook,
        &["reply_carries_thread_hint", "reply_lands_in_its_thread"],
    ),
    (
        Break::CursorMovesFirst,
        Surface::Stream,
        &["crash_before_commit_loses_nothing"],
    ),
    (
        Break::CursorMovesFirst,
        Surface::Poll,
        &["crash_before_commit_loses_nothing"],
    ),
    (
        Break::CursorInMemory,
        Surface::Stream,
        &["cursor_survives_a_json_round_trip"],
    ),
    (
        Break::CursorInMemory,
        Surface::Poll,
        &["cursor_survives_a_json_round_trip"],
    ),
    (
        Break::NewestFirst,
        Surface::Poll,
        &["messages_keep_their_order"],
    ),
    (
        Break::AuthIsUnavailable,
        Surface::Stream,
        &["rejected_credentials_are_auth"],
    ),
    (
        Break::AuthIsUnavailable,
        Surface::Poll,
        &["rejected_credentials_are_auth"],
    ),
    (
        Break::AlwaysStartsAtNow,
        Surface::Stream,
        &["what_came_while_down_arrives"],
    ),
    (
        Break::NoFirstCursor,
        Surface::Stream,
        &["first_connection_marks_its_place"],
    ),
    (
        Break::NoFirstCursor,
        Surface::Poll,
        &["first_connection_marks_its_place"],
    ),
    (
        Break::EmptyPollMovesCursor,
        Surface::Poll,
        &["empty_poll_keeps_cursor"],
    ),
    (
        Break::PollKeepsItsPlace,
        Surface::Poll,
        &["cancel_mid_poll_loses_nothing"],
    ),
    (
        Break::ListsUnderOtherKeys,
        Surface::Poll,
        &["what_was_accepted_is_listed_under_its_keys"],
    ),
    (
        Break::ListsAllAsAhead,
        Surface::Poll,
        &["what_was_accepted_is_listed_under_its_keys"],
    ),
    (
        Break::AcksFirst,
        Surface::Stream,
        &["ack_only_after_accept"],
    ),
    (
        Break::AcceptsAtOnce,
        Surface::Stream,
        &["slow_intake_applies_back_pressure"],
    ),
    (
        Break::ReconnectStartsAtNow,
        Surface::Stream,
        &["reconnect_resumes"],
    ),
    (
        Break::IgnoresStop,
        Surface::Stream,
        &["stop_returns_within_limit"],
    ),
    (
        Break::SendsInCapitals,
        Surface::Poll,
        &["text_arrives_unchanged"],
    ),
    (
        Break::SendsOutsideTheThread,
        Surface::Poll,
        &["reply_lands_in_its_thread"],
    ),
    (
        Break::ReturnsNoIds,
        Surface::Poll,
        &["provider_ids_are_returned", "receipts_follow_sends"],
    ),
    (
        Break::EveryReceiptIsRead,
        Surface::Webhook,
        &["receipts_follow_sends"],
    ),
    (
        Break::NewIdPerAttempt,
        Surface::Poll,
        &["same_key_twice_delivers_once"],
    ),
    (
        Break::LineBreaksAreHeaders,
        Surface::Poll,
        &["hostile_header_text_adds_no_recipient"],
    ),
    (
        Break::EverythingIsUnavailable,
        Surface::Poll,
        &[
            "rate_limit_carries_retry_after",
            "refusal_is_rejected_with_reason",
            "lost_answer_is_outcome_unknown",
            "unreadable_answer_is_not_sent_again",
            "rejected_credentials_stop_sending",
        ],
    ),
    (
        Break::EverythingIsRejected,
        Surface::Poll,
        &[
            "server_error_is_unavailable",
            "unreachable_provider_is_unavailable",
        ],
    ),
    (
        Break::FilesAreDropped,
        Surface::Poll,
        &["attachment_round_trip"],
    ),
    (
        Break::AnySizeIsUploaded,
        Surface::Poll,
        &["oversize_refused_before_upload"],
    ),
    (
        Break::FileNamesAreHeaders,
        Surface::Poll,
        &["hostile_file_name_is_harmless"],
    ),
    (
        Break::CopiesAreDropped,
        Surface::Poll,
        &["everybody_gets_it_once_and_a_blind_copy_shows_nowhere"],
    ),
    (
        Break::BlindCopiesAreShown,
        Surface::Poll,
        &["everybody_gets_it_once_and_a_blind_copy_shows_nowhere"],
    ),
    (
        Break::RefusalsAreSilent,
        Surface::Poll,
        &["whoever_is_refused_is_named_and_the_others_get_it_once"],
    ),
    (
        Break::HtmlIsDropped,
        Surface::Poll,
        &["html_arrives_beside_the_text"],
    ),
    (
        Break::ImagesHaveNoIds,
        Surface::Poll,
        &["an_image_is_found_by_the_id_in_the_html"],
    ),
    (
        Break::AnySumIsUploaded,
        Surface::Poll,
        &["too_much_together_is_refused_before_upload"],
    ),
    (
        Break::AnyAddressIsRead,
        Surface::Poll,
        &["an_address_is_read_as_events_write_it_and_garbage_is_refused"],
    ),
    (
        Break::AddressesAreReadAsWritten,
        Surface::Poll,
        &["an_address_is_read_as_events_write_it_and_garbage_is_refused"],
    ),
    (
        Break::ForgetsTheGrant,
        Surface::Stream,
        &["granted_access_survives_a_restart"],
    ),
    (
        Break::TakesAnyAnswer,
        Surface::Stream,
        &["answer_to_another_question_grants_nothing"],
    ),
];

/// Cases that notice what is wrong with [`FakeWorld::lax`].
const LAX: &[&str] = &[
    "config_schema_covers_every_field",
    "unknown_config_key_is_named",
    "config_example_builds",
    "readme_tells_the_configuration",
];

async fn outcome(case: &str, fake: FakeWorld) -> Outcome {
    case_outcome(case, Path::new(env!("CARGO_MANIFEST_DIR")), Box::new(fake)).await
}

#[tokio::test]
async fn every_break_is_noticed_by_its_cases() {
    // While golden files are written, what is broken would be written into them.
    if std::env::var_os("UPDATE").is_some() {
        return;
    }
    set_wait_max(Duration::from_secs(1));
    let mut unnoticed = Vec::new();
    for (broken, surface, cases) in BROKEN {
        for case in *cases {
            let outcome = outcome(case, FakeWorld::broken(*surface, Some(*broken))).await;
            if !matches!(outcome, Outcome::Failed(_)) {
                unnoticed.push(format!(
                    "{case} with {broken:?} on {surface:?}: {outcome:?}"
                ));
            }
        }
    }
    for case in LAX {
        let outcome = outcome(case, FakeWorld::lax()).await;
        if !matches!(outcome, Outcome::Failed(_)) {
            unnoticed.push(format!("{case} with a lax configuration: {outcome:?}"));
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn no_case_is_without_a_break_and_the_readme_names_them_all() {
    let noticing = BROKEN
        .iter()
        .flat_map(|(_, _, cases)| cases.iter())
        .chain(LAX);
    let noticing: BTreeSet<&str> = noticing.copied().collect();
    let all: BTreeSet<&str> = connector_testkit::CASE_NAMES.iter().copied().collect();
    assert_eq!(noticing, all);
    let readme = include_str!("../README.md");
    for case in all {
        assert!(
            readme.contains(&format!("`{case}`")),
            "the README does not name {case}"
        );
    }
}
