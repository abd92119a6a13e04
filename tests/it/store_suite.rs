//! What every store must do, as functions over a [`Backend`]. `store_suite!` makes one test of
//! each; another store runs all of them by giving its own backend to the same macro, with a `new`
//! that makes an empty one:
//!
//! ```text
//! mod postgres { crate::store_suite::store_suite!(crate::support::Postgres); }
//! ```
//!
//! Cases see only the traits `Store` and `Bus`. What is special to SQLite is tested in `sqlite`.

mod alerts;
mod claims;
mod credentials;
mod dedupe;
mod desk;
mod events;
mod held;
mod imports;
mod leases;
mod limits;
mod operating;
mod outbox;
mod permissions;
mod position;
mod privacy;
mod processes;
mod reconcile;
mod relays;
mod replies;
mod retention;
mod search;
mod several;
mod surgery;

macro_rules! store_suite {
    ($backend:path) => {
        crate::store_suite::store_suite! { $backend;
            alerts {
                an_answer_is_due_from_when_it_may_leave_until_it_left_or_is_held
                what_each_target_was_told_is_kept_over_a_crash_until_it_is_replaced
            }
            claims {
                whoever_waits_longest_is_claimed_first_and_priority_is_a_head_start
                racing_agents_take_every_conversation_once
                a_released_conversation_keeps_its_place
                a_customers_message_goes_to_the_agent_who_waits_for_it
                every_action_is_allowed_or_refused_by_state_and_holder
                an_action_on_another_version_is_refused
            }
            credentials {
                a_credential_is_kept_per_channel_and_name_over_restarts
            }
            dedupe {
                a_pushed_event_is_remembered_for_at_least_eight_days_and_then_forgotten
                an_edit_and_an_answer_find_their_message_long_after_its_redeliveries_are_forgotten
                what_a_source_can_show_again_is_never_forgotten
                one_event_delivered_by_many_batches_is_filed_once
            }
            desk {
                whom_an_answer_names_belongs_to_the_conversation_and_a_blind_copy_does_not
                an_answer_is_refused_by_the_field_that_the_channel_cannot_carry
                an_answer_over_another_channel_goes_to_where_the_contact_is_known_there
                an_answer_is_refused_once_the_customer_wrote_after_what_was_read
                an_answer_for_later_leaves_at_its_time_and_holds_up_nobody
                an_answer_for_later_stays_here_once_the_customer_wrote
                an_answer_taken_back_never_leaves_and_one_that_left_is_not_taken_back
                an_answer_that_some_recipients_did_not_get_comes_back_to_its_agent
                what_we_begin_waits_for_the_customer_whose_answer_comes_to_who_began_it
                what_we_begin_goes_on_to_whom_it_was_begun_with
                what_we_begin_is_its_contacts_and_a_matter_of_its_own_beside_an_open_one
                a_repeated_beginning_begins_once
                a_system_begins_what_nobody_holds
                a_beginning_is_refused_where_it_cannot_be
                nothing_is_begun_with_or_said_of_a_contact_that_was_merged_away
                every_verb_is_allowed_or_refused_by_state_and_holder
                a_snoozed_conversation_is_back_at_its_time_over_a_restart
                a_customer_wakes_a_snoozed_conversation_and_its_old_timer_does_nothing
                a_transferred_conversation_keeps_its_rank_or_is_somebodys_at_once
                a_conversation_is_given_to_nobody_who_could_not_work_on_it
                what_is_said_of_a_conversation_is_merged_and_bounded
                whoever_is_taken_out_joins_no_more
            }
            events {
                every_change_has_an_event_of_its_own
                pages_give_every_event_once_in_order_and_only_what_may_be_seen
                what_left_a_queue_or_an_agent_is_told_with_where_it_was
                routine_events_go_after_their_time_and_numbers_go_on
            }
            held {
                a_held_reply_is_settled_by_its_assignee_or_a_supervisor_and_nobody_else
                each_settlement_does_what_it_says_and_is_written_down
                only_a_held_reply_is_settled_and_only_once
                a_repeated_key_settles_once_and_another_request_under_it_is_refused
                a_reply_sent_again_has_its_full_time_again
                a_restored_store_gives_out_numbers_that_no_copy_of_it_has_given_out
                what_is_held_as_restored_leaves_only_when_it_is_settled
                what_was_under_way_is_held_with_the_rest_where_nothing_runs
                a_receipt_settles_what_is_held_as_restored
                what_cannot_be_sent_again_is_not_queued_again
            }
            imports {
                what_came_from_a_file_is_never_forgotten
                a_file_shows_nothing_again_that_was_pushed_weeks_ago
                an_answer_of_ours_in_a_file_is_known_by_the_id_it_left_under
                what_our_side_wrote_before_is_filed_closed_beside_the_customers_words
                history_began_and_ended_when_it_was_written
                history_does_not_move_what_is_dealt_with_here
                a_name_is_known_once_it_is_filed
                a_file_says_nothing_about_how_its_provider_is
                the_place_of_a_stopped_import_is_kept_until_it_ends_or_is_forgotten
            }
            leases {
                a_lease_has_one_holder_until_it_is_over_or_given_up
                an_epoch_rises_with_every_change_of_holder_and_fences_off_the_last_one
                of_many_who_want_a_lease_at_once_one_gets_it
            }
            privacy {
                nothing_of_a_held_contact_goes_until_the_hold_is_lifted
                a_hold_is_on_both_after_a_merge_and_after_its_undo
                only_a_supervisor_of_all_queues_answers_for_a_whole_person
                an_export_is_what_was_stored_of_the_person_and_nothing_of_another
                an_erasure_leaves_nothing_of_a_contact_though_it_crashes_at_every_step
                what_comes_again_of_an_erased_one_brings_nothing_back_and_what_is_new_is_somebody_new
                what_an_erased_one_wrote_to_others_loses_its_words_and_theirs_stay
                an_erasure_waits_for_what_is_being_sent_and_a_hold_keeps_it_off
            }
            processes {
                a_process_is_there_until_it_ends_or_says_nothing_more
                what_several_processes_agree_on_is_what_the_first_one_said
                what_another_process_has_is_left_alone_until_nobody_has_it
            }
            limits {
                a_text_that_is_too_long_is_refused_where_it_is_written
                an_answer_after_the_reply_window_is_refused
                a_message_anywhere_on_the_channel_opens_the_window_again
                what_does_not_fit_any_more_is_refused_before_it_leaves_and_stops_nobody
            }
            operating {
                a_dead_letter_is_listed_with_its_bytes_and_filed_once_when_redriven
                dead_letters_are_listed_the_last_buried_first
                a_letter_that_still_cannot_be_filed_stays_parked
                tries_are_counted_over_restarts
                a_cursor_is_kept_per_channel_over_restarts
                a_token_is_found_by_its_hash_until_it_is_revoked
                retention_drops_the_log_and_keeps_what_messages_say
                raw_bytes_go_before_the_message_does_and_redelivered_ones_with_the_log
                a_change_whose_message_never_came_is_given_up_after_its_time
                a_file_is_named_until_its_last_row_is_gone
            }
            outbox {
                a_reply_is_leased_once_and_a_sent_one_is_done
                a_reply_that_was_not_sent_is_due_again_at_its_time
                of_an_attempt_that_was_overtaken_only_that_it_was_sent_is_filed
                what_was_being_sent_in_a_crash_is_unknown_and_held
                what_was_being_sent_in_a_crash_is_sent_again_where_that_delivers_once
                an_unknown_or_refused_answer_comes_back_to_its_agent
                a_receipt_that_came_first_is_not_undone_by_the_settlement
                an_answer_that_did_not_leave_brings_a_resolved_conversation_back_to_its_queue
                a_failed_receipt_that_overtakes_the_answer_brings_the_conversation_back
                a_refused_receipt_rings_the_queue_that_waits_again
                an_acknowledgement_that_did_not_leave_brings_nobody_back
                replies_on_a_channel_that_cannot_send_are_refused
                a_reply_behind_another_is_due_when_that_one_is_settled
                what_a_broken_lane_was_sending_is_settled_and_the_others_lanes_are_left_alone
            }
            permissions {
                what_an_actor_may_not_see_does_not_exist_for_it
                a_list_is_in_the_order_of_opening_and_its_pages_give_each_once_while_others_are_added
                lists_are_filtered_and_paged
                queues_tell_how_many_wait_and_since_when
                queues_tell_nothing_of_other_brands
            }
            position {
                a_stale_owner_writes_nothing
                a_batch_decided_twice_is_written_once
                what_is_not_decided_is_decided_after_a_crash
            }
            reconcile {
                a_day_of_everything_that_may_be_has_no_gap
                every_kind_of_gap_is_named_with_what_to_do
                what_is_young_is_under_way_and_no_gap
                a_provider_that_does_not_answer_or_cannot_be_asked_is_never_a_success
                an_erasure_makes_no_gap_at_any_of_its_steps_and_names_nobody
            }
            relays {
                a_relay_moves_from_where_it_is_under_its_own_epoch
                what_is_told_comes_with_its_conversations_and_messages
                a_letter_is_to_be_copied_until_it_is_and_again_once_it_is_buried_again
            }
            replies {
                a_reply_goes_to_whoever_wrote_last_on_the_channel_they_wrote_on
                where_a_relay_changed_the_id_later_answers_refer_to_both
                a_reply_keeps_its_address_when_somebody_else_writes
                a_reply_goes_where_a_verified_author_wants_it_and_stays_there
                a_repeated_key_gives_the_same_message_and_another_request_is_refused
                a_key_is_forgotten_after_three_days
                the_same_request_twice_at_once_is_one_message
                a_note_never_leaves
                a_conversation_without_a_customers_message_cannot_be_answered
            }
            search {
                what_is_said_is_found_by_its_words
                edits_and_deletions_take_effect
                who_may_not_see_a_message_or_a_contact_does_not_find_it
                filters_all_hold_and_pages_give_every_hit_once
                contacts_are_found_by_name_and_address_and_a_merged_one_no_more
                what_goes_to_another_queue_is_found_there_and_not_where_it_was
                the_index_is_made_anew_where_the_log_does_not_reach_back
            }
            several {
                a_bounce_of_one_is_theirs_and_brings_the_conversation_back
                a_message_is_refused_once_all_its_recipients_are
                who_perhaps_did_not_get_it_is_unknown_and_never_refused
                what_is_late_is_told_and_what_fails_after_it_is_refused
                a_late_answer_to_one_says_so_until_it_is_there
                a_bounce_that_names_none_of_them_refuses_nobody_and_is_looked_at
                a_report_on_one_that_overtakes_the_answer_is_theirs_alone
            }
            retention {
                a_conversation_past_its_time_goes_with_all_that_was_said_in_it
                what_is_open_or_young_or_unsent_or_was_written_to_lately_stays
                what_comes_late_for_what_is_gone_fails_nowhere
                what_is_gone_is_known_when_its_mailbox_shows_it_again
                a_contact_goes_with_the_last_conversation_that_has_words_of_it
                a_guest_who_is_linked_in_the_same_batch_stays_with_its_words
                a_long_conversation_goes_in_steps_and_over_a_crash
                letters_drafts_and_revoked_tokens_have_periods_of_their_own
                how_long_conversations_are_overdue_is_told
                a_repeated_request_about_what_is_gone_is_refused_and_does_nothing
            }
            surgery {
                a_merge_is_one_timeline_by_arrival_and_its_undo_gives_both_back
                whatever_names_a_merged_conversation_leads_to_the_other_until_it_is_undone
                a_bounce_that_names_a_merged_conversation_is_of_the_answer_sent_in_it
                what_came_since_goes_where_it_belongs_and_what_agents_did_stays
                an_answer_keeps_its_address_and_merging_adds_no_recipient
                a_split_takes_its_references_along_and_its_undo_brings_everything_back
                whoever_took_part_in_what_was_merged_takes_part_where_it_is_split_off_or_moved_to
                a_moved_message_takes_its_place_by_arrival_and_goes_back_to_where_it_was
                what_another_operation_builds_on_is_undone_after_it
                only_conversations_of_one_contact_and_brand_are_merged_and_by_whom_they_are
                whoever_waits_in_a_merged_conversation_waits_in_the_other
                evidence_that_a_person_took_back_links_no_more
                a_claimed_sender_whom_a_person_merged_still_joins_only_what_such_senders_wrote
                an_identity_proven_with_another_goes_back_with_it
                what_would_hold_up_everybody_is_refused
            }
        }
    };
    ($backend:path; $($area:ident { $($case:ident)* })*) => {
        $(mod $area {
            use $backend as Made;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if !Made::available() {
                        return;
                    }
                    crate::store_suite::$area::$case(std::sync::Arc::new(Made::new())).await;
                }
            )*
        })*
    };
}
pub(crate) use store_suite;

mod local {
    crate::store_suite::store_suite!(crate::support::Local);
}

#[cfg(feature = "postgres")]
mod postgres {
    crate::store_suite::store_suite!(crate::support::Postgres);
}
