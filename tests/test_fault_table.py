"""Everything that may go wrong on the way, at the service, on the disk: and the tests of it.

Each row is a fault that the program has to survive. A test here fails where a row has no test, or
names one that is not there any more.
"""

from __future__ import annotations

import pytest

from tests.named_tests import missing

E2E_FAULTS = "tests/e2e/test_e2e_faults.py"
E2E_EVIDENCE = "tests/e2e/test_e2e_evidence.py"
E2E_GATES = "tests/e2e/test_e2e_gates.py"
E2E_STOPS = "tests/e2e/test_e2e_stops.py"
E2E_INPUT = "tests/e2e/test_e2e_input.py"
E2E_OUTPUT = "tests/e2e/test_e2e_output.py"
CLIENT = "tests/green/test_green_client.py"
TRANSPORT = "tests/green/test_green_transport.py"
VERDICTS = "tests/green/test_green_verdicts.py"
HINTS = "tests/green/test_green_hints.py"
PACING = "tests/core/test_pacing.py"
PIPELINE = "tests/core/test_pipeline.py"
DATABASE = "tests/ledger/test_ledger_database.py"
CRASHES = "tests/ledger/test_ledger_crashes.py"
REPORT_FAULTS = "tests/report/test_report_faults.py"

FAULTS: dict[str, tuple[str, ...]] = {
    "the connection is refused: nothing was sent, and it is tried again": (
        f"{E2E_FAULTS}::test_a_service_that_is_not_there_yet",
        f"{TRANSPORT}::test_refused_connection",
    ),
    "the name does not resolve: nothing was sent": (f"{TRANSPORT}::test_unknown_name",),
    "TLS proves nothing (wrong name, expired, unknown authority): the run stops": (
        f"{E2E_FAULTS}::test_a_certificate_that_proves_nothing_stops_before_anything_is_sent",
        f"{TRANSPORT}::test_tls_that_proves_nothing[wrong name]",
        f"{TRANSPORT}::test_tls_that_proves_nothing[expired]",
        f"{TRANSPORT}::test_tls_that_proves_nothing[unknown CA]",
    ),
    "deleted, and the connection is reset before the answer: absent in the end": (
        f"{E2E_EVIDENCE}::test_answers_lost_after_the_deletion_end_absent",
    ),
    "reset, and nothing was deleted: deleted by a later attempt": (
        f"{E2E_EVIDENCE}::test_answers_lost_before_the_deletion_are_sent_again",
    ),
    "reset after half of the answer: open until there is evidence": (
        f"{E2E_FAULTS}::test_no_answer_short_of_a_good_one_makes_a_face_deleted",
        f"{TRANSPORT}::test_half_a_body",
    ),
    "silence, and the deletion happens after the client gave up: no early claim": (
        f"{E2E_EVIDENCE}::test_a_deletion_that_comes_late_is_never_called_early",
        f"{TRANSPORT}::test_silence_ends_at_the_read_deadline",
    ),
    "one byte at a time: a deadline over all of it": (
        f"{E2E_FAULTS}::test_an_answer_that_never_comes_is_no_claim",
        f"{TRANSPORT}::test_one_byte_at_a_time_ends_at_the_total_deadline",
    ),
    "a body shorter than announced, cut JSON, a cut chunk: open": (
        f"{TRANSPORT}::test_half_a_body[length]",
        f"{TRANSPORT}::test_half_a_body[chunk]",
        f"{VERDICTS}::test_unreadable_bodies_are_ambiguous",
        f"{E2E_FAULTS}::test_no_answer_short_of_a_good_one_makes_a_face_deleted",
    ),
    "200 with a page, with null, without data: open, never deleted": (
        f"{E2E_FAULTS}::test_no_answer_short_of_a_good_one_makes_a_face_deleted",
        f"{VERDICTS}::test_other_documents_are_ambiguous",
    ),
    "two codes that contradict each other, or an error with faces in it: not deleted": (
        f"{E2E_FAULTS}::test_no_answer_short_of_a_good_one_makes_a_face_deleted",
        f"{VERDICTS}::test_an_error_that_also_claims_success_is_ambiguous",
    ),
    "part of the faces is listed: the others are looked up": (
        f"{E2E_EVIDENCE}::test_faces_that_a_good_answer_leaves_out",
        f"{E2E_FAULTS}::test_faces_that_an_answer_does_not_list_are_not_called_deleted",
        f"{E2E_EVIDENCE}::test_what_is_still_listed_after_all_attempts_is_present_and_can_be_retried",
    ),
    "errors of the server, in the body or as a page: evidence decides": (
        f"{E2E_FAULTS}::test_no_answer_short_of_a_good_one_makes_a_face_deleted",
        f"{VERDICTS}::test_service_code",
        f"{VERDICTS}::test_gateway_code",
    ),
    "throttles in every shape and with every hint: everybody slows down, nothing fails": (
        f"{E2E_FAULTS}::test_every_shape_of_a_throttle_slows_down_and_fails_nothing",
        f"{E2E_FAULTS}::test_half_of_the_quota_costs_throttles_and_nothing_else",
        f"{PACING}::test_a_throttle_holds_everybody_for_as_long_as_it_says",
        f"{HINTS}::test_retry_after",
    ),
    "no permission, or the service is not activated: stop, and resume later": (
        f"{E2E_FAULTS}::test_a_refusal_that_concerns_everybody_stops_and_is_resumable",
    ),
    "the key is rotated, or the token expires, in the middle: once more with the new one": (
        f"{E2E_FAULTS}::test_a_key_that_is_rotated_in_the_middle",
        f"{E2E_FAULTS}::test_a_key_that_is_switched_off_in_the_middle",
        f"{CLIENT}::test_a_refused_key_is_renewed_once_for_everybody",
        f"{CLIENT}::test_other_stale_codes_are_renewed_too",
    ),
    "a clock that is twenty minutes off": (
        f"{E2E_FAULTS}::test_a_clock_twenty_minutes_off_is_corrected",
        f"{CLIENT}::test_without_a_server_date_a_skewed_clock_is_fatal",
    ),
    "an answer of a gigabyte, one that expands, a header of a megabyte: flat memory": (
        f"{TRANSPORT}::test_endless_body_is_cut_at_the_cap_with_flat_memory",
        f"{TRANSPORT}::test_a_compressed_body_stays_compressed",
        f"{TRANSPORT}::test_what_is_not_http[long]",
        f"{TRANSPORT}::test_what_is_not_http[many]",
    ),
    "an outage of minutes, or throttles without end: one probe a second, and no row lost": (
        f"{E2E_FAULTS}::test_an_outage_beyond_its_limit_loses_nothing",
        f"{PIPELINE}::test_an_outage_is_probed_gently_and_ends_the_run",
        f"{PIPELINE}::test_throttling_for_minutes_ends_and_no_row_is_lost",
        f"{PIPELINE}::test_after_an_outage_it_goes_on_and_no_row_is_lost",
    ),
    "SIGINT and SIGTERM, once and twice": (
        f"{E2E_STOPS}::test_one_signal_drains_and_resume_completes",
        f"{E2E_STOPS}::test_a_second_signal_ends_at_once",
        f"{E2E_STOPS}::test_what_does_not_answer_within_the_grace_period_is_unknown",
        f"{E2E_STOPS}::test_a_signal_before_the_first_call_leaves_no_run",
    ),
    "SIGKILL at any write to the ledger or the network: resume ends in the truth": (
        f"{CRASHES}::test_killed_at_every_write_and_sync",
        f"{E2E_STOPS}::test_after_sigkill_only_what_was_in_flight_is_unknown",
        f"{E2E_EVIDENCE}::test_after_a_crash_resume_settles_everything_and_then_nothing",
        "tests/campaigns/test_campaign_crash.py::test_wherever_a_run_dies_it_goes_on_to_the_truth",
    ),
    "the power goes: what was called durable is there": (
        f"{DATABASE}::test_what_was_called_durable_survives_the_power",
        "tests/campaigns/test_campaign_crash.py::test_killed_and_powered_off_with_a_request_on_its_way",
    ),
    "a full or broken disk under the ledger: nothing new is sent": (
        f"{CRASHES}::test_an_error_at_every_write_and_sync",
        f"{CRASHES}::test_after_a_failed_write_nothing_is_claimed",
        "tests/ledger/test_ledger_draft.py::test_a_full_disk_at_any_step_is_a_sentence_and_no_ledger",
        "tests/campaigns/test_campaign_disk.py::test_after_a_failed_ledger_write_nothing_is_sent_and_resume_completes",
    ),
    "a place that may only be read": (
        f"{DATABASE}::test_a_directory_without_the_right_to_write",
        "tests/ledger/test_ledger_draft.py::test_a_place_that_cannot_hold_a_plan_is_named",
        f"{REPORT_FAULTS}::test_a_missing_or_wrong_place_is_said_in_a_sentence",
    ),
    "a full disk under the report: old or new, and it can be written again": (
        f"{REPORT_FAULTS}::test_a_fault_at_any_call_leaves_every_file_old_or_new",
        f"{REPORT_FAULTS}::test_a_limit_on_file_size_of_the_real_system",
        "tests/campaigns/test_campaign_disk.py::test_a_disk_that_fills_under_the_report_leaves_a_whole_ledger",
    ),
    "two processes on one run: the second is told who has it": (
        f"{E2E_GATES}::test_one_run_per_account_and_endpoint_and_one_process_per_run",
        "tests/core/test_locks.py::test_the_second_process_is_told_who_holds_it",
    ),
    "a ledger that is cut, flipped, newer, or of another run: refused before any request": (
        f"{E2E_GATES}::test_a_ledger_that_is_not_whole_or_not_ours_is_refused",
        f"{DATABASE}::test_cut_short_anywhere",
        f"{DATABASE}::test_a_flipped_byte_never_sends_anything_else",
        f"{DATABASE}::test_another_version",
        "tests/ledger/test_ledger_journal.py::test_a_call_of_another_run_is_not_ours",
    ),
    "the input changes or goes away during the run: no effect": (
        "tests/e2e/test_e2e_run.py::test_what_becomes_of_the_input_during_the_run_has_no_effect",
    ),
    "standard input ends in the middle, or whoever writes it dies: never a success": (
        f"{E2E_INPUT}::test_standard_input_that_ends_in_the_middle_is_refused",
        "tests/sources/test_sources_opening.py::test_a_table_on_standard_input_that_ends_within_a_line_is_refused",
    ),
    "standard output is a closed pipe or a full disk: never a silent success": (
        f"{E2E_OUTPUT}::test_a_lost_stdout_is_never_a_success",
        f"{E2E_OUTPUT}::test_a_lost_stderr_does_not_stop_the_work",
    ),
    # PostgreSQL (restart, a lost COMMIT, a partition) is not here: ledgers are SQLite files so far.
    "the event loop stalls for seconds: no burst afterwards": (
        f"{PACING}::test_no_burst_after_a_stalled_loop",
        f"{PACING}::test_a_departure_that_was_late_does_not_crowd_those_behind_it",
    ),
    "the answer is about another person or face: everything stops": (
        f"{E2E_FAULTS}::test_a_swapped_answer_stops_everything",
        f"{E2E_EVIDENCE}::test_a_lookup_about_another_person_stops_the_run",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_has_its_tests(fault: str) -> None:
    assert FAULTS[fault]
    assert [complaint for test in FAULTS[fault] if (complaint := missing(test))] == []


@pytest.mark.parametrize(
    "gone",
    [
        "tests/test_no_such_file.py::test_x",
        f"{PACING}::test_no_such_function",
        f"{PACING}::pacer",
        f"{TRANSPORT}::test_half_a_body[no such case]",
    ],
)
def test_a_test_that_is_not_there_is_found_out(gone: str) -> None:
    assert missing(gone).startswith(gone)
