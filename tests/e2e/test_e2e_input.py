"""Input that cannot be trusted: refused whole, or row by row, and never a request before that."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge
from tests.e2e.program import Ended, Program
from tests.e2e.service import FAST, serving
from tests.sources.test_sources_bad_input import REFUSED_FILES

AT_ONCE = 3
"""Starts at the same time: starting is what these tests spend their time on."""

EVERY_KIND = (
    "empty file",
    "header only",
    "header and blank lines",
    "empty array",
    "UTF-16 with mark",
    "Latin-1",
    "overlong UTF-8",
    "cut UTF-8",
    "raw NUL",
    "lone CR",
    "unterminated quote",
    "quote swallowing rows up to a quoted ID",
    "stray quote",
    "short row",
    "long row",
    "no header",
    "unknown header",
    "missing face column",
    "; as delimiter",
    "gzip named csv",
    "xlsx named csv",
    "parquet named csv",
    "PDF named csv",
    "plain named gz",
    "cut jsonl",
    "jsonl named json",
    "cut array",
    "100 000 levels in an array",
)
"""Of the table of bad files, one for each way in which a file can be bad."""

HEAD = "person_id,face_id\n"
NOTHING_SENT = "nothing was sent"


def refused(ended: Ended, code: int) -> None:
    """A refusal has a cause, a remedy and the last line that says it all."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert "facepurge: " in ended.err
    assert "  remedy: " in ended.err
    assert ended.last_line == NOTHING_SENT


def tree(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))


async def test_every_file_that_cannot_be_trusted_is_refused(
    program: Program, tmp_path: Path
) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, url: str, name: str) -> None:
        case = REFUSED_FILES[name]
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / case.name).write_bytes(case.data)
        async with limit:
            ended = await Program(directory)("run", case.name, "--endpoint", url, "--yes")
        refused(ended, 2)
        assert case.place in ended.err, name
        assert case.cause.partition("\\u")[0] in ended.err, name
        assert case.remedy in ended.err, name

    async with serving([]) as service, asyncio.TaskGroup() as group:
        for number, name in enumerate(EVERY_KIND):
            group.create_task(one(number, service.url, name))
    assert service.entries == []


async def test_every_source_that_is_no_file_of_jobs_is_refused(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "good.csv", persons(1))
    (tmp_path / "folder.csv").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(tmp_path)  # the path of a socket may not be long
    try:
        listening.bind("socket.csv")
    finally:
        os.chdir(before)
        listening.close()
    (tmp_path / "link.csv").symlink_to("nowhere.csv")
    (tmp_path / "jobs.xlsx").write_bytes(b"PK\3\4")
    whole = gzip.compress((HEAD + "p,1\n").encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-9])
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(HEAD.encode() + b"p,1\n" * 50_000))
    (tmp_path / "long.csv").write_text(HEAD + "p" * 3000 + ",1\n")
    caps = {"FACEPURGE_MAX_LINE_BYTES": "2000", "FACEPURGE_MAX_EXPANDED_BYTES": "100000"}
    cases = {
        "missing.csv": "there is no such file",
        "folder.csv": "it is a directory",
        "socket.csv": "it is a socket",
        "/dev/zero": "it is a device",
        "link.csv": "a link to a file that does not exist",
        "jobs.xlsx": "the extension",
        "*.parquet": "no file matches",
        "cut.csv.gz": "ends",
        "bomb.csv.gz": "expands to more than 100000 bytes",
        "long.csv": "longer than 2000 bytes",
    }
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(url: str, name: str, cause: str) -> None:
        async with limit:
            ended = await program(
                "run", "good.csv", name, "--endpoint", url, "--yes", environment=caps
            )
        refused(ended, 2)
        assert name in ended.err
        assert cause in ended.err, name

    async with serving([]) as service, asyncio.TaskGroup() as group:
        for name, cause in cases.items():
            group.create_task(one(service.url, name, cause))
    assert service.entries == []


async def test_standard_input_that_ends_in_the_middle_is_refused(program: Program) -> None:
    line = b'{"personId":"p","faceIds":["1","2"]}\n'
    async with serving([("p", "1"), ("p", "2")]) as service:
        run = ("run", "-", "--endpoint", service.url, "--yes", "--format", "jsonl")
        for stdin in (line + b'{"personId":"p","fa', b""):
            refused(await program(*run, stdin=stdin), 2)
        assert service.entries == []


DOUBTFUL = [
    ("p1", "1", "good"),
    ("", "2", "no person"),
    ("p1", "", "no face"),
    ("p1", "1.24445E+12", "a spreadsheet did it"),
    ("p1", "ALL", "a word"),
    (" p1", "3", "a space"),
    ("p" * 33, "4", "too long"),
    ("p1", "\u0661\u0662", "Arabic digits"),
    *[("p2", f"+{number}", "") for number in range(20)],
]


async def test_doubtful_rows_stop_the_run_before_the_first_call(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", DOUBTFUL, ("person_id", "face_id", "note"))
    async with serving([("p1", "1")]) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
        ended = await program(*run)
        refused(ended, 2)
        assert service.entries == []
        shown = [line for line in ended.err.splitlines() if line.startswith("  a.csv:")]
        assert len(shown) == 20
        assert shown[0].startswith("  a.csv:3:person_id: ")
        assert shown[2].startswith("  a.csv:5:face_id: ")
        assert "spreadsheet" in shown[2]
        assert "7 more" in ended.err
        assert "r/report/rejected.csv" in ended.err
        with (tmp_path / "r" / "report" / "rejected.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["place"].split(":")[:2] for row in rows] == [
            ["a.csv", str(number)] for number in range(3, 30)
        ]
        # The same command works once the input is mended: the refusal left no run behind.
        write_table(tmp_path / "a.csv", [("p1", "1", "good")], ("person_id", "face_id", "note"))
        ended = await program(*run)
        assert ended.code == 0, ended.err
        judge(tmp_path / "r", [("p1", "1")], service.journal.lines)


async def test_doubtful_rows_are_recorded_when_they_may_be_skipped(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", DOUBTFUL, ("person_id", "face_id", "note"))
    async with serving([("p1", "1")]) as service:
        ended = await program(
            *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r"),
            "--skip-invalid",
        )
        assert ended.code == 4, ended.err
        assert ended.last_line.endswith("less r/report/rejected.csv")
        report = judge(tmp_path / "r", None, service.journal.lines)
        assert report.counts == {"deleted": 1, "invalid": 27}
        assert [row["line"] for row in report.results] == [str(n) for n in range(2, 30)]
        assert report.results[3]["face_id"] == "1.24445E+12"
        assert [(x.person_id, x.face_ids) for x in service.entries] == [("p1", ("1",))]


async def test_a_face_under_two_persons_is_never_sent(program: Program, tmp_path: Path) -> None:
    pairs = [("p1", "1"), ("p1", "2"), ("p2", "2"), ("p3", "3"), ("p2", "2")]
    write_table(tmp_path / "a.csv", pairs)
    async with serving([("p1", "1"), ("p1", "2"), ("p3", "3")]) as service:
        ended = await program(
            *("run", "a.csv", "--endpoint", service.url, "--confirm", "2", "--run-dir", "r")
        )
        assert ended.code == 4, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.counts == {"deleted": 2, "conflict": 3}
        assert service.deleted == {("p1", "1"), ("p3", "3")}
        assert len(report.failures) == 0


GOOD = HEAD + "p,1\n"


@pytest.mark.parametrize(
    ("text", "flags", "code"),
    [
        (GOOD, (), 0),
        (HEAD, (), 2),
        (GOOD + "p,x\n", (), 2),
        (GOOD + "p,x\n", ("--skip-invalid",), 4),
        (GOOD + "q,1\n", (), 4),
        (GOOD + "p,2\n", ("--max-delete", "1"), 3),
        (GOOD, ("--rate", "25"), 3),
    ],
)
async def test_a_dry_run_ends_as_the_run_would_and_leaves_nothing(
    program: Program, tmp_path: Path, text: str, flags: tuple[str, ...], code: int
) -> None:
    (tmp_path / "a.csv").write_text(text)
    before = tree(tmp_path)
    async with serving([("p", "1")]) as service:
        target = ("--endpoint", service.url, *flags)
        dry, plan = await asyncio.gather(
            program("run", "a.csv", *target, "--yes", "--dry-run"),
            program("plan", "a.csv", *target),
        )
        assert (dry.code, plan.code) == (code, code), (dry.err, plan.err)
        assert service.entries == []
    for ended in (dry, plan):
        assert ended.last_line.startswith(NOTHING_SENT)
    left = tree(tmp_path) - before
    assert not left


async def test_a_dry_run_writes_down_what_it_cannot_show(program: Program, tmp_path: Path) -> None:
    """Or what somebody has named a place for."""
    bad = "".join(f"p,{number} x\n" for number in range(21))
    (tmp_path / "many.csv").write_text(f"person_id,face_id\n{bad}")
    (tmp_path / "one.csv").write_text("person_id,face_id\np,1 x\n")
    for source, flags, where in (
        ("many.csv", (), "runs"),
        ("one.csv", ("--run-dir", "r"), "r"),
        ("one.csv", (), ""),
    ):
        before = tree(tmp_path)
        ended = await program("plan", source, *flags)
        assert ended.code == 2, ended.err
        left = [path for path in tree(tmp_path) - before if path.is_file()]
        if not where:
            assert "all of them are above" in ended.err
            assert not left
            continue
        (file,) = left
        assert (file.name, file.relative_to(tmp_path).parts[0]) == ("rejected.csv", where)
        assert str(file.relative_to(tmp_path)) in ended.err
        assert len(file.read_text().splitlines()) == (22 if where == "runs" else 2)


async def test_the_plan_as_json(program: Program, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [*persons(30, 2), persons(1)[0]])
    ended = await program("plan", "a.csv", "--rate", "10", "--json")
    assert ended.code == 0, ended.err
    plan = json.loads(ended.out)
    assert (plan["persons"], plan["faces"], plan["calls"]) == (30, 60, 30)
    assert (plan["rows"], plan["invalid"], plan["conflicts"], plan["held"]) == (61, 0, 0, 0)
    assert (plan["rate_per_second"], plan["duration_seconds"]) == (10, 3.0)
    # A region, keys or a service are not needed to plan.
    bare = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}
    assert (await program("plan", "a.csv", "--json", environment=bare)).code == 0


async def test_very_many_repeats_are_one_call(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + "p,1\n" * 50_000)
    async with serving([("p", "1")]) as service:
        ended = await program(
            *("run", "a.csv", "--endpoint", service.url, "--confirm", "1", "--run-dir", "r"), *FAST
        )
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", [("p", "1")] * 50_000, service.journal.lines)
        assert report.counts == {"deleted": 50_000}
        assert len(service.entries) == 1


# The program in a process of its own that tells at its end how much memory it had at most.
MEASURED = """
import runpy, sys
try:
    runpy.run_module("worker", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM:"))
    with open("peak", "w") as file:
        file.write(peak.split()[1])
"""


async def test_millions_of_repeats_are_planned_as_one_call_in_flat_memory(
    program: Program, tmp_path: Path
) -> None:
    peaks = []
    for rows in (1_000_000, 3_000_000):
        (tmp_path / "a.csv").write_text(HEAD + "p,1\n" * rows)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEASURED, "plan", "a.csv", "--json", "--region", "cn-shanghai"),
            cwd=tmp_path,
            env=program.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        plan = json.loads(out)
        assert (plan["rows"], plan["repeats"], plan["calls"]) == (rows, rows - 1, 1)
        peaks.append(int((tmp_path / "peak").read_text()))
    # Two million rows more as Python objects would take hundreds of megabytes more.
    assert peaks[1] - peaks[0] < 64 * 1024
    assert max(peaks) < 640 * 1024
