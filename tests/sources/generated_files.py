"""Job files from a seed: good ones and damaged ones, of every format, small and big."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import zstandard

from tests.sources.plain.words import Asked

KIB = 1024
BLOCKS = (256 * KIB, KIB * KIB, 4 * KIB * KIB, 8 * KIB * KIB)
"""Sizes at which a reader may cut a file into pieces; damage likes to be where they meet."""

MOST_CHARACTERS = 14 * KIB * KIB

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": zstandard.ZstdCompressor(level=1, write_checksum=True).compress,
}

BAD_FACES = (
    "", " 1", "1 ", "1 2", "1\u00a0", "\u00a0", " ", "1\u2028", "1\u200b", "\ufeff1", "1\x1b", "1\t", "1\x7f",
    "1.24445E+12", "1,24445E+12", "31842550077981745.0", "+123", "-5", "1,234", "1'234", "'123", '="123"',
    "١٢٣", "１２３", "1²", "1" * 33, "12ab", "1;2", ";", "1;", "ALL", "all", "*", "null", "None", "NaN",
    "n/a", "true", "undefined", "0x1F", "é", "x" * 201, "1" * 250, "1\n2", "1\r\n", "=5", "1e5", "5.", "１",
)  # fmt: skip
BAD_PERSONS = (
    "", " p", "p ", "p\u00a0", "a.b", "José", "p１", "p" * 33, "p" * 201, "p\u202e", "p\x07", "p\nq", "*", "a,b",
    'a"b', "人", "p;q", "\u2028", "-\u00ad",
)  # fmt: skip
GOOD_DUES = ("2026-11-30", "2026-11-30T18:00", "2026-11-30 18:00:59", "2026-11-30T18:00:00.25+08:00", "2024-02-29", "0001-01-01T00:00+23:59", "9999-12-31", "", "2026-11-30T18:00-0530", "2026-11-30T00:00Z")  # fmt: skip
BAD_DUES = ("tomorrow", "30.11.2026", "20261130", "2026-02-30", "2026-11-30T24:00", "2026-11-30T12:00+99:00", " 2026-11-30", "2026-11-30T12", "٢٠٢٦-11-30", "2026-11-30Z", "2026-11-30T12:00+00:75", "2026-13-01")  # fmt: skip
NASTY = (
    "=cmd()", "+1", "-x", "@x", "\x1b[31m", "<b>", "a\nb", "a\r\nb", "a\rb", '"', '""', "'", "%s %d %", "\u202e", "\u2028x",
    "\u2029", "\x85", "", " ", "😀", "é", "e\u0301", "\ufeff", "a,b", "a;b", "a\tb", "a|b", '"a","b"', "\\", "\x0b", "\x0c",
    "\x1c", "\x7f", "note", "some text", "x" * 300, "\nx", "x\n", "p,1\n", '{"a":1}', "\\u0000", "{}", "NULL", "1e5", "007", "\U0010ffff",
)  # fmt: skip
NAMES = ("note", "Ünï", "n%s", "a b", "", "2024", "\x1b", "line", "source", "x" * 60, "=n", "😀", "no\nte", 'q"q', "b,c", "faces", "topic")  # fmt: skip
SPELLINGS = {
    "person": ("person_id", "personId"),
    "face": ("face_id", "faceId"),
    "faces": ("face_ids", "faceIds"),
    "job": ("job_id", "jobId"),
    "due": ("due_at", "dueAt"),
}
OWN_NAMES = {"person": "uid", "face": "bild", "job": "ticket", "due": "deadline"}
REPORT = "job_id,source,line,person_id,face_id,outcome,code,message,request_id,attempts,first_sent_at,finished_at,duplicate_of"
PERSON_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
BAD_UTF8 = (b"\xff", b"\xe9", b"\xc0\xb1", b"\xc1\xbf", b"\xe0\x80\xb1", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf0\x80\x80\xb1")  # fmt: skip


class GeneratedFile(NamedTuple):
    name: str
    data: bytes
    asked: Asked
    story: str
    """How it was made, in a few words."""


class Size(StrEnum):
    """How big a file may be."""

    ANY = "any"
    """One in a hundred has more than a megabyte, one in a thousand more than ten."""
    SMALL = "small"
    """Up to 3000 records."""
    BIG = "big"
    """More than a megabyte."""


_MOST_RECORDS = (0, 5, 80, 1000, 3000, 80_000, 400_000)
_WEIGHTS = {
    Size.ANY: (0.35, 0.53, 0.09, 0.019, 0.01, 0.001),
    Size.SMALL: (0.35, 0.55, 0.09, 0.01, 0.0, 0.0),
    Size.BIG: (0.0, 0.0, 0.0, 0.0, 0.96, 0.04),
}


def generated_file(seed: int, number: int, size: Size = Size.ANY) -> GeneratedFile:
    """The file of that number: every second one is damaged."""
    return _Generator(random.Random(f"{seed}/{number}"), size).file(damaged=number % 2 == 1)


class _Generator:
    def __init__(self, rng: random.Random, size: Size) -> None:
        self._rng = rng
        self._weights = _WEIGHTS[size]
        self._bad = rng.choice((0.0, 0.0, 0.002, 0.05, 0.4))
        """How many of the rows hold something that refuses them."""
        self._nasty = rng.choice((0.0, 0.02, 0.5))
        """How many of the other cells hold something unusual."""
        self._story: list[str] = []

    def file(self, *, damaged: bool) -> GeneratedFile:
        rng = self._rng
        format_ = rng.choice(
            ("csv", "csv", "csv", "tsv", "jsonl", "jsonl", "ndjson", "json", "json")
        )
        rows = self._records(in_lines=format_ != "json")
        self._story += [format_, f"{rows} rows"]
        if format_ in ("csv", "tsv"):
            data, asked = self._table(format_, rows)
        else:
            data, asked = self._objects(format_, rows)
        if rng.random() < 0.1:
            data = b"\xef\xbb\xbf" + data
        extension = rng.choice(("", "", "", *COMPRESS))
        for_content = damaged and (not extension or rng.random() < 0.6)
        if for_content:
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                data = self._damaged(data)
        if rng.random() < 0.1:
            # A line that is just as long as one may be, or nearly.
            longest = max(map(len, data.split(b"\n")))
            asked = asked._replace(max_line_bytes=max(40, longest + rng.randrange(-3, 4)))
            self._story.append("lines capped")
        if extension:
            data = self._compressed(data, extension)
            if damaged and not for_content:
                data = self._damaged_archive(data)
        if damaged and rng.random() < 0.03:
            data = self._another_file(data)
        name = f"jobs.{format_}{extension}"
        if rng.random() < 0.05:
            name = name.upper()
        elif damaged and rng.random() < 0.04:
            name = f"jobs.{rng.choice(('csv', 'tsv', 'jsonl', 'json'))}{rng.choice(('', extension, *COMPRESS))}"
            self._story.append("another extension")
        elif rng.random() < 0.05:
            name, asked = f"jobs.txt{extension}", asked._replace(format=format_)
            if extension:
                name = f"jobs.csv{extension}"
        return GeneratedFile(name, data, asked, ", ".join(self._story))

    def _records(self, *, in_lines: bool) -> int:
        """How many; an array of them is read as slowly as it is made."""
        rng = self._rng
        (at,) = rng.choices(range(1, 7), self._weights)
        if rng.random() < 0.02:
            return 0
        if not in_lines:
            at = min(at, 5)
        least = max(_MOST_RECORDS[at - 1], 40_000) if at > 4 else _MOST_RECORDS[at - 1]
        return rng.randrange(least + 1, _MOST_RECORDS[at] + 1)

    # What stands in a record.

    def _person(self) -> str:
        rng = self._rng
        if rng.random() < self._bad:
            return rng.choice(BAD_PERSONS)
        if rng.random() < 0.2:
            return rng.choice(("p", "-", "_", "0", "None", "null", "p" * 32, "-" * 32))
        return "".join(rng.choices(PERSON_SIGNS, k=rng.randrange(1, 33)))

    def _face(self) -> str:
        rng = self._rng
        if rng.random() < self._bad:
            return rng.choice(BAD_FACES)
        if rng.random() < 0.2:
            return rng.choice(("1", "0", "007", "0" * 32, "9" * 32, "31842550077981745"))
        return str(rng.randrange(10 ** rng.randrange(1, 33)))

    def _due(self) -> str:
        return self._rng.choice(BAD_DUES if self._rng.random() < self._bad else GOOD_DUES)

    def _text(self) -> str:
        if self._rng.random() < self._nasty:
            return self._rng.choice(NASTY)
        return self._rng.choice(("", "ticket 7", "a note", "Wien", "42", "2026-11-26"))

    # Tables.

    def _table(self, format_: str, rows: int) -> tuple[bytes, Asked]:
        rng = self._rng
        asked = Asked()
        delimiter = "\t" if format_ == "tsv" else ","
        if rng.random() < 0.2:
            delimiter = rng.choice(",;|\t")
            asked = asked._replace(delimiter=delimiter)
        asked = self._patterns(asked)
        whole = rng.random() < (0.12 if rows <= 10_000 else 0.03)
        asked = asked._replace(whole_persons=whole)
        roles, columns = self._columns(whole=whole)
        asked = asked._replace(columns=columns)
        names = [name for _, name in roles]
        kinds = [kind for kind, _ in roles]
        if rng.random() < 0.06 and not whole:
            # A report of an earlier run.
            names = [*REPORT.split(","), *rng.choice(((), ("remedy",)))]
            names += rng.sample(("note", "due_at", "input_line", "x"), rng.randrange(4))
            made = {"job_id": "job", "person_id": "person", "face_id": "face", "due_at": "due"}
            kinds = [made.get(name, "ours") for name in names]
            asked = asked._replace(columns={})
            self._story.append("a report")
        plain = rows > 100_000 or (rows > 10_000 and rng.random() < 0.7)
        ending = rng.choice(("\n", "\n", "\r\n", "mixed"))
        quoting = rng.choice(
            ("needed", "needed", "all") if plain else ("needed", "needed", "all", "some")
        )
        special = self._special(rows) if plain else set()
        blank = rng.choice((0.0, 0.0, 0.0, 0.05))
        lines = [self._row(names, delimiter, quoting)]
        makers = {
            "person": self._person,
            "face": self._face,
            "faces": self._faces_cell,
            "due": self._due,
        }
        pool: list[str] = []
        size = 0
        for number in range(rows):
            size += len(lines[-1])
            if size > MOST_CHARACTERS:
                break
            if plain and number not in special:
                cells = [_uniform(kind, number) for kind in kinds]
            elif len(pool) > 200 and not plain and rng.random() < 0.99:
                # A big file of many different rows takes long to make: most of its rows are drawn.
                lines.append(rng.choice(pool))
                continue
            else:
                cells = [makers.get(kind, self._text)() for kind in kinds]
            if rng.random() < blank and not (plain and number not in special):
                cells = [""] * rng.choice((1, len(kinds), len(kinds), rng.randrange(1, 9)))
            lines.append(self._row(cells, delimiter, quoting))
            pool.append(lines[-1])
        if rows and rng.random() < 0.1:
            lines[:0] = ["", delimiter * 3]
        return self._ended(lines, ending).encode(), asked

    def _special(self, rows: int) -> set[int]:
        """The few rows of a plain file that are not like the others."""
        rng = self._rng
        self._bad, self._nasty = rng.choice(((0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.3, 0.3)))
        special = {rng.randrange(rows) for _ in range(rng.choice((0, 0, 1, 2, 30)))}
        self._story.append(f"plain but for {len(special)} rows")
        return special

    def _patterns(self, asked: Asked) -> Asked:
        if self._rng.random() < 0.05:
            return asked._replace(face_id_pattern="[A-Za-z0-9-]{1,40}")
        if self._rng.random() < 0.05:
            return asked._replace(
                person_id_pattern="[a-z.@é]+|[0-9]{2}", face_id_pattern="[0-9]{2}"
            )
        return asked

    def _columns(self, *, whole: bool) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """The kind and name of each column, and what ``--columns`` says of them."""
        rng = self._rng
        columns: dict[str, str] = {}
        roles: list[tuple[str, str]] = []
        wanted = ["person"]
        wanted += [] if whole else [rng.choice(("face", "face", "faces"))]
        wanted += [role for role in ("job", "due") if rng.random() < 0.25]
        for kind in wanted:
            role = "face" if kind == "faces" else kind
            if rng.random() < 0.1:
                name = rng.choice((OWN_NAMES[role], *SPELLINGS[kind]))
                columns[role] = name
                kind = "faces" if name == "bild" else kind  # noqa: PLW2901 (such a column takes several)
            else:
                name = rng.choice(SPELLINGS[kind])
            roles.append((kind, name))
        others = rng.sample(NAMES, rng.choice((0, 0, 1, 2, 4)))
        roles += [("other", name) for name in others if not (whole and name == "faces")]
        rng.shuffle(roles)
        return roles, columns

    def _faces_cell(self) -> str:
        return ";".join(self._face() for _ in range(self._rng.choice((1, 1, 2, 3, 25))))

    def _row(self, cells: Sequence[str], delimiter: str, quoting: str) -> str:
        return delimiter.join(
            '"' + cell.replace('"', '""') + '"'
            if quoting == "all"
            or (quoting == "some" and self._rng.random() < 0.5)
            or not {delimiter, '"', "\n", "\r"}.isdisjoint(cell)
            else cell
            for cell in cells
        )

    def _ended(self, lines: Sequence[str], ending: str) -> str:
        rng = self._rng
        if len(lines) > 10_000 and rng.random() < 0.8:
            ending = "\n"
        if ending == "mixed":
            text = "".join(line + rng.choice(("\n", "\r\n")) for line in lines)
        else:
            text = ending.join([*lines, ""])
        if rng.random() < 0.2:
            text = text.removesuffix("\n").removesuffix("\r")
        return text + ("\n" * 3 if rng.random() < 0.05 else "")

    # JSON.

    def _objects(self, format_: str, rows: int) -> tuple[bytes, Asked]:
        rng = self._rng
        asked = self._patterns(Asked())
        columns = {
            role: rng.choice((own, "faces")) if rng.random() < 0.1 and role == "face" else own
            for role, own in OWN_NAMES.items()
            if rng.random() < 0.05
        }
        asked = asked._replace(columns=columns, whole_persons=rng.random() < 0.05)
        if rows > 3000 and rng.random() < 0.6:
            records = self._uniform_records(columns, rows)
        else:
            records = [self._record(columns) for _ in range(min(rows, 3000))]
        while len(records) < rows:
            records += records[: rows - len(records)]
        if format_ == "json":
            gaps = rng.choice((("", ""), ("\n", ""), (" ", "\n"), ("\r\n", " ")))
            text = (
                f"[{gaps[0]}" + f",{gaps[0]}".join(records) + f"{gaps[1]}]" + rng.choice(("", "\n"))
            )
            return text.encode("utf-8"), asked
        lines = [record.replace("\n", " ").replace("\r", "") for record in records]
        odd = rows <= 3000
        lines = [f" {line}\t" if odd and rng.random() < 0.02 else line for line in lines]
        if odd and rng.random() < 0.2:
            lines = [part for line in lines for part in ([line, rng.choice(("", "  ", "\t"))] if rng.random() < 0.05 else [line])]  # fmt: skip
        return self._ended(lines, rng.choice(("\n", "\n", "\r\n", "mixed"))).encode("utf-8"), asked

    def _record(self, columns: dict[str, str]) -> str:
        rng = self._rng
        if rng.random() < self._bad / 2:
            return self._odd_record()
        members: list[tuple[str, str]] = []

        def key(kind: str) -> str:
            role = "face" if kind == "faces" else kind
            return columns.get(role) or rng.choice(SPELLINGS[kind])

        members.append((key("person"), self._string(self._person())))
        drawn = rng.random()
        if drawn < 0.1:
            members.append(("faces", '"all"'))
        elif drawn < 0.5:
            members.append((key("face"), self._face_value()))
        else:
            faces = [self._face_value() for _ in range(rng.choice((1, 1, 2, 5)))]
            members.append((key("faces"), f"[{', '.join(faces)}]"))
        if rng.random() < 0.2:
            members.append((key("job"), rng.choice((self._string(self._text()), "12"))))
        if rng.random() < 0.2:
            members.append((key("due"), rng.choice((self._string(self._due()), "null"))))
        others = rng.choices(NAMES, k=rng.choice((0, 0, 1, 3)))
        members += [(name, self._value(0)) for name in others]
        rng.shuffle(members)
        gap = rng.choice(("", " ", "\n  "))
        return (
            "{"
            + f",{gap}".join(f"{self._string(name)}:{gap}{value}" for name, value in members)
            + "}"
        )

    def _uniform_records(self, columns: dict[str, str], rows: int) -> list[str]:
        """Objects of the same keys in the same order and spacing, but for a few."""
        rng = self._rng
        special = self._special(rows)
        kinds = ["person", rng.choice(("face", "faces"))]
        kinds += [kind for kind in ("job", "due", "note", "fixed", "source") if rng.random() < 0.25]
        rng.shuffle(kinds)
        colon, comma = rng.choice(((":", ","), (": ", ", "), (" : ", " ,")))
        members = []
        for kind in kinds:
            role = "face" if kind == "faces" else kind
            name = columns.get(role) or rng.choice(SPELLINGS.get(kind, (kind,)))
            value = {"faces": '["%s"]', "fixed": "1.50"}.get(kind, '"%s"')
            members.append(f'"{name}"{colon}{value}')
        template = "{" + comma.join(members) + "}"
        told = [kind for kind in kinds if kind != "fixed"]
        return [
            self._record(columns)
            if number in special
            else template % tuple(_uniform(kind, number) for kind in told)
            for number in range(rows)
        ]

    def _odd_record(self) -> str:
        rng = self._rng
        return rng.choice(
            (
                '["p","1"]',
                "12",
                "null",
                '"text"',
                "NaN",
                "{}",
                '{"personId":"p"}',
                '{"personId":"p","faceIds":[]}',
                '{"personId":"p","faceIds":"1"}',
                '{"personId":"p","faceId":["1"]}',
                '{"personId":5,"faceIds":["1"]}',
                '{"personId":null,"faceId":"1","n":1.50}',
                '{"personId":"p","person_id":"q","faceId":"1"}',
                '{"personId":"p","faceId":"1","faceIds":["1"]}',
                '{"personId":"p","faces":"all","faceIds":["1"]}',
                '{"personId":"p","faces":"ALL"}',
                '{"personId":"p","faces":["all"]}',
                '{"personId":"p","personId":"p","faceId":"1"}',
                '{"personId":"p","faceId":"1","n":{"a":1,"a":1}}',
                '{"personId":"p","faceId":"1","n":[NaN]}',
                '{"personId":"p","faceId":-Infinity}',
                '{"personId":"p","faceId":"1","n":"\\ud800"}',
                '{"personId":"p","faceId":"\\udc00"}',
                '{"personId":"\\udc00","faceId":"1"}',
                '{"personId":"p","faceId":"1\\u0000"}',
                '{"personId":"p","faceId":"1","jobId":null}',
                '{"personId":"p","faceId":"1","jobId":1.5}',
                '{"personId":"p","faceId":"1","jobId":"\\ud800"}',
                '{"personId":"p","faceId":"1","dueAt":5}',
                '{"personId":"p","faceId":"1","dueAt":"x","due_at":"y"}',
                '{"personId":"p","faceId":"1","n":'
                + "[" * (depth := rng.randrange(97, 103))
                + "]" * depth
                + "}",
                '{"personId":"p","faceIds":' + "[" * 120 + "]" * 120 + "}",
            )
        )

    def _face_value(self) -> str:
        rng = self._rng
        if rng.random() < self._bad:
            return rng.choice(
                (
                    "1.0",
                    "1e3",
                    "-5",
                    "true",
                    "null",
                    "{}",
                    '["1"]',
                    "-0",
                    "0.0",
                    "31842550077981745.0",
                )
            )
        face = self._face()
        if face.isascii() and face.isdigit() and not face.startswith("0") and rng.random() < 0.3:
            return face
        return self._string(face)

    def _string(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=self._rng.random() < 0.3)

    def _value(self, depth: int) -> str:
        rng = self._rng
        if depth < 3 and rng.random() < 0.2:
            inner = [self._value(depth + 1) for _ in range(rng.randrange(4))]
            if rng.random() < 0.5:
                return f"[{','.join(inner)}]"
            return "{" + ",".join(f'"k{n}":{value}' for n, value in enumerate(inner)) + "}"
        if rng.random() < 0.5:
            return self._string(self._text())
        return rng.choice(
            (
                "1",
                "1.50",
                "-0",
                "1e400",
                "0.1E-7",
                "null",
                "true",
                "false",
                "9" * 40,
                "123456789012345678901234567890.5",
            )
        )

    # Damage.

    def _place(self, data: bytes) -> int:
        rng = self._rng
        size = len(data)
        drawn = rng.random()
        fitting = [block for block in BLOCKS if block < size]
        if fitting and drawn < 0.6:
            block = rng.choice(fitting)
            return min(
                size, max(0, block * rng.randrange(1, size // block + 1) + rng.randrange(-4, 5))
            )
        if drawn < 0.1:
            return rng.randrange(min(size, 60) + 1)
        if drawn < 0.25:
            return size - rng.randrange(min(size, 60) + 1)
        return rng.randrange(size + 1)

    def _damaged(self, data: bytes) -> bytes:
        rng = self._rng
        at = self._place(data)
        self._story.append(f"at {at}")
        what = rng.choice(tuple(_DAMAGE))
        self._story.append(what)
        return _DAMAGE[what](rng, data, at)

    def _compressed(self, data: bytes, extension: str) -> bytes:
        compress = COMPRESS[extension]
        self._story.append(extension)
        if self._rng.random() < 0.2:
            cuts = sorted(
                self._rng.randrange(len(data) + 1) for _ in range(self._rng.randrange(1, 4))
            )
            parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            self._story.append(f"{len(parts)} members")
            return b"".join(map(compress, parts))
        return compress(data)

    def _damaged_archive(self, data: bytes) -> bytes:
        rng = self._rng
        at = self._place(data)
        drawn = rng.randrange(5)
        self._story.append(f"archive damaged ({drawn}) at {at}")
        if drawn == 0:
            return data[:at]
        if drawn == 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        if drawn == 2:
            return data + rng.choice((b"x", b"\0\0\0\0", b"p,1\n", gzip.compress(b"p,1\n")))
        if drawn == 3:
            return data[:at] + data[at + 1 :]
        return data[:at] + bytes([rng.randrange(256)]) + data[at:]

    def _another_file(self, data: bytes) -> bytes:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("jobs.csv", data[:1000])
        drawn = self._rng.choice(
            (
                gzip.compress(data[:1000]),
                bz2.compress(data[:1000]),
                lzma.compress(data[:1000]),
                zstandard.compress(data[:1000]),
                archive.getvalue(),
                b"PAR1\x15\x04" + data[:1000],
                b"%PDF-1.7\n" + data[:1000],
                b"\n<!DOCTYPE html><html>",
                b"<?xml version='1.0'?>",
            )
        )
        self._story.append("another file's content")
        return drawn


def _uniform(kind: str, number: int) -> str:
    """A cell or value like those of the other rows."""
    match kind:
        case "person":
            return f"person-{number:07}"
        case "face" | "faces":
            return str(10**15 + number * 7919)
        case "due":
            return f"2026-11-{number % 30 + 1:02}"
        case _:
            return f"é{number % 10}" if number % 7 else ""


def _inserted(what: bytes) -> Callable[[random.Random, bytes, int], bytes]:
    return lambda _, data, at: data[:at] + what + data[at:]


def _line_around(data: bytes, at: int) -> tuple[int, int]:
    end = data.find(b"\n", at)
    return data.rfind(b"\n", 0, at) + 1, len(data) if end < 0 else end + 1


def _swapped(rng: random.Random, data: bytes, at: int) -> bytes:
    start, end = _line_around(data, at)
    _, after = _line_around(data, min(end, len(data)))
    return data[:start] + data[end:after] + data[start:end] + data[after:]


def _doubled(rng: random.Random, data: bytes, at: int) -> bytes:
    start, end = _line_around(data, at)
    return data[:end] + data[start:end] + data[end:]


def _dropped(rng: random.Random, data: bytes, at: int) -> bytes:
    start, end = _line_around(data, at)
    return data[:start] + data[end:]


def _drawn(rng: random.Random) -> bytes:
    return bytes([rng.choice((rng.randrange(256), rng.choice(b'",;\t\r\n {}[]:\\\0')))])


_DAMAGE: dict[str, Callable[[random.Random, bytes, int], bytes]] = {
    "bit flipped": lambda rng, data, at: data[:at] + bytes(b ^ (1 << rng.randrange(8)) for b in data[at : at + 1]) + data[at + 1 :],
    "byte changed": lambda rng, data, at: data[:at] + _drawn(rng) + data[at + 1 :],
    "byte inserted": lambda rng, data, at: data[:at] + _drawn(rng) + data[at:],
    "byte deleted": lambda rng, data, at: data[:at] + data[at + 1 :],
    "cut": lambda rng, data, at: data[:at],
    "bytes lost": lambda rng, data, at: data[:at] + data[at + rng.randrange(1, 5000) :],
    "lines swapped": _swapped,
    "line doubled": _doubled,
    "line dropped": _dropped,
    "quote": _inserted(b'"'),
    "two quotes": _inserted(b'""'),
    "comma": _inserted(b","),
    "carriage return": _inserted(b"\r"),
    "line feed": _inserted(b"\n"),
    "NUL": _inserted(b"\0"),
    "byte order mark": _inserted(b"\xef\xbb\xbf"),
    "not UTF-8": lambda rng, data, at: data[:at] + rng.choice(BAD_UTF8) + data[at:],
    "UTF-16": lambda rng, data, at: data.decode(errors="replace").encode(rng.choice(("utf-16", "utf-16-le", "utf-16-be"))),
    "long cell": lambda rng, data, at: data[:at] + b"9" * rng.choice((40, 300, 5000)) + data[at:],
    "deep nesting": lambda rng, data, at: data[:at] + b"[" * 100_000 + data[at:],
    "line feeds lost": lambda rng, data, at: data[:at] + data[at:].replace(b"\n", b"\r"),
    "a byte order mark more": lambda rng, data, at: b"\xef\xbb\xbf" + data,
    "quotes lost": lambda rng, data, at: data[:at] + data[at:].replace(b'"', b"", 1),
    "an open cell": lambda rng, data, at: data.replace(b"\n", b'\n"', 1) if at % 2 else data[: data.rfind(b"\n") + 1] + b'"' + data[data.rfind(b"\n") + 1 :],
}  # fmt: skip
