from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.sources.reading import all_entries
from worker.errors import InputRefused, UsageRefused
from worker.sources import open_sources
from worker.sources.interface import Source, SourceOptions

CSV = b"person_id,face_id\np,1\n"


def opened(*specs: str, **options: Any) -> Sequence[Source]:
    return open_sources(specs, SourceOptions(**options), io.BytesIO(CSV))


def refused(*specs: str, **options: Any) -> UsageRefused:
    with pytest.raises(UsageRefused) as caught:
        opened(*specs, **options)
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sources_keep_the_order_given_and_globs_are_sorted(here: Path) -> None:
    for name in ("b.csv", "a.csv", "c.CSV", "z.jsonl.gz"):
        (here / name).write_bytes(CSV)
    names = [s.name for s in opened("z.jsonl.gz", "-", "[ab].csv", "c.CSV")]
    assert names == ["z.jsonl.gz", "-", "a.csv", "b.csv", "c.CSV"]


def test_a_file_with_a_pattern_for_a_name_is_that_file(here: Path) -> None:
    (here / "a[1].csv").write_bytes(CSV)
    (here / "a1.csv").write_bytes(CSV)
    assert [s.name for s in opened("a[1].csv")] == ["a[1].csv"]


def test_a_pattern_without_a_match_is_refused(here: Path) -> None:
    assert "no file matches this pattern" in refused("*.csv").cause


def test_missing_files_and_dangling_links_are_told_apart(here: Path) -> None:
    (here / "link.csv").symlink_to("gone.csv")
    assert refused("gone.csv").cause == "gone.csv: there is no such file"
    assert refused("link.csv").cause == "link.csv: it is a link to a file that does not exist"
    (here / "file.csv").write_bytes(CSV)
    assert "cannot be opened" in refused("file.csv/x.csv").cause
    assert "cannot be opened" in refused("x" * 5000).cause


def test_an_empty_name_is_refused(here: Path) -> None:
    assert "empty name" in refused("").cause


def test_directories_devices_and_sockets_are_refused(here: Path) -> None:
    (here / "dir.csv").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.csv")
        assert refused("s.csv").cause == "s.csv: it is a socket, not a file of jobs"
    assert refused("dir.csv").cause == "dir.csv: it is a directory, not a file of jobs"
    assert "'dir.csv/*.csv'" in refused("dir.csv").remedy
    assert refused("/dev/null").cause == "/dev/null: it is a device, not a file of jobs"


def test_an_unreadable_file_is_refused() -> None:
    # Root may read everything, so a child that is not root asks, in a directory it can enter.
    program = (
        "import io, os, sys\n"
        "from worker.sources import open_sources\n"
        "from worker.sources.interface import SourceOptions\n"
        "os.geteuid() or os.setuid(65534)\n"
        "open_sources([sys.argv[1]], SourceOptions(), io.BytesIO())\n"
    )
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "secret.csv")
        path.write_bytes(CSV)
        path.chmod(0)
        child = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
        )
    assert f"{path}: this user may not read it" in child.stderr


def test_the_same_file_named_twice_is_refused_however_it_is_spelt(here: Path) -> None:
    (here / "a.csv").write_bytes(CSV)
    (here / "link.csv").symlink_to("a.csv")
    (here / "hard.csv").hardlink_to("a.csv")
    assert "named twice" in refused("a.csv", "a.csv").cause
    assert "the same file as a.csv" in refused("a.csv", "./a.csv").cause
    assert "the same file as a.csv" in refused("a.csv", "link.csv").cause
    assert "the same file as a.csv" in refused("*.csv").cause
    assert "named twice" in refused("-", "-").cause
    with (here / "a.csv").open("rb") as stdin, pytest.raises(UsageRefused, match="same file"):
        open_sources(["a.csv", "-"], SourceOptions(), stdin)


@pytest.mark.parametrize("name", ["jobs", "jobs.txt", "jobs.gz", "jobs.txt.gz", ".csv"])
def test_a_name_without_a_known_format_needs_the_flag(here: Path, name: str) -> None:
    (here / name).write_bytes(CSV)
    refusal = refused(name)
    assert ".csv, .tsv, .jsonl, .ndjson, .json, each also followed by .gz, .bz2" in refusal.cause
    assert "--format csv|tsv|jsonl|ndjson|json|parquet" in refusal.remedy
    assert [s.name for s in opened(name, format="csv")] == [name]


def test_a_spreadsheet_is_to_be_exported(here: Path) -> None:
    (here / "jobs.xlsx").write_bytes(b"PK\x03\x04")
    assert "export it as CSV" in refused("jobs.xlsx").remedy


@pytest.mark.parametrize("name", ["a\n.csv", "a\x1b[31m.csv", "a\u202e.csv", "a\udcff.csv"])
def test_a_name_that_acts_on_terminals_or_is_no_text_is_refused(here: Path, name: str) -> None:
    (here / name).write_bytes(CSV)
    cause = refused(name).cause
    assert cause.isprintable()
    assert "rename the file" in refused("*.csv").remedy


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"format": "xml"}, '--format: "xml" is no format'),
        ({"columns": {"id": "x"}}, '--columns: "id" is nothing'),
        ({"columns": {"person": "x", "face": "x"}}, "the same column is named for two purposes"),
        ({"delimiter": ";;"}, '--delimiter: ";;" cannot separate cells'),
        ({"delimiter": '"'}, "cannot separate cells"),
        ({"delimiter": "a"}, "cannot separate cells"),
        ({"delimiter": "\n"}, r'--delimiter: "\n" cannot separate cells'),
        ({"person_id_pattern": "["}, 'person_id_pattern: "[" is not a regular expression'),
        ({"face_id_pattern": "[0-9]*"}, "also matches an empty ID"),
    ],
)
def test_options_that_cannot_be_acted_upon_are_refused(
    here: Path, options: dict[str, Any], cause: str
) -> None:
    assert cause in refused("-", **options).cause


STDIN_FORMATS = {
    "csv": CSV,
    "tsv": b"person_id\tface_id\np\t1\n",
    "jsonl": b'\n {"personId":"p","faceId":"1"}\n',
    "json": b'\xef\xbb\xbf\n[{"personId":"p","faceId":"1"}]',
}


@pytest.mark.parametrize(("format_", "data"), STDIN_FORMATS.items())
def test_standard_input_tells_its_format(read_stdin: Any, format_: str, data: bytes) -> None:
    reading = read_stdin(data)
    assert reading.pairs == [("p", "1")]
    assert (reading.summary.name, reading.summary.format) == ("-", format_)


def test_a_given_delimiter_says_that_standard_input_is_a_table(read_stdin: Any) -> None:
    reading = read_stdin(b"person_id\tface_id\np\t1\n", delimiter="\\t")
    assert reading.pairs == [("p", "1")]
    assert read_stdin(b"{person};[face]\np;1\n", delimiter=";", columns={"person": "{person}", "face": "[face]"}).pairs == [("p", "1")]  # fmt: skip


@pytest.mark.parametrize(
    "data", [CSV[:-1], CSV + b'"p', CSV + b"p,", b"person_id\tface_id\np\t1"], ids=repr
)
def test_a_table_on_standard_input_that_ends_within_a_line_is_refused(
    read_stdin: Any, data: bytes
) -> None:
    with pytest.raises(InputRefused, match="ends in the middle of a line") as caught:
        read_stdin(data)
    assert "may have died" in caught.value.cause


def test_a_file_may_end_without_a_line_feed(read: Any) -> None:
    assert read(CSV[:-1]).pairs == [("p", "1")]


def test_json_on_standard_input_may_end_without_a_line_feed_but_not_within_a_record(
    read_stdin: Any,
) -> None:
    data = b'{"personId":"p","faceId":"1"}\n{"personId":"p","faceId":"2"}'
    assert read_stdin(data).pairs == [("p", "1"), ("p", "2")]
    with pytest.raises(InputRefused, match=r"standard input:2: it ends in the middle of a record"):
        read_stdin(data[:-1])


def test_compressed_standard_input_is_refused_with_the_command_that_unpacks_it(
    read_stdin: Any,
) -> None:
    with pytest.raises(InputRefused) as caught:
        read_stdin(b"\x1f\x8b\x08\x00")
    assert caught.value.remedy == "unpack it on the way: zcat FILE | facepurge run -"


def test_a_named_pipe_is_read_like_standard_input(here: Path) -> None:
    os.mkfifo(here / "pipe")
    writer = threading.Thread(target=(here / "pipe").write_bytes, args=(CSV,))
    (source,) = opened("pipe")
    writer.start()
    entries = all_entries(source)
    writer.join()
    assert [e[3:5] for e in entries] == [("p", "1")]
    assert source.summary().format == "csv"


def test_a_broken_read_is_refused(here: Path) -> None:
    (here / "a.csv").write_bytes(CSV)
    (source,) = opened("a.csv")
    (here / "a.csv").unlink()
    with pytest.raises(InputRefused, match="it cannot be read"):
        list(source.chunks())
    program = (
        "import sys\n"
        "from worker.sources import open_sources\n"
        "from worker.sources.interface import SourceOptions\n"
        "(source,) = open_sources(['-'], SourceOptions(), sys.stdin.buffer)\n"
        "list(source.chunks())\n"
    )
    writing = os.open("/dev/null", os.O_WRONLY)
    child = subprocess.run(
        [sys.executable, "-c", program], stdin=writing, capture_output=True, text=True, check=False
    )
    os.close(writing)
    assert "standard input: it cannot be read" in child.stderr


def test_a_file_that_changes_while_it_is_read_is_refused(here: Path) -> None:
    path = here / "a.csv"
    path.write_bytes(CSV + b"p,2\n" * 200_000)
    (source,) = opened("a.csv")
    chunks = source.chunks()
    next(chunks)
    with path.open("ab") as file:
        file.write(b"p,3\n")
    with pytest.raises(InputRefused, match="changed while it was being read"):
        list(chunks)


def test_standard_input_in_non_blocking_mode_is_not_taken_for_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, CSV)
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as stdin:
        (source,) = open_sources(["-"], SourceOptions(), stdin)
        with pytest.raises(InputRefused, match="non-blocking"):
            list(source.chunks())
    os.close(writing)


def test_the_summary_counts_and_digests_the_raw_bytes(read: Any) -> None:
    import gzip
    import hashlib

    raw = gzip.compress(b"person_id,note,face_ids\n\np,x,1;2\n,,\n")
    summary = read(raw, "jobs.csv.gz").summary
    assert summary.sha256 == hashlib.sha256(raw).hexdigest()
    assert summary.byte_count == len(raw)
    assert (summary.records, summary.entries, summary.blank_lines) == (1, 2, 2)
    assert summary.carried_columns == ("note",)


def test_a_summary_before_the_end_is_an_error_of_the_program() -> None:
    with pytest.raises(RuntimeError, match="not read to its end"):
        opened("-")[0].summary()
