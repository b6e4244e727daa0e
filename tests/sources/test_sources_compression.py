from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from worker.sources import expansion

CSV = b"person_id,face_id\n" + b"".join(
    b"p%d,%d\n" % (n, random.Random(n).randrange(10**16)) for n in range(20_000)
)
SMALL = b"person_id,face_id\np,1\n"

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
every_compression = pytest.mark.parametrize("extension", COMPRESS)


@every_compression
def test_compressed_sources_hold_what_plain_ones_hold(read: Any, extension: str) -> None:
    reading = read(COMPRESS[extension](CSV), f"jobs.csv{extension}")
    assert reading.entries == read(CSV).entries
    assert reading.summary.format == "csv"


@every_compression
def test_members_follow_one_another(read: Any, extension: str) -> None:
    compress = COMPRESS[extension]
    data = compress(SMALL[:10]) + compress(b"") + compress(SMALL[10:])
    assert read(data, f"JOBS.CSV{extension.upper()}").pairs == [("p", "1")]


@every_compression
@pytest.mark.parametrize("cut", [1, 5, 100])
def test_cut_data_is_refused(refuse: Any, extension: str, cut: int) -> None:
    refusal = refuse(COMPRESS[extension](CSV)[:-cut], f"jobs.csv{extension}")
    assert "data is cut: it ends in the middle" in refusal.cause
    assert "compare its size" in refusal.remedy


@every_compression
def test_data_cut_between_rows_is_refused(refuse: Any, extension: str) -> None:
    # All rows are there; only the proof that they are all is missing.
    refusal = refuse(COMPRESS[extension](SMALL)[:-1], f"jobs.csv{extension}")
    assert "data is cut" in refusal.cause


@every_compression
@pytest.mark.parametrize("garbage", [b"x", b"\0\0\0\0", b"person_id,face_id\nq,2\n"], ids=repr)
def test_whatever_follows_is_refused(refuse: Any, extension: str, garbage: bytes) -> None:
    refusal = refuse(COMPRESS[extension](SMALL) + garbage, f"jobs.csv{extension}")
    assert "follows the compressed data" in refusal.cause or "data is cut" in refusal.cause


@every_compression
def test_a_flipped_byte_is_refused(refuse: Any, extension: str) -> None:
    compress = COMPRESS[extension]
    if extension == ".zst":
        compress = zstandard.ZstdCompressor(write_checksum=True).compress
    data = bytearray(compress(CSV))
    data[len(data) // 2] ^= 0x10
    refusal = refuse(bytes(data), f"jobs.csv{extension}")
    # What the damage turned the text into may be noticed before the checksum is.
    assert refusal.cause.startswith("jobs.csv")


def test_skippable_frames_of_parallel_zstd_are_skipped(read: Any) -> None:
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"size"
    data = skippable + zstandard.compress(SMALL) + skippable
    assert read(data, "jobs.csv.zst").pairs == [("p", "1")]


@every_compression
def test_expansion_stops_at_the_size_cap(refuse: Any, extension: str) -> None:
    refusal = refuse(COMPRESS[extension](CSV), f"jobs.csv{extension}", max_expanded_bytes=300_000)
    assert "expands to more than 300000 bytes" in refusal.cause
    assert "max_expanded_bytes" in refusal.remedy


@every_compression
def test_expansion_stops_at_the_ratio_cap(
    refuse: Any, read: Any, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = COMPRESS[extension](b"person_id,face_id\n" + b"p,1\n" * 100_000)
    name = f"jobs.csv{extension}"
    assert len(read(data, name, max_expansion_ratio=50).entries) == 100_000
    monkeypatch.setattr(expansion, "RATIO_FLOOR_BYTES", 100_000)
    refusal = refuse(data, name, max_expansion_ratio=50)
    assert "expands to more than 50 times its size" in refusal.cause


def test_offsets_in_compressed_sources_say_what_they_count(refuse: Any) -> None:
    refusal = refuse(gzip.compress(SMALL + b"\xff,1\n"), "jobs.csv.gz")
    assert "byte 0xFF at byte offset 22 after decompression" in refusal.cause
