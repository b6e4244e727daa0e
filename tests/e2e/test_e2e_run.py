"""Whole runs: from the files of the input to the files of the report."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import judge, judge_rehearsal
from tests.e2e.program import Program
from tests.e2e.service import FAST, Service, serving
from worker.sandbox.child import LOG_NAME
from worker.sandbox.faults import parse_rule
from worker.sandbox.journal import Entry, read_log


async def test_jobs_from_a_pipe(program: Program, tmp_path: Path) -> None:
    jobs = [
        {"personId": "anna_1", "faceIds": ["31842550077981745", "0042"], "jobId": "DSR-1"},
        {"person_id": "berta", "face_id": 7, "note": {"a": [1.50, "=x"]}},
        {"personId": "anna_1", "faceIds": ["0042", "99"], "jobId": "DSR-1"},
    ]
    stdin = b"".join(json.dumps(job).encode() + b"\n" for job in jobs)
    ended = await program("run", "-", "--sandbox", "--yes", "--run-dir", "r", stdin=stdin)
    assert ended.code == 0, ended.err
    assert ended.last_line.startswith("rehearsal: 4 faces deleted; finished, every face is gone")
    pairs = [
        ("anna_1", "31842550077981745"),
        ("anna_1", "0042"),
        ("berta", "7"),
        ("anna_1", "0042"),
        ("anna_1", "99"),
    ]
    report = judge_rehearsal(tmp_path / "r", pairs)
    assert report.counts == {"deleted": 5}
    assert [row["job_id"] for row in report.results] == ["DSR-1", "DSR-1", "-:2", "DSR-1", "DSR-1"]
    assert [row["duplicate_of"] for row in report.results] == ["", "", "", "-:1", ""]
    assert [job["status"] for job in report.jobs] == ["succeeded"] * 3
    assert report.jobs[1]["carried"] == {"note": {"a": [1.50, "=x"]}}
    assert report.summary["rehearsal"] is True
    assert report.summary["labels"]["succeeded"] == 2
    entries = [x for x in read_log(tmp_path / "r" / "sandbox" / LOG_NAME) if isinstance(x, Entry)]
    assert [(x.person_id, x.face_ids) for x in entries] == [
        ("anna_1", ("31842550077981745", "0042", "99")),
        ("berta", ("7",)),
    ]


async def test_two_files_one_of_them_compressed(program: Program, tmp_path: Path) -> None:
    shared = persons(12, 2)
    write_table(
        tmp_path / "a.csv",
        [(person, face, f"T{number}", "=1+1") for number, (person, face) in enumerate(shared)],
        ("person_id", "face_id", "job_id", "code"),
    )
    more = persons(6, 3, first=10)
    lines = [{"personId": person, "faceId": face} for person, face in more]
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    )
    ended = await program("run", "a.csv", "b.jsonl.gz", "--sandbox", "--yes", umask=0)
    assert ended.code == 0, ended.err
    (run_dir,) = (tmp_path / "runs").iterdir()
    report = judge_rehearsal(run_dir, shared + more)
    assert report.counts == {"deleted": 42}
    assert report.summary["calls"] == {
        "DeleteFaces": {"attempts": 16, "sent": 16, "retries": 0, "throttles": 0}
    }
    assert report.results[0]["input_code"] == "'=1+1"
    assert report.jobs[0]["carried"] == {"code": "=1+1"}
    repeated = [row for row in report.results if row["duplicate_of"]]
    assert len(repeated) == 4
    assert all(row["duplicate_of"].startswith("a.csv:") for row in repeated)
    inputs = {source["name"]: source for source in report.summary["inputs"]}
    assert inputs["b.jsonl.gz"]["bytes"] == (tmp_path / "b.jsonl.gz").stat().st_size
    for path in [run_dir.parent, run_dir, *run_dir.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    # A rehearsal takes nobody's quota.
    assert not (tmp_path / "home" / "state" / "facepurge").exists()


async def test_the_sqlite_side_files_are_private_while_the_run_lasts(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(20)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        run = ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
        async with program.started(*run, umask=0) as running:
            await service.arrivals(2)
            modes = {x.name: stat.S_IMODE(x.stat().st_mode) for x in (tmp_path / "r").iterdir()}
            assert {"ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"} <= set(modes)
            assert all(mode == 0o600 for name, mode in modes.items() if name != "report")
            assert (await running.ended()).code == 0
        judge(tmp_path / "r", pairs, service.journal.lines)


async def test_failures_fed_back_are_a_run_of_just_those(program: Program, tmp_path: Path) -> None:
    pairs = persons(10, 2)
    rows = [(p, f, "TICKET-1" if p == "person-3" else "", f"@n{p}") for p, f in pairs]
    write_table(tmp_path / "a.csv", rows, ("person_id", "face_id", "job_id", "note"))
    faults = [
        "service-code code=404 person=person-3 applies=never",
        "service-code code=403 person=person-7 applies=never",
    ]
    async with serving(pairs, faults=tuple(map(parse_rule, faults))) as service:
        target = ("--endpoint", service.url, "--yes", *FAST)
        ended = await program("run", "a.csv", *target, "--run-dir", "r1")
        assert ended.code == 4, ended.err
        first = judge(tmp_path / "r1", pairs, service.journal.lines)
        assert first.counts == {"deleted": 16, "refused": 4}
        assert {row["remedy"] for row in first.failures} == {"data", "permission"}
        seen = len(service.journal.lines)
        ended = await program("run", "r1/report/failures.csv", *target, "--run-dir", "r2")
        assert ended.code == 0, ended.err
        failed = [pair for pair in pairs if pair[0] in {"person-3", "person-7"}]
        second = judge(tmp_path / "r2", failed, service.journal.lines[seen:])
        assert second.counts == {"deleted": 4}
        assert [job["job_id"] for job in second.jobs[:2]] == ["TICKET-1", "TICKET-1"]
        assert [job["job_id"] for job in second.jobs[2:]] == ["a.csv:16", "a.csv:17"]
        assert [job["carried"] for job in second.jobs] == [{"note": f"@n{p}"} for p, _ in failed]
        assert list(second.results[0]) == list(first.results[0])
        assert sum(x.operation == "DeleteFaces" for x in service.entries) == 12
        assert service.deleted == set(pairs)


async def test_what_becomes_of_the_input_during_the_run_has_no_effect(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(20)
    kept, doomed = tmp_path / "a.csv", tmp_path / "b.csv"
    write_table(kept, pairs[:10])
    write_table(doomed, pairs[10:])
    async with serving(pairs) as service:
        run = ("run", "a.csv", "b.csv", "--endpoint", service.url, "--yes", "--run-dir", "r")
        async with program.started(*run) as running:
            await service.arrivals(2)
            write_table(kept, [("stranger", "1")])
            doomed.unlink()
            ended = await running.ended()
        assert ended.code == 0, ended.err
        assert judge(tmp_path / "r", pairs, service.journal.lines).counts == {"deleted": 20}


async def test_json_is_the_summary(program: Program, tmp_path: Path) -> None:
    pairs = persons(3)
    write_table(tmp_path / "a.csv", pairs)
    async with Service(pairs) as service:
        ended = await program(
            "run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", "--json"
        )
    assert ended.code == 0, ended.err
    assert ended.out == (tmp_path / "r" / "report" / "summary.json").read_text()


async def test_the_other_signature_scheme(program: Program, tmp_path: Path) -> None:
    pairs = persons(5, 3)
    write_table(tmp_path / "a.csv", pairs)
    async with serving(pairs) as service:
        ended = await program(
            *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r"),
            *("--signature", "v3", *FAST),
        )
        assert ended.code == 0, ended.err
        assert judge(tmp_path / "r", pairs, service.journal.lines).counts == {"deleted": 15}
        assert len(service.entries) == 5


async def test_a_report_in_columns_is_there_where_the_run_was_told_so(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", persons(3, 2))
    ended = await program(
        *("run", "a.csv", "--sandbox", "--yes", "--run-dir", "r", "--report-format", "parquet")
    )
    assert ended.code == 0, ended.err
    written = tmp_path / "r" / "report" / "results.parquet"
    first = written.read_bytes()
    for arguments, is_there in (
        (("report", "r"), True),
        (("report", "r", "--report-format", "csv"), False),
        (("verify", "r", "--self"), False),
        (("resume", "r"), True),
        (("resume", "r", "--report-format", "csv"), False),
        (("report", "r"), True),
        (("verify", "r", "--self"), True),
    ):
        ended = await program(*arguments)
        assert (ended.code, written.exists()) == (0, is_there), (arguments, ended.err)
    assert written.read_bytes() == first
