from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.fake_books import NOON_US, FakeBooks, line, person_line, session
from worker.model import RESULT_COLUMNS, Outcome, StopReason, Verb
from worker.report.interface import CallFigures, Verification
from worker.report.writing import NAMES, write_report


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def jobs(path: Path) -> list[dict[str, Any]]:
    # Split at line feeds only, as a JSONL reader does.
    return [json.loads(text) for text in path.read_bytes().split(b"\n")[:-1]]


def document(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_a_report_of_every_outcome(tmp_path: Path) -> None:
    given_lines = [
        line(0, label="job", carried='{"note":"a,b"}'),
        line(0, label="job", face_id="2", outcome="refused", code="400", message="bad"),
        line(1, outcome="unsent", code="", message="", request_id="", attempts=0)._replace(
            first_sent_us=None, finished_us=None
        ),
        line(2, outcome="invalid", face_id="", message="the face ID is empty"),
        line(3, outcome="conflict", face_id="9", message="also under in.csv:7"),
        line(4, outcome="deleted", duplicate_of="in.csv:2"),
    ]
    report = write_report(FakeBooks(given_lines, ("note",)), tmp_path / "report")
    folder = report.directory

    results = table(folder / "results.csv")
    assert list(results[0]) == [*RESULT_COLUMNS, "note"]
    assert results[0] == {
        "job_id": "job",
        "source": "in.csv",
        "line": "2",
        "person_id": "p1",
        "face_id": "31842550077981745",
        "outcome": "deleted",
        "code": "200",
        "message": "OK",
        "request_id": "7A1C",
        "attempts": "1",
        "first_sent_at": "2026-01-01T12:00:00.123Z",
        "finished_at": "2026-01-01T12:00:00.203Z",
        "duplicate_of": "",
        "note": "a,b",
    }
    assert [row["note"] for row in results] == ["a,b", "a,b", "", "", "", ""]
    assert results[2]["first_sent_at"] == ""
    assert results[5]["duplicate_of"] == "in.csv:2"

    failures = table(folder / "failures.csv")
    assert list(failures[0]) == [*RESULT_COLUMNS, "remedy", "note"]
    assert [(row["outcome"], row["remedy"], row["note"]) for row in failures] == [
        ("refused", "data", "a,b"),
        ("unsent", "resume", ""),
    ]
    rejected = table(folder / "rejected.csv")
    assert [(row["outcome"], row["message"]) for row in rejected] == [
        ("invalid", "the face ID is empty"),
        ("conflict", "also under in.csv:7"),
    ]

    records = jobs(folder / "results.jsonl")
    assert list(records[0]) == [
        "job_id",
        "source",
        "line",
        "person_id",
        "status",
        "faces",
        "carried",
    ]
    assert [record["status"] for record in records] == [
        "partial",
        "unsent",
        "failed",
        "failed",
        "succeeded",
    ]
    assert records[0]["carried"] == {"note": "a,b"}
    assert [face["face_id"] for face in records[0]["faces"]] == ["31842550077981745", "2"]
    assert records[0]["faces"][1] == {
        "face_id": "2",
        "outcome": "refused",
        "code": "400",
        "message": "bad",
        "request_id": "7A1C",
        "attempts": 1,
        "first_sent_at": "2026-01-01T12:00:00.123Z",
        "finished_at": "2026-01-01T12:00:00.203Z",
        "duplicate_of": "",
    }
    assert records[1]["faces"][0]["first_sent_at"] is None

    summary = document(folder / "summary.json")
    assert summary == json.loads(json.dumps(report.summary, default=list))
    assert summary["outcomes"]["deleted"] == 2
    assert summary["distinct_faces"]["deleted"] == 1
    assert sum(summary["outcomes"].values()) == summary["plan"]["rows"] == 6
    assert summary["jobs"] == {"succeeded": 1, "partial": 1, "unsent": 1, "failed": 2}
    assert summary["books_balance"] is True
    assert summary["exit_code"] == report.conclusion.exit_code == 5


def test_the_figures_of_the_summary(tmp_path: Path) -> None:
    books = FakeBooks(
        [line(0)],
        reads=[
            session(StopReason.SIGTERM),
            session(
                StopReason.KILLED,
                verb=Verb.RESUME,
                started_us=NOON_US + 1_000_000,
                ended_us=None,
                waits_seconds={"quota": 2.0},
            ),
        ],
        sent=[NOON_US, NOON_US + 50_000, NOON_US + 100_000],
        rehearsal=True,
    )
    summary = write_report(books, tmp_path / "report").summary
    assert summary["rehearsal"] is True
    assert summary["versions"] == {"program": "0.1.0", "report_format": 1}
    assert summary["calls"] == {
        "DeleteFaces": {"attempts": 3, "sent": 2, "retries": 1, "throttles": 1}
    }
    assert summary["max_calls_in_any_second"] == {"DeleteFaces": 3}
    assert summary["mean_rate"] == 20.0
    assert summary["busy_seconds"] == 0.1
    assert summary["waits_seconds"] == {"answers": 0.25, "quota": 3.5}
    assert summary["planned_at"] == "2026-01-01T11:59:59.123Z"
    assert summary["started_at"] == "2026-01-01T12:00:00.123Z"
    assert summary["ended_at"] is None
    assert summary["sessions"] == [
        {
            "verb": "run",
            "started_at": "2026-01-01T12:00:00.123Z",
            "ended_at": "2026-01-01T12:00:09.123Z",
            "stop_reason": "sigterm",
        },
        {
            "verb": "resume",
            "started_at": "2026-01-01T12:00:01.123Z",
            "ended_at": None,
            "stop_reason": "killed",
        },
    ]
    assert summary["verification"] is None
    assert document(tmp_path / "report" / "index.json")["rehearsal"] is True


def test_rates_over_several_operations_are_taken_together(tmp_path: Path) -> None:
    books = FakeBooks(
        [line(0)],
        figures=[CallFigures("GetPerson", 2, 2, 0, 0), CallFigures("DeleteFaces", 2, 2, 0, 0)],
        sent=[NOON_US, NOON_US + 100_000],
    )
    summary = write_report(books, tmp_path / "report").summary
    assert summary["calls"] == {
        "DeleteFaces": {"attempts": 2, "sent": 2, "retries": 0, "throttles": 0},
        "GetPerson": {"attempts": 2, "sent": 2, "retries": 0, "throttles": 0},
    }
    assert summary["max_calls_in_any_second"] == {"DeleteFaces": 2, "GetPerson": 2}
    assert summary["mean_rate"] == 30.0


def test_a_run_that_never_began_has_a_report(tmp_path: Path) -> None:
    books = FakeBooks([line(0, outcome="unsent")], reads=[], figures=[])
    summary = write_report(books, tmp_path / "report").summary
    assert (summary["stop_reason"], summary["started_at"], summary["mean_rate"]) == (
        None,
        None,
        None,
    )


def test_a_report_of_whole_persons(tmp_path: Path) -> None:
    emptied = [
        line(0, face_id="1", carried='{"note":"a"}'),
        line(0, face_id="2", outcome="absent", code=""),
        person_line(0),
    ]
    again = [x._replace(record_no=1, line=3, duplicate_of="in.csv:2") for x in emptied]
    left = [
        line(2, person_id="p2", face_id="3", outcome="refused", code="400"),
        line(2, person_id="p2", face_id="4", outcome="unknown", code="read_timeout"),
        person_line(2, person_id="p2", outcome="unknown"),
    ]
    kept = [
        line(3, person_id="p3", face_id="5", outcome="held", code=""),
        person_line(3, person_id="p3", outcome="held", code="faces_kept"),
    ]
    removed = [person_line(4, person_id="p4", outcome="person_deleted")]
    refused = [person_line(5, person_id="p5", outcome="refused", code="401")]
    unreadable = [line(6, person_id="", face_id="", outcome="invalid", code="")]
    given_lines = [*emptied, *again, *left, *kept, *removed, *refused, *unreadable]
    books = FakeBooks(
        given_lines,
        ("note",),
        found=7,
        whole_persons=4,
        verified=Verification(asked=5, answered=4),
    )
    report = write_report(books, tmp_path / "report")
    folder = report.directory

    results = table(folder / "results.csv")
    assert [(row["line"], row["face_id"], row["outcome"]) for row in results] == [
        (str(given.line), given.face_id, given.outcome) for given in given_lines
    ]
    failures = table(folder / "failures.csv")
    assert [(row["face_id"], row["remedy"]) for row in failures] == [("3", "data"), ("4", "resume")]
    assert [row["line"] for row in table(folder / "rejected.csv")] == ["8"]

    records = jobs(folder / "results.jsonl")
    assert [record["status"] for record in records] == [
        "succeeded",
        "succeeded",
        "failed",
        "succeeded",
        "succeeded",
        "failed",
        "failed",
    ]
    assert [(face["face_id"], face["outcome"]) for face in records[0]["faces"]] == [
        ("1", "deleted"),
        ("2", "absent"),
        ("", "person_empty"),
    ]

    summary = document(folder / "summary.json")
    assert summary["books_balance"] is True
    assert (summary["plan"]["rows"], summary["found_faces"]) == (7, 7)
    assert sum(summary["outcomes"].values()) == 14
    assert summary["plan"]["whole_persons"] == 4
    assert {name: count for name, count in summary["whole_persons"].items() if count} == {
        "person_empty": 1,
        "unknown": 1,
        "held": 1,
        "person_deleted": 1,
        "refused": 1,
    }
    assert set(summary["whole_persons"]) == set(Outcome)
    assert {name: count for name, count in summary["distinct_faces"].items() if count} == {
        "deleted": 1,
        "absent": 1,
        "refused": 1,
        "unknown": 1,
        "held": 1,
    }
    assert summary["remedies"] == {
        "resume": 2,
        "retry": 0,
        "permission": 1,
        "data": 1,
        "support": 0,
    }
    assert summary["reappeared"] == {"faces": 0, "whole_persons": 0}
    assert summary["verification"] == {"asked": 5, "answered": 4}


def test_what_is_wanted_is_no_failure(tmp_path: Path) -> None:
    books = FakeBooks([line(0, outcome="no_person", code="404"), line(1)])
    unwanted = write_report(books, tmp_path / "unwanted")
    books.treat_no_person_as_absent = True
    wanted = write_report(books, tmp_path / "wanted")
    assert len(table(unwanted.directory / "failures.csv")) == 1
    assert table(wanted.directory / "failures.csv") == []
    assert [job["status"] for job in jobs(unwanted.directory / "results.jsonl")] == [
        "failed",
        "succeeded",
    ]
    assert [job["status"] for job in jobs(wanted.directory / "results.jsonl")] == [
        "succeeded",
        "succeeded",
    ]
    assert (unwanted.conclusion.exit_code, wanted.conclusion.exit_code) == (4, 0)


def test_a_whole_person_with_very_many_faces_is_one_job(tmp_path: Path) -> None:
    found = [line(0, face_id=str(number)) for number in range(9000)]
    books = FakeBooks([*found, person_line(0)], found=9000)
    report = write_report(books, tmp_path / "report")
    (job,) = jobs(report.directory / "results.jsonl")
    assert (len(job["faces"]), job["faces"][-1]["outcome"]) == (9001, "person_empty")
    assert (job["status"], report.conclusion.exit_code) == ("succeeded", 0)


def test_a_label_counts_once_over_its_records(tmp_path: Path) -> None:
    lines = [
        line(0, label="a"),
        line(1, label="b"),
        line(2, label="a", outcome="refused"),
        line(3, label="b"),
    ]
    summary = write_report(FakeBooks(lines), tmp_path / "report").summary
    assert summary["jobs"] == {"succeeded": 3, "partial": 0, "unsent": 0, "failed": 1}
    assert summary["labels"] == {"succeeded": 1, "partial": 1, "unsent": 0, "failed": 0}


def test_labels_beyond_memory_count_the_same(tmp_path: Path) -> None:
    # 30,000 labels, each on two records that lie far apart; every third is refused once.
    lines = [
        line(number, label=f"l{number % 30_000}", outcome="deleted" if number % 3 else "refused")
        for number in range(30_000)
    ] + [line(number, label=f"l{number % 30_000}") for number in range(30_000, 60_000)]
    report = write_report(FakeBooks(lines), tmp_path / "report")
    assert report.summary["labels"] == {
        "succeeded": 20_000,
        "partial": 10_000,
        "unsent": 0,
        "failed": 0,
    }
    assert {path.name for path in report.directory.iterdir()} == set(NAMES)


def test_the_index_describes_the_files(tmp_path: Path) -> None:
    lines = [line(0), line(0, face_id="2"), line(1, outcome="refused")]
    folder = write_report(FakeBooks(lines), tmp_path / "report").directory
    index = document(folder / "index.json")
    assert (index["format"], index["version"]) == ("facepurge-report", 1)
    rows = {"results.csv": 3, "results.jsonl": 2, "failures.csv": 1, "rejected.csv": 0}
    assert [entry["name"] for entry in index["files"]] == [*rows, "summary.json"]
    for entry in index["files"]:
        content = (folder / entry["name"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["rows"] == rows.get(entry["name"], 1)


def test_the_same_books_give_the_same_bytes(tmp_path: Path) -> None:
    books = FakeBooks([line(0, carried='{"a":"1"}'), line(1, outcome="unknown")], ("a",))
    first = write_report(books, tmp_path / "report").directory
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    write_report(books, first)
    write_report(books, tmp_path / "elsewhere")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert {p.name: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()} == before


def test_files_are_private_under_any_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o777):
        before = os.umask(umask)
        try:
            folder = write_report(FakeBooks([line(0)]), tmp_path / f"report{umask}").directory
        finally:
            os.umask(before)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_carried_columns_never_collide(tmp_path: Path) -> None:
    columns = ("code", "input_code", "remedy", "personId", "note", "=x", "'=x")
    folder = write_report(FakeBooks([line(0)], columns), tmp_path / "report").directory
    header = (folder / "failures.csv").read_text().splitlines()[0].split(",")
    assert header[len(RESULT_COLUMNS) + 1 :] == [
        "input_code",
        "input_input_code",
        "input_remedy",
        "input_personId",
        "note",
        "'=x",
        "input_'=x",
    ]


def test_hostile_text_is_exact_in_jsonl_and_harmless_in_csv(tmp_path: Path) -> None:
    carried = {
        "note": "=cmd|'/C calc'!A0",
        "colour": "\x1b[31m",
        "text": 'two\nlines, "quoted"',
        "page": "<script>alert(1)</script>",
        "sep": "a\u2028b\x9bc\x7f",
        "last": "人",
    }
    books = FakeBooks(
        [line(0, label="@label", carried=json.dumps(carried, ensure_ascii=False))],
        tuple(carried),
    )
    folder = write_report(books, tmp_path / "report").directory
    (row,) = table(folder / "results.csv")
    assert row["job_id"] == "'@label"
    assert row["note"] == "'=cmd|'/C calc'!A0"
    assert row["colour"] == r"\x1b[31m"
    assert row["text"] == r'two\nlines, "quoted"'
    assert row["page"] == carried["page"]
    assert row["last"] == "人"
    assert len((folder / "results.csv").read_text().splitlines()) == 2
    raw = (folder / "results.jsonl").read_text()
    assert len(raw.splitlines()) == 1
    assert raw[:-1].isprintable()
    assert json.loads(raw)["carried"] == carried
    assert json.loads(raw)["job_id"] == "@label"


def test_values_that_are_not_text_keep_their_spelling(tmp_path: Path) -> None:
    carried = (
        '{"n": 1.10, "big": 12345678901234567890123,\n "nested": {"a": [1, null]},'
        ' "half": "x\\ud800", "none": null}'
    )
    books = FakeBooks([line(0, carried=carried)], ("n", "big", "nested", "half", "none", "gone"))
    folder = write_report(books, tmp_path / "report").directory
    (row,) = table(folder / "results.csv")
    assert [row[name] for name in ("n", "big", "nested", "half", "none", "gone")] == [
        "1.10",
        "12345678901234567890123",
        '{"a": [1, null]}',
        r"x\ud800",
        "null",
        "",
    ]
    assert carried.replace("\n", " ") in (folder / "results.jsonl").read_text()


def test_ids_are_never_altered(tmp_path: Path) -> None:
    ids = ["=1+1", "007", "\x1b[31m", "a\rb", "a\nb", 'a"b,c', " x ", "'"]
    lines = [line(n, person_id=i, face_id=i, outcome="invalid") for n, i in enumerate(ids)]
    folder = write_report(FakeBooks(lines), tmp_path / "report").directory
    for name in ("results.csv", "rejected.csv"):
        assert [row["person_id"] for row in table(folder / name)] == ids
        assert [row["face_id"] for row in table(folder / name)] == ids
    assert [job["person_id"] for job in jobs(folder / "results.jsonl")] == ids


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab\r\n,\"'=")),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_comes_back_from_jsonl(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    lines = [
        line(number, message=message, face_id=face, carried=json.dumps({"x": message}))
        for number, (message, face) in enumerate(texts)
    ]
    folder = write_report(
        FakeBooks(lines, ("x",)), tmp_path_factory.mktemp("any") / "report"
    ).directory
    records = jobs(folder / "results.jsonl")
    assert [job["faces"][0]["message"] for job in records] == [message for message, _ in texts]
    assert [job["carried"]["x"] for job in records] == [message for message, _ in texts]
    rows = table(folder / "results.csv")
    assert [row["face_id"] for row in rows] == [face for _, face in texts]


def test_a_record_with_very_many_faces_is_one_job(tmp_path: Path) -> None:
    lines = [line(0, label="small"), *(line(1, face_id=str(n), label="big") for n in range(9000))]
    lines += [line(2, label="last")]
    lines[1] = lines[1]._replace(carried='{"faces":[],"x":"1"}')
    lines[8000] = lines[8000]._replace(outcome="refused")
    folder = write_report(FakeBooks(lines, ("x",)), tmp_path / "report").directory
    small, big, last = jobs(folder / "results.jsonl")
    assert (small["job_id"], last["job_id"]) == ("small", "last")
    assert [face["face_id"] for face in big["faces"]] == [str(n) for n in range(9000)]
    assert big["status"] == "partial"
    assert big["carried"] == {"faces": [], "x": "1"}
    assert {row["x"] for row in table(folder / "results.csv")[1:-1]} == {"1"}
    assert {path.name for path in folder.iterdir()} == set(NAMES)


def test_an_empty_report_has_its_headers(tmp_path: Path) -> None:
    folder = write_report(FakeBooks([]), tmp_path / "report").directory
    assert (folder / "results.csv").read_text() == ",".join(RESULT_COLUMNS) + "\n"
    assert (folder / "results.jsonl").read_bytes() == b""


def test_which_lines_can_be_sent_again_and_which_never_could(tmp_path: Path) -> None:
    """One line of each outcome; the lists are those of the outward contract."""
    given_lines = [line(number, outcome=outcome.value) for number, outcome in enumerate(Outcome)]
    folder = write_report(FakeBooks(given_lines), tmp_path / "report").directory
    again = {row["outcome"] for row in table(folder / "failures.csv")}
    never = {row["outcome"] for row in table(folder / "rejected.csv")}
    assert again == {"present", "no_person", "refused", "unknown", "unsent"}
    assert never == {"invalid", "conflict"}
