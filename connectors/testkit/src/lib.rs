#![doc = include_str!("../README.md")]

mod cases;
mod context;
mod fixtures;
mod http;
mod intake;
mod kit;
mod line;
mod logs;
mod provider;
mod readme;
mod run;

pub use crate::context::{FixedClock, MemoryCredentials, NOW_SECONDS, StaticSecrets, now};
pub use crate::fixtures::{check_golden, show_events};
pub use crate::http::{LoopbackHttp, closed_address};
pub use crate::intake::RecordingIntake;
#[doc(hidden)]
pub use crate::intake::set_wait_max;
pub use crate::kit::{outbound_reply, post};
pub use crate::logs::CapturedLogs;
pub use crate::provider::{Delivered, DeliveredAttachment, FakeProvider, Fault, Handshake, Side};
pub use crate::readme::config_table;
pub use crate::run::{Outcome, Waiver, case_outcome, run_case};

#[doc(hidden)]
pub use crate::cases::{CASE_NAMES, names};

/// Hands the list of every case to `$then`: `[module case gate]`. A case runs where its gate finds
/// the surface in the connector's capabilities.
#[doc(hidden)]
#[macro_export]
macro_rules! each_case {
    ($then:ident $($with:tt)*) => {
        $crate::$then! {
            $($with)*
            [always capabilities_match_surfaces always]
            [always config_schema_covers_every_field always]
            [always unknown_config_key_is_named always]
            [always config_example_builds always]
            [always readme_tells_the_configuration always]
            [always missing_secret_is_named always]
            [always build_does_no_io always]
            [always health_tells_bad_credentials_from_unreachable connecting]
            [always checks_name_what_was_tried always]
            [authorize granted_access_survives_a_restart authorizing]
            [authorize answer_to_another_question_grants_nothing authorizing]
            [secrecy secrets_never_in_debug_errors_or_logs always]
            [parsing fixtures_parse_to_golden inbound]
            [parsing garbage_is_malformed_not_panic inbound]
            [parsing unknown_fields_are_kept webhook]
            [webhook genuine_delivery_is_accepted webhook]
            [webhook tampered_body_is_refused webhook]
            [webhook unsigned_request_is_refused webhook]
            [webhook stale_timestamp_is_refused webhook]
            [webhook handshake_is_answered webhook]
            [inbound same_delivery_gives_same_key inbound]
            [inbound customer_text_arrives_unchanged inbound]
            [inbound sender_has_an_address inbound]
            [inbound reply_carries_thread_hint conversing]
            [pull crash_before_commit_loses_nothing pull]
            [pull cursor_survives_a_json_round_trip pull]
            [pull messages_keep_their_order pull]
            [pull rejected_credentials_are_auth pull]
            [pull what_came_while_down_arrives replayable]
            [pull first_connection_marks_its_place replayable]
            [inventory what_was_accepted_is_listed_under_its_keys listing]
            [pull empty_poll_keeps_cursor poll]
            [pull cancel_mid_poll_loses_nothing poll]
            [stream ack_only_after_accept stream]
            [stream slow_intake_applies_back_pressure stream]
            [stream reconnect_resumes stream]
            [stream stop_returns_within_limit stream]
            [send text_arrives_unchanged send]
            [send reply_lands_in_its_thread conversing]
            [send provider_ids_are_returned receipts]
            [send receipts_follow_sends receipts]
            [send same_key_twice_delivers_once idempotent]
            [send hostile_header_text_adds_no_recipient send]
            [faults rate_limit_carries_retry_after send]
            [faults server_error_is_unavailable send]
            [faults refusal_is_rejected_with_reason send]
            [faults lost_answer_is_outcome_unknown send]
            [faults unreadable_answer_is_not_sent_again send]
            [faults rejected_credentials_stop_sending send]
            [faults unreachable_provider_is_unavailable send]
            [attachments attachment_round_trip attachments]
            [attachments oversize_refused_before_upload attachments]
            [attachments hostile_file_name_is_harmless attachments]
            [several everybody_gets_it_once_and_a_blind_copy_shows_nowhere several]
            [several whoever_is_refused_is_named_and_the_others_get_it_once several]
            [several html_arrives_beside_the_text html]
            [several an_image_is_found_by_the_id_in_the_html images]
            [several too_much_together_is_refused_before_upload sum]
            [several an_address_is_read_as_events_write_it_and_garbage_is_refused starts]
        }
    };
}

/// Expands to one test per case. `$provider` is a future of a [`FakeProvider`]; every case awaits
/// one of its own.
///
/// A case that cannot hold is waived with its reason. A waiver fails once its case would pass, and
/// a name that is no case does not compile.
///
/// ```text
/// connector_conformance!(FakePager::start(), waive: [
///     stale_timestamp_is_refused = "the provider signs no time",
/// ]);
/// ```
#[macro_export]
macro_rules! connector_conformance {
    ($provider:expr $(, waive: [$($case:ident = $reason:literal),* $(,)?])? $(,)?) => {
        $crate::each_case! {
            conformance_tests
            { $provider } { $($($case = $reason,)*)? }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ({ $provider:expr } $waivers:tt $([$module:ident $case:ident $gate:ident])*) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[test]
                fn $case() {
                    $crate::run_case(
                        $crate::names::$case,
                        env!("CARGO_MANIFEST_DIR"),
                        $crate::waivers!($waivers),
                        async { $provider.await },
                    );
                }
            )*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! waivers {
    ({ $($case:ident = $reason:literal,)* }) => {
        &[$($crate::Waiver { case: $crate::names::$case, reason: $reason }),*]
    };
}
