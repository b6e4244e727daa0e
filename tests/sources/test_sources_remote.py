"""Objects in stores: read as files are, and refused in sentences that hold no secret."""

from __future__ import annotations

import gzip
import io
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources import object_store
from tests.sources.object_store import ACCESS_KEY, SECRET, TOKEN, ObjectStore
from tests.sources.reading import all_entries
from worker.errors import InputRefused, UsageRefused
from worker.model import Entry
from worker.sources import open_sources, remote
from worker.sources.interface import SourceOptions

CSV = b"person_id,face_id\np,1\nq,2\n"
SCHEMES = pytest.mark.parametrize("scheme", ["s3", "oss"])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store.serving() as store:
        for name, value in object_store.environment(store.endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        remote._store.cache_clear()
        yield store
        remote._store.cache_clear()


def read(*specs: str, **options: Any) -> tuple[list[Entry], list[str]]:
    entries: list[Entry] = []
    names: list[str] = []
    for source in open_sources(specs, SourceOptions(**options), None):
        entries += all_entries(source)
        names.append(source.summary().name)
    return entries, names


def pairs(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.person_id, entry.face_id) for entry in entries]


def parquet(face: str) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"person_id": ["p"], "face_id": [face]}), written)
    return written.getvalue()


FORMATS = {
    "jobs.csv": CSV,
    "jobs.tsv": CSV.replace(b",", b"\t"),
    "jobs.csv.gz": gzip.compress(CSV),
    "jobs.jsonl": b'{"personId":"p","faceId":"1"}\n{"personId":"q","faceId":"2"}\n',
    "jobs.json": b'[{"personId":"p","faceId":"1"},{"personId":"q","faceId":"2"}]',
    "with space/+ü.csv": CSV,
}


@SCHEMES
@pytest.mark.parametrize("key", FORMATS)
def test_every_format_is_read(store: ObjectStore, scheme: str, key: str) -> None:
    store.put(f"bucket/{key}", FORMATS[key])
    entries, names = read(f"{scheme}://bucket/{key}")
    assert pairs(entries) == [("p", "1"), ("q", "2")]
    assert names == [f"{scheme}://bucket/{key}"]
    assert store.unsigned == 0


@SCHEMES
def test_parquet_is_read_by_object_and_by_folder(store: ObjectStore, scheme: str) -> None:
    store.put("bucket/parts/dt=1/part-1.parquet", parquet("2"))
    store.put("bucket/parts/dt=1/part-0.parquet", parquet("1"))
    store.put("bucket/parts/dt=2/part-0.parquet", parquet("3"))
    store.put("bucket/parts/_SUCCESS", b"")
    store.put("bucket/parts/", b"")
    assert pairs(read(f"{scheme}://bucket/parts/dt=2/part-0.parquet")[0]) == [("p", "3")]
    entries, names = read(f"{scheme}://bucket/parts")
    assert [entry.face_id for entry in entries] == ["1", "2", "3"]
    assert [entry.carried for entry in entries] == ['{"dt":"1"}', '{"dt":"1"}', '{"dt":"2"}']
    assert names[0] == f"{scheme}://bucket/parts/dt=1/part-0.parquet"
    assert read(f"{scheme}://bucket/parts/") == (entries, names)


@SCHEMES
def test_globs_are_those_of_files(store: ObjectStore, scheme: str) -> None:
    for key in ("a/1.csv", "a/2.csv", "a/.3.csv", "a/b/4.csv", "a/[1].csv", "a/5.txt"):
        store.put(f"bucket/{key}", CSV)

    def names(pattern: str) -> list[str]:
        return [
            name.removeprefix(f"{scheme}://bucket/")
            for name in read(f"{scheme}://bucket/{pattern}")[1]
        ]

    assert names("a/*.csv") == ["a/1.csv", "a/2.csv", "a/[1].csv"]
    assert names("a/[12].csv") == ["a/1.csv", "a/2.csv"]
    assert names("a/?.csv") == ["a/1.csv", "a/2.csv"]
    assert names("**/*.csv") == ["a/1.csv", "a/2.csv", "a/[1].csv", "a/b/4.csv"]
    assert names("a/[1].csv") == ["a/[1].csv"]
    with pytest.raises(UsageRefused, match="no object matches"):
        read(f"{scheme}://bucket/a/*.json")


@SCHEMES
def test_what_is_not_there_is_refused(store: ObjectStore, scheme: str) -> None:
    store.put("bucket/folder/jobs.csv", CSV)
    for spec in ("bucket/gone.csv", "nobucket/jobs.csv"):
        with pytest.raises(UsageRefused, match="there is no such bucket or object") as refused:
            read(f"{scheme}://{spec}")
        assert refused.value.cause.startswith(f"{scheme}://{spec}: ")
    with pytest.raises(UsageRefused, match="it is a folder"):
        read(f"{scheme}://bucket/folder")


@SCHEMES
def test_an_object_is_named_once(store: ObjectStore, scheme: str) -> None:
    store.put("bucket/jobs.csv", CSV)
    with pytest.raises(UsageRefused, match="named twice"):
        read(f"{scheme}://bucket/jobs.csv", f"{scheme}://bucket/*.csv")


@SCHEMES
@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"])
def test_a_refusal_is_told_without_the_secrets_in_it(
    store: ObjectStore, scheme: str, code: str
) -> None:
    store.put("bucket/jobs.csv", CSV)
    (source,) = open_sources([f"{scheme}://bucket/jobs.csv"], SourceOptions(), None)
    store.denied = code
    for refusing in (
        lambda: list(source.chunks()),
        lambda: read(f"{scheme}://bucket/jobs.csv"),
        lambda: read(f"{scheme}://bucket/*.csv"),
    ):
        with pytest.raises((InputRefused, UsageRefused)) as refused:
            refusing()
        assert "the store refused access" in refused.value.cause
        assert refused.value.cause.startswith(f"{scheme}://bucket/")
        said = "".join(traceback.format_exception(refused.value)) + refused.value.remedy
        assert not any(secret in said for secret in (SECRET, TOKEN, ACCESS_KEY))


@SCHEMES
@pytest.mark.parametrize("replaced_after", [1, 2])
def test_an_object_that_changes_meanwhile_is_refused(
    store: ObjectStore, scheme: str, replaced_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PIECE_BYTES", 20)
    store.put("bucket/jobs.csv", CSV * 2 + b"r,3\n")
    (source,) = open_sources([f"{scheme}://bucket/jobs.csv"], SourceOptions(), None)
    store.replaced_after = replaced_after
    with pytest.raises(InputRefused, match="changed while it was being read") as refused:
        list(source.chunks())
    assert refused.value.cause.startswith(f"{scheme}://bucket/jobs.csv: ")


@SCHEMES
def test_an_object_that_is_replaced_when_all_of_it_was_read_is_refused(
    store: ObjectStore, scheme: str
) -> None:
    store.put("bucket/jobs.csv", CSV)
    with remote.ObjectStream(f"{scheme}://bucket/jobs.csv") as stream:
        assert stream.read(len(CSV)) == CSV
        store.put("bucket/jobs.csv", CSV.upper())
        with pytest.raises(InputRefused, match="changed while it was being read"):
            stream.read()


@SCHEMES
def test_an_object_is_read_in_pieces(
    store: ObjectStore, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PIECE_BYTES", 10)
    store.put("bucket/jobs.csv", CSV)
    assert pairs(read(f"{scheme}://bucket/jobs.csv")[0]) == [("p", "1"), ("q", "2")]
    assert store.reads == -(-len(CSV) // 10)


@SCHEMES
def test_a_connection_that_is_cut_never_ends_a_source(store: ObjectStore, scheme: str) -> None:
    store.put("bucket/jobs.csv", CSV)
    store.cut = True
    with pytest.raises(InputRefused, match=r"no usable answer|less than the whole"):
        read(f"{scheme}://bucket/jobs.csv")


@SCHEMES
def test_a_store_that_cannot_be_reached_is_refused(
    store: ObjectStore, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("OSS_ENDPOINT", endpoint)
        with pytest.raises(UsageRefused, match="no usable answer") as refused:
            read(f"{scheme}://bucket/jobs.csv")
    assert "network" in refused.value.remedy


@SCHEMES
def test_nobody_without_credentials_is_let_in(
    store: ObjectStore, scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in object_store.environment(""):
        if not name.endswith(("URL", "ENDPOINT", "DISABLED", "REGION")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageRefused, match="no credentials for") as refused:
        read(f"{scheme}://bucket/jobs.csv")
    assert "ACCESS_KEY" in refused.value.remedy


@pytest.mark.parametrize(("scheme", "module"), [("s3", "s3fs"), ("oss", "oss2")])
def test_without_its_package_the_way_to_install_it_is_said(
    scheme: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote._store.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageRefused, match="not installed") as refused:
        read(f"{scheme}://bucket/jobs.csv")
    assert f"pip install 'facepurge[{scheme}]'" in refused.value.remedy


def test_oss_needs_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    remote._store.cache_clear()
    monkeypatch.delenv("OSS_ENDPOINT", raising=False)
    monkeypatch.delenv("OSS_REGION", raising=False)
    with pytest.raises(UsageRefused, match="in which region") as refused:
        read("oss://bucket/jobs.csv")
    assert "OSS_REGION" in refused.value.remedy


STRANGE = {
    "https://bucket.example/jobs.csv?Signature=secret": "https://...: nothing is read from there",
    "s3://AKID:secret@bucket/jobs.csv": "s3://...: credentials and hosts",
    "s3://": "it names no object",
    "s3://bucket": "it names no object",
    "oss://bucket/": "it names no object",
}


@pytest.mark.parametrize(("spec", "cause"), STRANGE.items())
def test_strange_urls_are_refused_and_their_secrets_not_repeated(spec: str, cause: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        read(spec)
    assert cause in refused.value.cause
    assert "secret" not in str(refused.value) + refused.value.remedy


@SCHEMES
def test_caps_and_grammar_are_those_of_files(store: ObjectStore, scheme: str) -> None:
    store.put("bucket/jobs.csv", CSV + b"p," + b"1" * 1000 + b"\n")
    with pytest.raises(InputRefused, match=":4: the line is longer than 100 bytes"):
        read(f"{scheme}://bucket/jobs.csv", max_line_bytes=100)
    store.put("bucket/jobs.csv", parquet("1"))
    with pytest.raises(InputRefused, match="a Parquet file"):
        read(f"{scheme}://bucket/jobs.csv")
    store.put("bucket/jobs.csv", b"")
    with pytest.raises(InputRefused, match="it is empty"):
        read(f"{scheme}://bucket/jobs.csv")
