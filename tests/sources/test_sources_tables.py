from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.mark.parametrize("person", ["person_id", "personId"])
@pytest.mark.parametrize("face", ["face_id", "faceId", "face_ids", "faceIds"])
@pytest.mark.parametrize("job", ["job_id", "jobId"])
def test_both_spellings_are_understood_in_any_order(
    read: Any, person: str, face: str, job: str
) -> None:
    entries = read(f"{face},{job},{person}\n7,label 1,p\n".encode()).entries
    assert entries == [(0, 2, "label 1", "p", "7", "", "", "", False, None)]


def test_a_byte_order_mark_and_crlf_are_accepted(read: Any) -> None:
    data = b"\xef\xbb\xbfperson_id,face_id\r\np,1\nq,2\r\n"
    assert read(data).pairs == [("p", "1"), ("q", "2")]


def test_blank_lines_are_skipped_and_counted_and_lines_stay_physical(read: Any) -> None:
    data = b'\n,,\nperson_id,face_id\n\np,1\n,\n"",""\nq,2\n,,,,\n""\n'
    reading = read(data)
    assert [(e.record, e.line) for e in reading.entries] == [(0, 5), (1, 8)]
    assert reading.summary.blank_lines == 7


def test_line_breaks_in_quoted_cells_count_as_lines(read: Any) -> None:
    data = b'person_id,face_id,"no\nte"\np,1,"a\nb\r\n\nc"\nq,2,x\n"r",3,"y"\n'
    entries = read(data).entries
    assert [(e.line, e.person_id) for e in entries] == [(3, "p"), (7, "q"), (8, "r")]
    assert json.loads(entries[0].carried) == {"no\nte": "a\nb\r\n\nc"}


def test_ids_are_opaque_text(read: Any) -> None:
    data = (
        b"person_id,face_id\n-_-,007\nNone,31842550077981745\n0,00000000000000000000000000000000\n"
    )
    reading = read(data)
    assert reading.pairs == [("-_-", "007"), ("None", "31842550077981745"), ("0", "0" * 32)]
    assert not any(reading.reasons)


def test_several_faces_of_a_cell_are_one_record_and_an_empty_part_is_refused(read: Any) -> None:
    entries = read(b"person_id,face_ids,note\np,1;2;;x,n\nq,3,m\n").entries
    assert [(e.record, e.face_id, e.reason, e.column, e.carried) for e in entries] == [
        (0, "1", "", "", '{"note":"n"}'),
        (0, "2", "", "", ""),
        (0, "", "face ID is empty", "face_ids", ""),
        (0, "x", "face ID holds characters other than the digits 0 to 9", "face_ids", ""),
        (1, "3", "", "", '{"note":"m"}'),
    ]


def test_an_empty_cell_for_several_faces_is_refused_not_all(read: Any) -> None:
    (entry,) = read(b"person_id,face_ids\np,\n").entries
    assert entry == (0, 2, "", "p", "", "face ID is empty", "face_ids", "", False, None)


def test_columns_and_delimiter_can_be_named(read: Any) -> None:
    options = {"columns": {"person": "uid", "face": "imgs", "job": "ticket"}, "delimiter": "|"}
    entries = read(b"ticket|imgs|uid|person_id\nT-1|1;2|p|other\n", **options).entries
    assert entries == [
        (0, 2, "T-1", "p", "1", "", "", '{"person_id":"other"}', False, None),
        (0, 2, "T-1", "p", "2", "", "", "", False, None),
    ]


def test_naming_a_column_settles_an_ambiguity(read: Any) -> None:
    data = b"person_id,face_id,face_ids\np,1,2;3\n"
    assert read(data, columns={"face": "face_id"}).pairs == [("p", "1")]
    assert read(data, columns={"face": "face_ids"}).pairs == [("p", "2"), ("p", "3")]


def test_tsv_is_a_table_with_tabs(read: Any) -> None:
    data = b'person_id\tface_id\tnote\np\t1\t"a\tb"\nq\t2\tc,d\n'
    entries = read(data, "jobs.tsv").entries
    assert [json.loads(e.carried)["note"] for e in entries] == ["a\tb", "c,d"]


AWKWARD = ["=cmd()", "\x1b[31m", "<b>", "a\nb", "a\rb", '"', "'", "%s %d %", "\u202e", "\u2028", ""]


@pytest.mark.parametrize("cell", AWKWARD, ids=repr)
def test_other_columns_are_carried_exactly(read: Any, cell: str) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    reading = read(f"n%s,person_id,face_id,\x1b\nx,p,1,{quoted}\n".encode())
    assert json.loads(reading.entries[0].carried) == {"n%s": "x", "\x1b": cell}
    assert reading.summary.carried_columns == ("n%s", "\x1b")


OURS = (
    "job_id,source,line,person_id,face_id,outcome,code,message,request_id,attempts,"
    "first_sent_at,finished_at,duplicate_of"
)


def test_a_report_of_ours_is_input_again(read: Any) -> None:
    data = (
        f"{OURS},remedy,note,input_line\n"
        "'=job,a.csv,2,p,1,unsent,,,,0,,,,send again,'-x,9\n"
        "'plain,a.csv,3,'=q,2,unsent,,,,0,,,,send again,' =y,\n"
    )
    reading = read(data.encode(), columns={"person": "uid", "face": "img"})
    assert reading.entries == [
        (0, 2, "=job", "p", "1", "", "", '{"note":"-x","input_line":"9"}', False, None),
        (
            1,
            3,
            "'plain",
            "'=q",
            "",
            "person ID holds characters other than A-Z, a-z, 0-9, _ and -",
            "person_id",
            '{"note":" =y","input_line":""}',
            False,
            None,
        ),
    ]
    assert reading.summary.carried_columns == ("note", "input_line")


def test_all_results_of_ours_are_input_again_too(read: Any) -> None:
    data = f'{OURS},note\n"\'+x",a.csv,2,p,1,deleted,,,,1,,,,n\n'
    assert read(data.encode()).entries == [
        (0, 2, "+x", "p", "1", "", "", '{"note":"n"}', False, None)
    ]


def test_only_the_whole_header_makes_a_report_of_ours(read: Any) -> None:
    half = OURS.removesuffix(",duplicate_of")
    (entry,) = read(f"{half}\n'=j,a.csv,2,p,1,unsent,,,,0,,\n".encode()).entries
    assert entry.label == "'=j"
    assert json.loads(entry.carried)["source"] == "a.csv"


def test_headers_of_data_are_recognised_as_names_first(read: Any) -> None:
    assert read(b"person_id,face_id,2024\np,1,x\n").entries[0].carried == '{"2024":"x"}'


def test_a_note_of_several_lines_is_no_swallowed_row(read: Any) -> None:
    data = b'person_id,face_id,note\np,1,"dear all,\nplease, delete\nthanks"\n'
    assert read(data).pairs == [("p", "1")]
