"""Everything that may be wrong with the input, and the tests of it.

Each row is an input that somebody will have. A test here fails where a row has no test, or names
one that is not there any more.
"""

from __future__ import annotations

import pytest

from tests.named_tests import missing

INPUT = "tests/e2e/test_e2e_input.py"
BAD = "tests/sources/test_sources_bad_input.py"
FILE = f"{BAD}::test_a_doubtful_file_is_refused_with_place_cause_and_remedy"
FACE = f"{BAD}::test_a_bad_face_refuses_only_itself"
PERSON = f"{BAD}::test_a_bad_person_refuses_its_record"
RECORD = f"{BAD}::test_a_json_record_of_the_wrong_shape_refuses_only_itself"
TABLES = "tests/sources/test_sources_tables.py"
IDS = "tests/sources/test_sources_identifiers.py"
OPENING = "tests/sources/test_sources_opening.py"
COMPRESSION = "tests/sources/test_sources_compression.py"
MEMORY = "tests/sources/test_sources_memory.py"
PARQUET = "tests/sources/test_sources_parquet.py"
REMOTE = "tests/sources/test_sources_remote.py"
WRITING = "tests/report/test_report_writing.py"
REPORT_FAULTS = "tests/report/test_report_faults.py"

INPUTS: dict[str, tuple[str, ...]] = {
    "an empty file, a header and nothing else: nothing to do is no success": (
        f"{FILE}[empty file]",
        f"{FILE}[header only]",
        f"{INPUT}::test_every_file_that_cannot_be_trusted_is_refused[header only]",
    ),
    "empty lines, lines of empty cells: skipped and counted": (
        f"{TABLES}::test_blank_lines_are_skipped_and_counted_and_lines_stay_physical",
        f"{FILE}[header and blank lines]",
    ),
    "a byte order mark: accepted, once": (
        f"{TABLES}::test_a_byte_order_mark_and_crlf_are_accepted",
        f"{FILE}[two byte order marks]",
    ),
    "UTF-16, Latin-1, overlong or cut UTF-8: refused with the byte": (
        f"{FILE}[UTF-16 with mark]",
        f"{FILE}[UTF-16 without mark]",
        f"{FILE}[Latin-1]",
        f"{FILE}[overlong UTF-8]",
        f"{FILE}[cut UTF-8]",
    ),
    "NUL, control and format characters in an ID": (
        f"{FACE}[NUL]",
        f"{FACE}[control character]",
        f"{FACE}[zero width space]",
        f"{PERSON}[NUL]",
        f"{FILE}[raw NUL]",
    ),
    "CRLF and LF, but no carriage return alone": (
        f"{TABLES}::test_a_byte_order_mark_and_crlf_are_accepted",
        f"{FILE}[lone CR]",
        f"{FILE}[lone CR in jsonl]",
    ),
    "a quote that swallows rows, a quote in the middle": (
        f"{FILE}[unterminated quote]",
        f"{FILE}[quote swallowing rows up to a quoted ID]",
        f"{FILE}[two open quotes swallowing a row]",
        f"{FILE}[stray quote]",
    ),
    "a row that is too short or too long: refused with the line": (
        f"{FILE}[short row]",
        f"{FILE}[long row]",
    ),
    "no header, unknown or missing columns, another delimiter: what was found, what is expected": (
        f"{FILE}[no header]",
        f"{FILE}[unknown header]",
        f"{FILE}[missing face column]",
        f"{FILE}[; as delimiter]",
    ),
    "a line of a gigabyte: refused at a cap, in flat memory": (
        f"{MEMORY}::test_one_line_of_a_gigabyte_is_refused_at_the_cap",
        f"{FILE}[long line]",
    ),
    "no person, no face, spaces of any kind around an ID: never trimmed": (
        f"{FACE}[empty]",
        f"{FACE}[space before]",
        f"{FACE}[non-breaking space]",
        f"{PERSON}[empty]",
        f"{PERSON}[spaces]",
        f"{IDS}::test_any_space_but_the_plain_one_is_named",
    ),
    "what a spreadsheet makes of a face ID: refused with a hint": (
        f"{FACE}[exponent]",
        f"{FACE}[decimal point]",
        f"{FACE}[plus sign]",
        f"{FACE}[thousands]",
        f"{IDS}::test_a_hint_is_given_for_exactly_what_a_spreadsheet_does",
    ),
    "digits that are not 0 to 9": (f"{FACE}[Arabic digits]", f"{FACE}[full-width digits]"),
    "IDs that are too long or of other characters; both grammars can be changed": (
        f"{PERSON}[too long]",
        f"{PERSON}[dot]",
        f"{FACE}[too long]",
        f"{FACE}[letters]",
        f"{BAD}::test_own_grammars_decide_and_hints_only_explain",
    ),
    "a word for all faces or for none": (
        f"{FACE}[ALL]",
        f"{FACE}[*]",
        f"{FACE}[null]",
        f"{FACE}[None]",
        f"{FACE}[NaN]",
        f"{IDS}::test_no_word_means_all_faces_or_none",
    ),
    "JSON values of the wrong kind, NaN, 100 000 levels, repeated keys: never a crash": (
        f"{RECORD}[float as face]",
        f"{RECORD}[boolean as face]",
        f"{RECORD}[object as face]",
        f"{RECORD}[list as face]",
        f"{RECORD}[NaN]",
        f"{RECORD}[duplicate keys]",
        f"{BAD}::test_100_000_levels_in_a_line_refuse_the_record",
        f"{FILE}[100 000 levels in an array]",
    ),
    "a pair that is repeated, a million times: one call, flat memory, each row its outcome": (
        f"{INPUT}::test_very_many_repeats_are_one_call",
        f"{INPUT}::test_millions_of_repeats_are_planned_as_one_call_in_flat_memory",
    ),
    "a face under two persons: neither is sent": (
        f"{INPUT}::test_a_face_under_two_persons_is_never_sent",
        "tests/core/test_plan.py::test_holds_conflicts_and_bad_rows_are_set_aside",
    ),
    "another kind of file named .csv: known by its first bytes": (
        f"{FILE}[gzip named csv]",
        f"{FILE}[zip named csv]",
        f"{FILE}[xlsx named csv]",
        f"{FILE}[parquet named csv]",
        f"{FILE}[PDF named csv]",
    ),
    "a compression bomb: stopped by size and by ratio, in flat memory": (
        f"{COMPRESSION}::test_expansion_stops_at_the_size_cap",
        f"{COMPRESSION}::test_expansion_stops_at_the_ratio_cap",
        f"{MEMORY}::test_a_bomb_is_stopped_in_flat_memory",
    ),
    "a compressed file that is cut": (
        f"{COMPRESSION}::test_cut_data_is_refused",
        f"{COMPRESSION}::test_data_cut_between_rows_is_refused",
    ),
    "Parquet that is cut, damaged or encrypted: refused with part and row group": (
        f"{PARQUET}::test_a_file_that_is_cut_is_refused",
        f"{PARQUET}::test_a_damaged_page_refuses_the_run",
        f"{PARQUET}::test_a_page_with_another_checksum_refuses_the_run_and_names_the_row_group",
        f"{PARQUET}::test_an_encrypted_file_is_refused",
        f"{PARQUET}::test_a_file_that_changes_meanwhile_is_refused",
        "tests/e2e/test_e2e_sources.py::test_a_damaged_part_stops_everything",
    ),
    "Parquet columns that are no IDs: floats, fractions, bytes": (
        f"{PARQUET}::test_a_column_of_another_type_refuses_the_file",
        f"{PARQUET}::test_a_list_of_doubles_refuses_the_file",
        f"{PARQUET}::test_bytes_are_carried_nowhere",
    ),
    "a null or an empty list where faces belong: never all faces": (
        f"{PARQUET}::test_nothing_where_a_face_belongs_never_means_all_faces",
        f"{PARQUET}::test_null_and_empty_refuse_their_rows_only",
    ),
    "a Parquet bomb: one long text in a dictionary, and every row refers to it": (
        f"{PARQUET}::test_a_bomb_of_one_dictionary_entry_is_stopped_in_flat_memory",
        f"{PARQUET}::test_the_caps_hold",
    ),
    "a folder with more than Parquet parts, a table's folder with rows of yesterday": (
        f"{PARQUET}::test_a_folder_that_holds_more_is_refused",
    ),
    "an object that is gone, denied, out of reach, cut, or changes meanwhile": (
        f"{REMOTE}::test_what_is_not_there_is_refused",
        f"{REMOTE}::test_a_refusal_is_told_without_the_secrets_in_it",
        f"{REMOTE}::test_a_store_that_cannot_be_reached_is_refused",
        f"{REMOTE}::test_a_connection_that_is_cut_never_ends_a_source",
        f"{REMOTE}::test_an_object_that_changes_meanwhile_is_refused",
        f"{REMOTE}::test_strange_urls_are_refused_and_their_secrets_not_repeated",
    ),
    "a directory, a socket, a device, a file that is not there or may not be read": (
        f"{INPUT}::test_every_source_that_is_no_file_of_jobs_is_refused",
        f"{OPENING}::test_directories_devices_and_sockets_are_refused",
        f"{OPENING}::test_missing_files_and_dangling_links_are_told_apart",
        f"{OPENING}::test_an_unreadable_file_is_refused",
    ),
    "formulas, escapes, line ends in other columns: exact in JSONL, harmless elsewhere": (
        f"{WRITING}::test_hostile_text_is_exact_in_jsonl_and_harmless_in_csv",
        "tests/report/test_report_cells.py::test_what_a_cell_becomes",
        "tests/report/test_report_closing.py::test_the_last_line_is_one_line_that_no_terminal_obeys",
        "tests/cli/test_cli_main.py::test_messages_keep_to_their_line",
        "tests/test_telemetry.py::test_control_characters_reach_no_terminal",
    ),
    "links in the place of what is written, and names that lead elsewhere": (
        f"{REPORT_FAULTS}::test_a_target_that_is_a_link_is_refused",
        f"{REPORT_FAULTS}::test_a_directory_that_is_a_link_is_refused",
        f"{REPORT_FAULTS}::test_a_link_laid_under_a_temporary_name_is_not_followed",
        "tests/core/test_locks.py::test_a_symbolic_link_is_not_followed",
        "tests/ledger/test_ledger_database.py::test_a_symbolic_link_in_its_place",
        "tests/ledger/test_ledger_draft.py::test_a_link_in_the_place_of_the_draft_is_not_followed",
        "tests/cli/test_run_directory.py::test_a_link_is_no_run_directory",
        "tests/cli/test_run_directory.py::test_the_name_of_a_run_leads_nowhere_else",
    ),
}


@pytest.mark.parametrize("bad", INPUTS)
def test_the_input_has_its_tests(bad: str) -> None:
    assert INPUTS[bad]
    assert [complaint for test in INPUTS[bad] if (complaint := missing(test))] == []
