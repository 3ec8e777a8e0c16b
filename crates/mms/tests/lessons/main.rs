//! What users of model servers suffer from, each kind of suffering shown to be over, through the doors that users have. What stands in
//! `acceptance`, `cli` and `terminal` already (kills, ports, readiness, drains) is not repeated here. Where each is shown (`file::test`,
//! below this folder, `crates/mms/tests` or `crates`; that they are there is a test, too):
//!
//! | they suffer | shown by |
//! |---|---|
//! | the victim of an eviction was loading, busy, pinned or the very model just asked for | `victims::a_victim_is_neither_busy_nor_pinned`, `mms-manager/src/lifecycle/tests/random::with_workers_in_order_everybody_is_answered_without_waiting` |
//! | a limit by count only, and out of memory; a refusal without figures | `limits::what_can_never_fit_is_refused_with_figures_on_every_door`, `limits::no_more_models_than_allowed_are_in_memory`, `victims::if_all_is_pinned_the_newcomer_gets_a_refusal_with_figures` |
//! | the victim is revived while it goes; a scheduler hangs behind a green health page | `mms-manager/src/lifecycle/tests/random::every_request_ends_and_a_drain_leaves_nothing`, `cli::readiness_is_withdrawn_when_the_port_answers_no_more_and_comes_back`, `mms-manager/tests/worker/life::a_pulse_needs_the_task_and_cheap_operations_do_not` |
//! | the next model starts before the memory of the last one is back | `victims::the_next_model_starts_after_the_last_one_is_gone`, `mms-manager/tests/worker/memory::memory_of_a_gpu_counts_until_the_driver_has_it_back` |
//! | wrong estimates of memory | `mms-manager/tests/worker/memory::a_plan_is_made_once_and_again_when_the_file_is_another`, `mms-manager/tests/worker/memory::a_worker_that_grows_over_the_budget_makes_an_idle_model_go` |
//! | a load aborted since the first client left; two loads of one model at once | `loads::a_load_outlives_who_began_it_and_serves_all_who_wait` |
//! | waiting in the dark for a load | `progress::who_waits_for_a_load_in_vain_is_told_how_far_it_is`, `terminal/bars::whoever_waits_for_a_load_sees_how_far_it_is` |
//! | a broken model is retried until the host is dead | `loads::a_model_that_aborts_is_quarantined_with_its_reason_in_every_reply`, `mms-manager/src/lifecycle/tests/by_hand::a_failed_load_tells_everybody_and_the_third_in_a_row_is_followed_by_growing_pauses`, `headers::what_only_llama_cpp_can_judge_fails_in_a_worker_with_a_reason` |
//! | two models swap each other out at every request; one of them starves | `victims::models_that_take_turns_are_all_served_without_a_swap_for_each_request`, `mms-manager/src/sim/tests::a_mixed_trace_takes_fewer_swaps_and_shorter_waits_than_first_come_first_served`, `mms-manager/src/sim/tests::a_stream_of_requests_to_what_is_resident_starves_nobody` |
//! | a queue without end, or one that hangs when it is full | `limits::a_full_queue_refuses_at_once_and_says_when_to_come_back` |
//! | deadlines that hold only once an answer has begun | `limits::a_deadline_holds_in_the_queue_and_while_an_answer_is_written`, `leaving::a_deadline_ends_a_long_prefill`, `progress::who_waits_for_a_load_in_vain_is_told_how_far_it_is` |
//! | one model takes on more than it was set up for | `limits::each_model_answers_as_many_at_once_as_it_is_set_up_for` |
//! | a client that left (queued, in prefill, not streaming) keeps the cores busy | `leaving::work_for_nobody_ends_in_queue_prefill_and_decode`, `acceptance/clients::two_hundred_clients_half_of_which_vanish` |
//! | a worker hangs or dies, and SIGKILL by hand is the only cure | `dying::a_hung_worker_is_killed_and_replaced_and_all_in_it_are_answered`, `dying::a_worker_that_hangs_in_prefill_is_killed_and_replaced`, `dying::an_engine_that_aborts_or_crashes_takes_nobody_else_with_it`, `dying::a_worker_without_memory_dies_alone`, `acceptance/workers::killed_while_decoding` |
//! | minutes of prefill lost | `mms-engine/tests/worker/kv::a_prompt_finds_its_beginning_after_its_slot_was_taken` |
//! | `keep_alive -1` and `pinned` are not respected | `victims::a_keep_alive_of_minus_one_outlives_idleness`, `victims::if_all_is_pinned_the_newcomer_gets_a_refusal_with_figures`, `limits::a_request_says_how_long_its_model_stays`, `mms-manager/src/lifecycle/tests/random::a_pinned_model_leaves_only_when_it_is_told_to` |
//! | unload leaves memory behind | `victims::a_keep_alive_of_minus_one_outlives_idleness`, `cli::no_worker_survives_a_killed_server` |
//! | readiness is a constant, or HTTP 200 while inference is dead | `cli::readiness_is_withdrawn_when_the_port_answers_no_more_and_comes_back`, `cli::the_health_board_has_a_line_for_every_address` |
//! | keys of the configuration are ignored without a word; ports change without a word | `cli::config_check_tells_every_mistake_with_its_place`, `cli::a_port_in_use_is_an_error_that_names_port_and_holder` |
//! | no `/metrics` | `mms-gateway/tests/suite/http::every_metric_begins_with_mms`, `terminal/top_printed::json_tells_what_models_do_while_they_do_it` |
//! | a full disk, thousands of files, hostile headers | `disk::a_full_disk_is_told_and_nothing_is_lost_that_can_be_kept`, `catalogue::two_thousand_files`, `headers::hostile_headers_are_listed_with_their_fault`, `headers::a_file_cut_off_at_every_byte` |
//! | all of it at once | `faults/main::every_request_has_its_answer_while_everything_breaks` |
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../acceptance/asking.rs"]
mod asking;
mod catalogue;
mod disk;
mod doors;
mod dying;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../../../mms-manager/src/gguf/builder.rs"]
mod gguf;
mod headers;
mod kv;
mod leaving;
mod limits;
mod loads;
mod models;
mod progress;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod victims;

/// A table of tests that were renamed is worth nothing.
#[test]
fn every_test_that_the_table_names_is_there() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders = [tests.join("lessons"), tests.clone(), tests.join("../..")];
    let table = include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let named: Vec<(&str, &str)> =
        table.flat_map(|line| line.split('`')).filter_map(|name| name.split_once("::")).collect();
    assert!(named.len() > 40, "{named:?}");
    for (file, test) in named {
        let text = folders.iter().find_map(|folder| std::fs::read_to_string(folder.join(format!("{file}.rs"))).ok());
        let text = text.unwrap_or_else(|| panic!("there is no file {file}.rs"));
        assert!(text.contains(&format!("fn {test}(")), "{file}.rs has no test {test}");
    }
}
