"""Parquet, folders of it, and objects in stores: planned, carried out, and compared again."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import Report, judge_rehearsal
from tests.e2e.program import Program
from tests.e2e.service import FAST, Pair
from tests.sources import object_store
from tests.sources.object_store import ACCESS_KEY, SECRET, TOKEN, ObjectStore

FOREIGN = ("--columns", "person=customer,face=image,job=ticket")
SANDBOX = ("--sandbox", "--yes", *FAST)


def parquet(pairs: Sequence[Pair], *, ticket: str = "", **more: Any) -> bytes:
    written = io.BytesIO()
    columns: dict[str, Any] = {
        "customer": [person for person, _ in pairs],
        "image": [face for _, face in pairs],
        "ticket": [ticket] * len(pairs),
        **{name: [value] * len(pairs) for name, value in more.items()},
    }
    pq.write_table(pa.table(columns), written)
    return written.getvalue()


@asynccontextmanager
async def stored(program: Program) -> AsyncIterator[ObjectStore]:
    with object_store.serving() as store:
        program.environment |= object_store.environment(store.endpoint)
        yield store


async def test_sources_of_every_format_in_one_run(program: Program, tmp_path: Path) -> None:
    """CSV, JSON Lines, a file and a folder of Parquet, with names of their own."""
    table, lines, file, part, other = (persons(3, 2, first=10 * n) for n in range(5))
    write_table(
        tmp_path / "a.csv", [(*pair, "t") for pair in table], ("customer", "image", "ticket")
    )
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"customer": p, "image": f, "ticket": "u"}) + "\n" for p, f in lines)
    )
    (tmp_path / "c.parquet").write_bytes(parquet(file, ticket="v", price=1.5))
    for name, pairs in (("dt=1/part-0.parquet", part), ("dt=2/part-0.parquet", other)):
        (tmp_path / "parts" / name).parent.mkdir(parents=True)
        (tmp_path / "parts" / name).write_bytes(parquet(pairs))
    (tmp_path / "parts" / "_SUCCESS").touch()
    sources = ("a.csv", "b.jsonl", "c.parquet", "parts", *FOREIGN)

    planned = await program("plan", *sources, "--region", "cn-shanghai", "--json")
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["faces"] == 30
    ended = await program("run", *sources, *SANDBOX, "--run-dir", "r")
    assert ended.code == 0, ended.err
    report = judge_rehearsal(tmp_path / "r", [*table, *lines, *file, *part, *other])
    assert report.counts == {"deleted": 30}
    assert [(row["source"], row["line"], row["job_id"]) for row in report.results[12::6]] == [
        ("c.parquet", "1", "v"),
        ("parts/dt=1/part-0.parquet", "1", "parts/dt=1/part-0.parquet:1"),
        ("parts/dt=2/part-0.parquet", "1", "parts/dt=2/part-0.parquet:1"),
    ]
    assert [(row["price"], row["dt"]) for row in report.results[12::6]] == [
        ("1.5", ""), ("", "1"), ("", "2"),
    ]  # fmt: skip
    assert [(s["name"], s["format"]) for s in report.summary["inputs"]] == [
        ("a.csv", "csv"),
        ("b.jsonl", "jsonl"),
        ("c.parquet", "parquet"),
        ("parts/dt=1/part-0.parquet", "parquet"),
        ("parts/dt=2/part-0.parquet", "parquet"),
    ]


async def test_a_folder_alone_is_a_source_and_no_plan(program: Program, tmp_path: Path) -> None:
    pairs = persons(3)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "0.parquet").write_bytes(parquet(pairs))
    ended = await program("run", "parts", *FOREIGN, *SANDBOX, "--run-dir", "r")
    assert ended.code == 0, ended.err
    assert judge_rehearsal(tmp_path / "r", pairs).counts == {"deleted": 3}


async def test_a_damaged_part_stops_everything(program: Program, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "0.parquet").write_bytes(parquet(persons(3)))
    (tmp_path / "parts" / "1.parquet").write_bytes(parquet(persons(3, first=3))[:-9])
    ended = await program("run", "parts", *FOREIGN, *SANDBOX, "--run-dir", "r")
    assert ended.code == 2
    assert "parts/1.parquet: its footer" in ended.err
    assert "nothing was sent" in ended.last_line
    assert not (tmp_path / "r" / "ledger.sqlite3").exists()


async def test_a_plan_of_objects_and_folders_refuses_every_change(
    program: Program, tmp_path: Path
) -> None:
    local, remote, table = persons(2), persons(2, first=2), persons(2, first=4)
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / "0.parquet"
    async with stored(program) as store:

        def prepare() -> None:
            for path in tmp_path.glob("parts/*"):
                path.unlink()
            part.write_bytes(parquet(local))
            store.objects.clear()
            store.put("bucket/parts/0.parquet", parquet(remote))
            rows = ["customer,image,ticket", *(f"{p},{f},t" for p, f in table)]
            store.put("bucket/t/jobs.csv", "".join(f"{row}\n" for row in rows).encode())

        prepare()
        sources = ("parts", "s3://bucket/parts", "oss://bucket/t/*.csv")
        ended = await program("plan", *sources, *FOREIGN, "--sandbox", "-o", "p", *FAST)
        assert ended.code == 0, ended.err

        async def refused(said: str) -> None:
            ended = await program("run", "p", "--yes", "-q")
            assert (ended.code, said in ended.err) == (3, True), ended.err
            prepare()

        part.write_bytes(parquet(local[:1]))
        await refused("parts/0.parquet: the plan has read")
        (tmp_path / "parts" / "1.parquet").write_bytes(parquet(persons(1, first=9)))
        await refused("parts/1.parquet: the file is not in the plan")
        store.put("bucket/parts/0.parquet", parquet(remote, ticket="x"))
        await refused("s3://bucket/parts/0.parquet: the plan has read")
        jobs = store.objects["bucket/t/jobs.csv"]
        store.put("bucket/t/jobs.csv", jobs.replace(b"person-4", b"person-5"))
        await refused("oss://bucket/t/jobs.csv: the plan has read")
        store.put("bucket/t/more.csv", b"customer,image,ticket\np,1,t\n")
        await refused("oss://bucket/t/more.csv: the object is not in the plan")
        store.denied = "AccessDenied"
        await refused("the store refused access (")
        store.denied = ""

        ended = await program("run", "p", "--yes")
        assert ended.code == 0, ended.err
        pairs = [*local, *remote, *table]
        assert judge_rehearsal(tmp_path / "p", pairs).counts == {"deleted": 6}


async def test_objects_are_named_in_the_report_and_no_secret_is_anywhere(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(3)
    async with stored(program) as store:
        store.put("bucket/jobs.parquet", parquet(pairs))
        flags = ("s3://bucket/jobs.parquet", *FOREIGN, *SANDBOX, "-vv", "--run-dir")
        ended = await program("run", *flags, "r")
        assert ended.code == 0, ended.err
        report = Report(tmp_path / "r")
        assert {row["source"] for row in report.results} == {"s3://bucket/jobs.parquet"}
        store.denied = "SignatureDoesNotMatch"
        denied = await program("run", *flags, "q")
        assert denied.code == 2
        assert "the store refused access (" in denied.err
    said = ended.out + ended.err + denied.out + denied.err
    assert not any(secret in said for secret in (SECRET, TOKEN, ACCESS_KEY))
    assert "Unclosed" not in said
    assert not _holding(tmp_path, SECRET)


def _holding(directory: Path, secret: str) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if secret.encode() in path.read_bytes()]
