"""The table of bad input, row by row: what refuses the file, what refuses one row, and why."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import zstandard

from worker.errors import InputRefused
from worker.model import RESULT_COLUMNS
from worker.sources.jsonvalues import MAX_DEPTH

HEAD = b"person_id,face_id\n"
WHOLE = {"whole_persons": True}


def _xlsx() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return data.getvalue()


def _zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("jobs.csv", "person_id,face_id\np,1\n")
    return data.getvalue()


class FileCase(NamedTuple):
    data: bytes
    place: str
    cause: str
    remedy: str
    name: str = "jobs.csv"
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)


REFUSED_FILES = {
    "empty file": FileCase(b"", "jobs.csv:", "it is empty", "check the program that wrote it"),
    "empty jsonl": FileCase(b"", "jobs.jsonl:", "it is empty", "leave the source out", "jobs.jsonl"),
    "header only": FileCase(HEAD, "jobs.csv:", "it holds no jobs", "leave the source out"),
    "byte order mark only": FileCase(b"\xef\xbb\xbf", "jobs.csv:", "it holds no jobs", "leave"),
    "blank lines only": FileCase(b"\n\r\n,,\n", "jobs.csv:", "it holds no jobs", "leave"),
    "header and blank lines": FileCase(HEAD + b"\n,\n", "jobs.csv:", "it holds no jobs", "leave"),
    "blank jsonl": FileCase(b"\n \n", "jobs.jsonl:", "it holds no jobs", "leave", "jobs.jsonl"),
    "empty array": FileCase(b" [ ]\n", "jobs.json:", "it holds no jobs", "leave", "jobs.json"),
    "UTF-16 with mark": FileCase(
        HEAD.decode().encode("utf-16"), "jobs.csv:", "the content is UTF-16 text (the mark of it is at byte offset 0)", "iconv -f UTF-16"
    ),
    "UTF-16 without mark": FileCase(
        HEAD.decode().encode("utf-16-le"), "jobs.csv:1:", "a NUL at byte offset 1", "UTF-8"
    ),
    "Latin-1": FileCase(
        HEAD + b"Jos\xe9,1\n", "jobs.csv:2:", "byte 0xE9 at byte offset 21 is not UTF-8", "iconv -f WINDOWS-1252"
    ),
    "Latin-1 after a mark": FileCase(
        b"\xef\xbb\xbf" + HEAD + b"p,1\nJos\xe9,1\n", "jobs.csv:3:", "byte offset 28", "UTF-8"
    ),
    "Latin-1 in jsonl": FileCase(
        b'{"personId":"p","faceId":"1","n":"\xe9"}\n', "jobs.jsonl:1:", "byte offset 34", "UTF-8", "jobs.jsonl"
    ),
    "Latin-1 in an array": FileCase(
        b'[{"personId":"p",\n"faceId":"1","n":"\xe9"}]', "jobs.json:2:", "byte offset 36", "UTF-8", "jobs.json"
    ),
    "overlong UTF-8": FileCase(HEAD + b"p,\xc0\xb1\n", "jobs.csv:2:", "byte 0xC0 at byte offset 20", "UTF-8"),
    "surrogates in UTF-8": FileCase(HEAD + b"\xed\xa0\x80,1\n", "jobs.csv:2:", "byte offset 18", "UTF-8"),
    "cut UTF-8": FileCase(HEAD + b"p,1\xe2\x82", "jobs.csv:2:", "byte offset 21", "copy the file again"),
    "cut UTF-8 in an array": FileCase(b'["\xe2\x82', "jobs.json:1:", "byte offset 2", "UTF-8", "jobs.json"),
    "raw NUL": FileCase(HEAD + b"p,1\np\0,2\n", "jobs.csv:3:", "a NUL at byte offset 23", "export it as UTF-8"),
    "raw NUL in an array": FileCase(b'\n["\0"]', "jobs.json:2:", "byte offset 3", "UTF-8", "jobs.json"),
    "two byte order marks": FileCase(
        b"\xef\xbb\xbf" * 2 + HEAD + b"p,1\n", "jobs.csv:1:", "begins with two byte order marks", "with one byte order mark or none"
    ),
    "two byte order marks before another name": FileCase(
        b"\xef\xbb\xbf" * 2 + b"note,person_id,face_id\nn,p,1\n", "jobs.csv:1:", "begins with two byte order marks", "with one byte order mark or none"
    ),
    "lone CR": FileCase(b"person_id,face_id\rp,1\r", "jobs.csv:1:", "a carriage return stands alone", "tr '"),
    "lone CR in a plain row": FileCase(HEAD + b"p,1\np\r,2\n", "jobs.csv:3:", "carriage return", "LF or CRLF"),
    "lone CR beside quotes": FileCase(HEAD + b'"p",1\n"p"\r,2\n', "jobs.csv:3:", "carriage return", "LF or CRLF"),
    "lone CR at the end": FileCase(HEAD + b"p,1\np,2\r", "jobs.csv:3:", "carriage return", "LF or CRLF"),
    "lone CR at the end of quotes": FileCase(HEAD + b'p,"1"\r', "jobs.csv:2:", "carriage return", "LF or CRLF"),
    "lone CR at the end of an open quote": FileCase(HEAD + b'p,"1\r', "jobs.csv:2:", "never closed", "close the quote"),
    "lone CR at the end of the header": FileCase(b"person_id,face_id\r", "jobs.csv:1:", "carriage return", "LF or CRLF"),
    "doubled CR": FileCase(HEAD + b"p,1\r\r\n", "jobs.csv:2:", "carriage return", "LF or CRLF"),
    "lone CR in jsonl": FileCase(
        b'{"personId":"p","faceId":"1"}\r{"personId":"p","faceId":"2"}\n',
        "jobs.jsonl:1:",
        "carriage return",
        "LF or CRLF",
        "jobs.jsonl",
    ),
    "lone CR in an array": FileCase(b"[\n\r1]", "jobs.json:2:", "carriage return", "LF", "jobs.json"),
    "lone CR ends an array": FileCase(b"[1]\r", "jobs.json:1:", "carriage return", "LF", "jobs.json"),
    "unterminated quote": FileCase(
        HEAD + b'p,1\np,"2\np,3\n', "jobs.csv:3:", "a quote opened in the row that begins here is never closed", "double it"
    ),
    "unterminated quote in the header": FileCase(b'person_id,"face_id\np,1\n', "jobs.csv:1:", "never closed", "close"),
    "quote swallowing rows up to a quoted ID": FileCase(
        HEAD + b'p,"1\np,2\np,"3"\n', "jobs.csv:4:", "text follows a closing quote", "double the quotes"
    ),
    "quote swallowing rows up to a quoted note": FileCase(
        b'person_id,face_id,note\np,1,"open\np,2,x\np,3,"shut"\n', "jobs.csv:4:", "text follows", "double"
    ),
    "two open quotes swallowing a row": FileCase(
        b'person_id,face_id,note\np,1,"open\np,2,x\np,3,"\n', "jobs.csv:2:", "lines that look like rows", "close the quote"
    ),
    "two open quotes swallowing half a row": FileCase(
        b'person_id,face_id,note\np,1,"open\np,3,"\n', "jobs.csv:2:", "lines that look like rows", "close the quote"
    ),
    "stray quote": FileCase(HEAD + b'p,1"2\n', "jobs.csv:2:", "a quote stands in the middle of a cell", "double the quotes"),
    "stray quote at the end": FileCase(HEAD + b'p,"1"\np,12"\n', "jobs.csv:3:", "middle of a cell", "double the quotes"),
    "space before a quote": FileCase(HEAD + b'p, "1"\n', "jobs.csv:2:", "middle of a cell", "double the quotes"),
    "text after a quote": FileCase(HEAD + b'p,"1"2\n', "jobs.csv:2:", "text follows a closing quote", "double the quotes"),
    "short row": FileCase(HEAD + b"p,1\np\n", "jobs.csv:3:", "too short: it has 1 cell, and the header on line 1 has 2", "complete the row"),
    "short quoted row": FileCase(HEAD + b'p,1\n"p"\n', "jobs.csv:3:", "too short", "complete the row"),
    "long row": FileCase(HEAD + b"p,1\n\np,1,2\n", "jobs.csv:4:", "too long: it has 3 cells", "in quotes"),
    "long quoted row": FileCase(HEAD + b'"p",1,""\n', "jobs.csv:2:", "too long: it has 3 cells", "in quotes"),
    "no header": FileCase(
        b"person1,31842550077981745\n", "jobs.csv:1:", "the header row is missing", '"person_id,face_id"'
    ),
    "unknown header": FileCase(b"uid,img\np,1\n", "jobs.csv:1:", 'found "uid", "img"', "--columns person=uid,face=img"),
    "missing face column": FileCase(
        b"person_id,note\np,1\n", "jobs.csv:1:", "no column face_id, faceId, face_ids or faceIds", "--columns face=NAME; only if everything of each person is to be deleted, add --whole-persons"
    ),
    "missing person column": FileCase(b"face_id,user\n1,p\n", "jobs.csv:1:", "no column person_id or personId", "--columns person=user"),
    "other letter case": FileCase(b"PERSON_ID,Face Id\np,1\n", "jobs.csv:1:", "found", "--columns 'person=PERSON_ID,face=Face Id'"),
    "; as delimiter": FileCase(b"person_id;face_id\np;1\n", "jobs.csv:1:", 'separated by ";"', "add --delimiter ';'"),
    "; as delimiter, unknown names": FileCase(
        b"uid;img\np;1\n", "jobs.csv:1:", 'separated by ";"', "add --delimiter ';' --columns person=uid,face=img"
    ),
    "spreadsheet's hint": FileCase(b"sep=;\nperson_id;face_id\np;1\n", "jobs.csv:1:", "a spreadsheet's hint", "delete that line"),
    "comma in a tsv": FileCase(b"person_id,face_id\np,1\n", "jobs.tsv:1:", 'separated by ","', "--delimiter ,", "jobs.tsv"),
    "tab in a csv": FileCase(b"person_id\tface_id\np\t1\n", "jobs.csv:1:", r'separated by "\t"', "--format tsv"),
    "repeated header name": FileCase(
        b"person_id,face_id,note,note\np,1,,\n", "jobs.csv:1:", 'names "note" more than once', "its own name"
    ),
    "unnamed columns": FileCase(b"person_id,face_id,,\np,1,,\n", "jobs.csv:1:", "2 columns of the header have no name", "delete"),
    "two face columns": FileCase(
        b"person_id,face_id,face_ids\np,1,2\n", "jobs.csv:1:", '"face_id" and "face_ids"', "--columns face=face_id"
    ),
    "unknown mapped column": FileCase(
        b"uid,face_id\np,1\n",
        "jobs.csv:1:",
        'no column is named "uidd"',
        "--columns person=uid",
        options={"columns": {"person": "uidd"}},
    ),
    "unknown header beside mapped columns": FileCase(
        b"uid,ticket,img\np,t,1\n",
        "jobs.csv:1:",
        'found "uid", "ticket", "img"',
        "--columns person=uid,face=img,job=ticket",
        options={"columns": {"person": "uid", "job": "ticket"}},
    ),
    "misspelt header": FileCase(b"persn_id,faceid\np,1\n", "jobs.csv:1:", "found", "--columns person=persn_id,face=faceid"),
    "long header name": FileCase(HEAD.strip() + b"," + b"c" * 1001 + b"\np,1,\n", "jobs.csv:1:", "more than 1000 characters", "what its name says"),
    "long line": FileCase(
        HEAD + b"p,1\n" + b"p" * 2000 + b",1\n", "jobs.csv:3:", "longer than 1000 bytes", "raise max_line_bytes", options={"max_line_bytes": 1000}
    ),
    "long last line": FileCase(HEAD + b"p" * 2000, "jobs.csv:2:", "longer than 1000 bytes", "max_line_bytes", options={"max_line_bytes": 1000}),
    "long quoted record": FileCase(
        HEAD + b'p,"' + b"1\n" * 1000, "jobs.csv:2:", "not closed within 1000 bytes", "max_line_bytes", options={"max_line_bytes": 1000}
    ),
    "long element": FileCase(
        b'[\n{"personId":"' + b"p" * 2000 + b'"}]', "jobs.json:2:", "longer than 1000 bytes", "max_line_bytes", "jobs.json", {"max_line_bytes": 1000}
    ),
    "gzip named csv": FileCase(gzip.compress(HEAD), "jobs.csv:", "a gzip file", "jobs.csv.gz"),
    "bzip2 named csv": FileCase(bz2.compress(HEAD), "jobs.csv:", "a bzip2 file", "bzcat"),
    "xz named jsonl": FileCase(lzma.compress(HEAD), "jobs.jsonl:", "an xz file", "jobs.jsonl.xz", "jobs.jsonl"),
    "zstd named csv": FileCase(zstandard.compress(HEAD), "jobs.csv:", "a zstd file", "zstdcat"),
    "zip named csv": FileCase(_zip(), "jobs.csv:", "a zip archive", "export it as CSV"),
    "xlsx named csv": FileCase(_xlsx(), "jobs.csv:", "an Excel workbook", "export it as CSV"),
    "parquet named csv": FileCase(b"PAR1\x15\x04\x15", "jobs.csv:", "a Parquet file", "--format parquet"),
    "PDF named csv": FileCase(b"%PDF-1.7\n%\xe2\xe3", "jobs.csv:", "a PDF document", "CSV"),
    "web page named csv": FileCase(b"\n<!DOCTYPE html><html>", "jobs.csv:", "an HTML or XML page", "CSV"),
    "gzip in gzip": FileCase(gzip.compress(gzip.compress(HEAD)), "jobs.csv.gz:", "a gzip file", "unpack", "jobs.csv.gz"),
    "plain named gz": FileCase(HEAD, "jobs.csv.gz:", "its name says gzip, and the content is no compressed data", "extension", "jobs.csv.gz"),
    "zip named gz": FileCase(_zip(), "jobs.csv.gz:", "the content is a zip archive", "extension", "jobs.csv.gz"),
    "broken jsonl": FileCase(
        b'{"personId":"p","faceId":"1"}\n{"personId":"p",}\n', "jobs.jsonl:2:", "the line is not JSON", "one complete JSON object per line", "jobs.jsonl"
    ),
    "cut jsonl": FileCase(b'{"personId":"p","faceId":"1"}\n{"perso', "jobs.jsonl:2:", "the line is not JSON", "one complete", "jobs.jsonl"),
    "two objects on a line": FileCase(b'{"a":1}{"b":2}\n', "jobs.jsonl:1:", "Extra data, at character 8", "per line", "jobs.jsonl"),
    "array named jsonl": FileCase(b'[\n{"personId":"p"}\n]\n', "jobs.jsonl:1:", "the line is not JSON", "--format json", "jobs.jsonl"),
    "jsonl named json": FileCase(b'{"personId":"p","faceId":"1"}\n', "jobs.json:1:", "not a JSON array", "--format jsonl", "jobs.json"),
    "cut array": FileCase(b'[{"personId":"p","faceId":"1"}', "jobs.json:1:", "ends in the middle of the array", "export the file again", "jobs.json"),
    "cut array in an element": FileCase(b'[{"personId":"p","fac', "jobs.json:1:", "ends in the middle", "again", "jobs.json"),
    "comma before the bracket": FileCase(b'[{"personId":"p","faceId":"1"},\n] ' + b" " * 20, "jobs.json:2:", "Expecting value", "have a program", "jobs.json"),
    "text after the array": FileCase(b"[]\n\nx" + b" " * 20, "jobs.json:3:", "Extra data after the closing bracket", "program", "jobs.json"),
    "no comma in the array": FileCase(b"[{}\n{}" + b" " * 20 + b"]", "jobs.json:2:", "Expecting ',' or ']'", "program", "jobs.json"),
    "100 000 levels in an array": FileCase(b"[" * 100_000 + b"]" * 100_000, "jobs.json:1:", "nested too deeply", "check", "jobs.json"),
    "whole persons: a face column": FileCase(
        HEAD + b"p,1\n", "jobs.csv:1:", 'the header has "face_id", and --whole-persons asks for everything', "leave out --whole-persons", options=WHOLE
    ),
    "whole persons: an empty face column": FileCase(
        HEAD + b"p,\n", "jobs.csv:1:", 'the header has "face_id", and --whole-persons asks for everything', "or delete the column", options=WHOLE
    ),
    "whole persons: two face columns": FileCase(
        b"person_id,face_id,faceIds\np,1,2\n", "jobs.csv:1:", '"face_id" and "faceIds", and --whole-persons', "leave out", options=WHOLE
    ),
    "whole persons: a mapped face column": FileCase(
        b"person_id,Bild\np,1\n", "jobs.csv:1:", 'the header has "Bild", and --whole-persons', "leave out", options=WHOLE | {"columns": {"face": "Bild"}}
    ),
    "whole persons: a missing mapped face column": FileCase(
        b"person_id,note\np,1\n", "jobs.csv:1:", 'no column is named "Bild"', "--columns", options=WHOLE | {"columns": {"face": "Bild"}}
    ),
    **{
        f"whole persons: {name}": FileCase(
            f"person_id,{name}\np,1\n".encode(),
            "jobs.csv:1:",
            f'the column "{name}" may name faces, and --whole-persons asks for everything',
            "in the place of --whole-persons; if it does not, rename or delete the column",
            options=WHOLE,
        )
        for name in ("faces", "FACE_ID", "Face Id", "faceID", "faceids", "img", "imageId", "photos", "expired_face", "fid", "face-list")
    },
    "whole persons: a report of ours": FileCase(
        f"{','.join(RESULT_COLUMNS)}\n".encode(), "jobs.csv:1:", 'the header has "face_id"', "leave out --whole-persons", options=WHOLE
    ),
    "whole persons: no person column": FileCase(
        b"customer,note\np,\n", "jobs.csv:1:", 'no column person_id or personId for the person IDs; found "customer", "note"', "add --columns person=customer", options=WHOLE
    ),
    "whole persons: a missing mapped person column": FileCase(
        b"customer,note\np,\n", "jobs.csv:1:", 'no column is named "custmer"', "--columns person=customer", options=WHOLE | {"columns": {"person": "custmer"}}
    ),
    "whole persons: no header": FileCase(
        b"ann\nben\n", "jobs.csv:1:", "1 cell that may be an ID: this looks like data", 'such as "person_id" above it', options=WHOLE
    ),
    "whole persons: another delimiter": FileCase(
        b"person_id;note\np;\n", "jobs.csv:1:", 'separated by ";"', "add --delimiter ';'", options=WHOLE
    ),
    "whole persons: another delimiter, unknown names": FileCase(
        b"customer;note\np;\n", "jobs.csv:1:", 'separated by ";"', "add --delimiter ';' --columns person=customer", options=WHOLE
    ),
    "whole persons: open quote": FileCase(b'person_id,note\np,"\nq,\n', "jobs.csv:2:", "never closed", "close", options=WHOLE),
    "whole persons: two open quotes swallowing a row": FileCase(
        b'person_id,note\np,"open\nq,x\nr,"\n', "jobs.csv:2:", "lines that look like rows", "close the quote", options=WHOLE
    ),
    "whole persons: long row": FileCase(b"person_id\np,1\n", "jobs.csv:2:", "too long: it has 2 cells", "in quotes", options=WHOLE),
    "whole persons: header only": FileCase(b"person_id\n\n", "jobs.csv:", "it holds no jobs", "leave", options=WHOLE),
    "too many carried columns": FileCase(
        HEAD.strip() + b"".join(b",c%d" % n for n in range(2001)) + b"\n", "jobs.csv:1:", "more than 2000 distinct names", "leave out"
    ),
    "too many carried keys": FileCase(
        b"".join(b'{"personId":"p","faceId":"1","k%d":0}\n' % n for n in range(2001)), "jobs.jsonl:2001:", "more than 2000 distinct names", "one key", "jobs.jsonl"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_FILES.values(), ids=REFUSED_FILES.keys())
def test_a_doubtful_file_is_refused_with_place_cause_and_remedy(
    refuse: Callable[..., InputRefused], case: FileCase
) -> None:
    refusal = refuse(case.data, case.name, **case.options)
    assert refusal.cause.startswith(case.place)
    assert case.cause in refusal.cause
    assert case.remedy in refusal.remedy
    assert refusal.exit_code == 2


def test_a_missing_header_is_refused_without_printing_the_ids(
    refuse: Callable[..., InputRefused],
) -> None:
    refusal = refuse(b"person1,31842550077981745\n")
    assert "31842550077981745" not in refusal.cause + refusal.remedy
    assert "person1" not in refusal.cause + refusal.remedy


@pytest.mark.parametrize("person", ["cust-118204", "user7", "ann", "b4c9", "personA1", "Kunde"])
@pytest.mark.parametrize("columns", [{}, {"person": "uid"}])
def test_a_list_of_persons_without_a_header_does_not_print_them(
    refuse: Callable[..., InputRefused], person: str, columns: dict[str, str]
) -> None:
    refusal = refuse(f"{person}\nother\n".encode(), columns=columns, whole_persons=True)
    assert person not in refusal.cause + refusal.remedy
    refusal = refuse(b"cust-118204\nother\n", columns=columns)
    assert "118204" not in refusal.cause + refusal.remedy


def test_whole_persons_is_not_offered_where_a_column_may_hold_the_faces(
    refuse: Callable[..., InputRefused],
) -> None:
    assert "--whole-persons" not in refuse(b"person_id,faces\np,1\n").remedy
    assert "--whole-persons" not in refuse(b"person_id,Image ID\np,1\n").remedy
    assert "--whole-persons" not in refuse(b"uid,face_id\np,1\n").remedy


REFUSED_FACES = {
    "NUL": ("1\0", "face ID holds a NUL character"),
    "control character": ("1\x1b", "face ID holds a control character such as a tab or a line break"),
    "tab": ("1\t", "face ID holds a control character such as a tab or a line break"),
    "line break": ("1\n2", "face ID holds a control character such as a tab or a line break"),
    "zero width space": ("1\u200b", "face ID holds an invisible format character (zero width, direction or byte order mark)"),
    "byte order mark": ("\ufeff1", "face ID holds an invisible format character (zero width, direction or byte order mark)"),
    "right-to-left mark": ("\u200f1", "face ID holds an invisible format character (zero width, direction or byte order mark)"),
    "line separator": ("1\u2028", "face ID holds a non-breaking or other special space"),
    "non-breaking space": ("1\u00a0", "face ID holds a non-breaking or other special space"),
    "empty": ("", "face ID is empty"),
    "space before": (" 1", "face ID has spaces around it; IDs are never trimmed: remove them from the input"),
    "space behind": ("1 ", "face ID has spaces around it; IDs are never trimmed: remove them from the input"),
    "space inside": ("1 2", "face ID holds a space"),
    "exponent": ("1.24445E+12", "face ID has an exponent; a spreadsheet has rounded it: export the column as text"),
    "comma exponent": ("1,24445E+12", "face ID has an exponent; a spreadsheet has rounded it: export the column as text"),
    "decimal point": ("31842550077981745.0", "face ID has a decimal point; a spreadsheet may have rounded it: export the column as text"),
    "plus sign": ("+123", "face ID has a plus sign, as a spreadsheet's number format writes it: export the column as text"),
    "thousands": ("1,234", "face ID has digit separators, as a spreadsheet's number format writes it: export the column as text"),
    "apostrophe": ("'123", "face ID has a spreadsheet's mark for text around it: export the bare text"),
    "minus sign": ("-5", "face ID has a minus sign; it may have become a number that overflowed"),
    "Arabic digits": ("١٢٣", "face ID holds digits that are not the ASCII digits 0 to 9"),
    "full-width digits": ("１２３", "face ID holds digits that are not the ASCII digits 0 to 9"),
    "superscript": ("1²", "face ID holds digits that are not the ASCII digits 0 to 9"),
    "too long": ("1" * 33, "face ID is longer than 32 characters"),
    "letters": ("12ab", "face ID holds characters other than the digits 0 to 9"),
    "several in one cell": ("1;2", "face ID is several IDs separated by ';', which belong into a column named face_ids"),
    **{
        word: (word, "face ID is a word; no word ever means all faces or no face")
        for word in ("ALL", "all", "*", "null", "None", "NaN", "nan")
    },
}  # fmt: skip

REFUSED_PERSONS = {
    "empty": ("", "person ID is empty"),
    "spaces": (" p", "person ID has spaces around it; IDs are never trimmed: remove them from the input"),
    "non-breaking space": ("p\u00a0", "person ID holds a non-breaking or other special space"),
    "control character": ("p\x07", "person ID holds a control character such as a tab or a line break"),
    "NUL": ("p\0", "person ID holds a NUL character"),
    "too long": ("p" * 33, "person ID is longer than 32 characters"),
    "dot": ("a.b", "person ID holds characters other than A-Z, a-z, 0-9, _ and -"),
    "full-width digits": ("p１", "person ID holds digits that are not the ASCII digits 0 to 9"),
    "accent": ("José", "person ID holds characters other than A-Z, a-z, 0-9, _ and -"),
}  # fmt: skip


def _csv(person: str, face: str) -> bytes:
    cells = ['"' + cell.replace('"', '""') + '"' for cell in (person, face)]
    return f"person_id,face_id\ngood,1\n{','.join(cells)}\ngood,2\n".encode()


def _jsonl(person: str, face: str) -> bytes:
    import json

    records = [("good", "1"), (person, face), ("good", "2")]
    return "".join(json.dumps({"person_id": p, "face_id": f}) + "\n" for p, f in records).encode()


def _written(cases: dict[str, tuple[str, str]]) -> list[Any]:
    """Each case in both formats; a raw NUL would make the whole CSV file binary."""
    return [
        pytest.param(written, text, reason, id=f"{name}-{written.__name__}")
        for name, (text, reason) in cases.items()
        for written in (_csv, _jsonl)
        if written is _jsonl or "\0" not in text
    ]


@pytest.mark.parametrize(("written", "face", "reason"), _written(REFUSED_FACES))
def test_a_bad_face_refuses_only_itself(read: Any, written: Any, face: str, reason: str) -> None:
    entries = read(written("p", face), "jobs.csv" if written is _csv else "jobs.jsonl").entries
    assert [e.reason for e in entries] == ["", reason, ""]
    bad = entries[1]
    assert (bad.record, bad.person_id, bad.column) == (1, "p", "face_id")
    assert bad.face_id == (face if face.isprintable() else "")
    assert entries[2][:5] == (
        2,
        bad.line + 1 + (written is _csv) * face.count("\n"),
        "",
        "good",
        "2",
    )


@pytest.mark.parametrize(("written", "person", "reason"), _written(REFUSED_PERSONS))
def test_a_bad_person_refuses_its_record(read: Any, written: Any, person: str, reason: str) -> None:
    entries = read(written(person, "7"), "jobs.csv" if written is _csv else "jobs.jsonl").entries
    assert [e.reason for e in entries] == ["", reason, ""]
    shown = person if person.isprintable() else ""
    assert entries[1][3:7] == (shown, "", reason, "person_id")


@pytest.mark.parametrize(
    ("person", "reason"),
    [case for case in REFUSED_PERSONS.values() if "\0" not in case[0]],
    ids=[name for name, case in REFUSED_PERSONS.items() if "\0" not in case[0]],
)
def test_a_bad_person_refuses_its_row_in_a_list_of_persons(
    read: Any, person: str, reason: str
) -> None:
    data = f'person_id,note\ngood,\n"{person}",x\ngood,\n'.encode()
    entries = read(data, whole_persons=True).entries
    assert [(e.reason, e.whole) for e in entries] == [("", True), (reason, False), ("", True)]
    shown = person if person.isprintable() else ""
    assert entries[1][3:7] == (shown, "", reason, "person_id")


_NO_FACES = (
    "no key face_id, faceId, face_ids or faceIds, and none never means all faces; name another key "
    'with --columns face=KEY, or ask for everything of the person with "faces": "all"'
)
_NOT_ALL = (
    'it must be exactly "all", which asks for everything of the person, and face IDs belong under '
    "faceIds"
)
_EITHER = 'keep the face IDs, or "faces": "all" for everything of the person'

REFUSED_JSON = {
    "float as face": ('{"personId":"p","faceIds":[31842550077981745.0]}', "face ID is a JSON number with a fraction or an exponent, so a program has rounded it: write it as a text in quotes", "faceIds"),
    "exponent as face": ('{"personId":"p","faceId":1e3}', "face ID is a JSON number with a fraction or an exponent, so a program has rounded it: write it as a text in quotes", "faceId"),
    "negative as face": ('{"personId":"p","faceId":-5}', "face ID has a minus sign; it may have become a number that overflowed", "faceId"),
    "boolean as face": ('{"personId":"p","faceIds":[true]}', "face ID is true or false; it must be a text in quotes", "faceIds"),
    "null as face": ('{"personId":"p","faceIds":[null]}', "face ID is null; it must be a text in quotes", "faceIds"),
    "object as face": ('{"personId":"p","faceIds":[{}]}', "face ID is an object; it must be a text in quotes", "faceIds"),
    "list as face": ('{"personId":"p","faceIds":[["1"]]}', "face ID is a list; it must be a text in quotes", "faceIds"),
    "text for a list": ('{"personId":"p","faceIds":"1"}', "faceIds is a text; it must be a list of face IDs", "faceIds"),
    "null for a list": ('{"personId":"p","faceIds":null}', "faceIds is null; it must be a list of face IDs", "faceIds"),
    "list for one face": ('{"personId":"p","faceId":["1"]}', "faceId is a list; a list of face IDs belongs under faceIds", "faceId"),
    "empty list": ('{"personId":"p","faceIds":[]}', "the list of face IDs is empty, which never means all faces", "faceIds"),
    "no faces": ('{"personId":"p"}', _NO_FACES, "faceIds"),
    "both spellings of faces": ('{"personId":"p","faceId":"1","faceIds":["2"]}', "both faceId and faceIds are given", "faceIds"),
    "faces in capitals": ('{"personId":"p","faces":"ALL"}', f"faces is another text; {_NOT_ALL}", "faces"),
    "faces in another case": ('{"personId":"p","faces":"All"}', f"faces is another text; {_NOT_ALL}", "faces"),
    "faces with a space": ('{"personId":"p","faces":"all "}', f"faces is another text; {_NOT_ALL}", "faces"),
    "an empty text as faces": ('{"personId":"p","faces":""}', f"faces is another text; {_NOT_ALL}", "faces"),
    "a star as faces": ('{"personId":"p","faces":"*"}', f"faces is another text; {_NOT_ALL}", "faces"),
    "one face as faces": ('{"personId":"p","faces":"1"}', f"faces is another text; {_NOT_ALL}", "faces"),
    "true as faces": ('{"personId":"p","faces":true}', f"faces is true or false; {_NOT_ALL}", "faces"),
    "null as faces": ('{"personId":"p","faces":null}', f"faces is null; {_NOT_ALL}", "faces"),
    "a list as faces": ('{"personId":"p","faces":["1"]}', f"faces is a list; {_NOT_ALL}", "faces"),
    "all in a list as faces": ('{"personId":"p","faces":["all"]}', f"faces is a list; {_NOT_ALL}", "faces"),
    "an empty list as faces": ('{"personId":"p","faces":[]}', f"faces is a list; {_NOT_ALL}", "faces"),
    "an object as faces": ('{"personId":"p","faces":{}}', f"faces is an object; {_NOT_ALL}", "faces"),
    "a number as faces": ('{"personId":"p","faces":1}', f"faces is a number; {_NOT_ALL}", "faces"),
    "a fraction as faces": ('{"personId":"p","faces":1.0}', f"faces is a number; {_NOT_ALL}", "faces"),
    "all faces beside a list": ('{"personId":"p","faces":"all","faceIds":["1"]}', f"both faceIds and faces are given; {_EITHER}", "faces"),
    "all faces beside one": ('{"faceId":"1","personId":"p","faces":"all"}', f"both faceId and faces are given; {_EITHER}", "faces"),
    "all faces beside an empty list": ('{"personId":"p","face_ids":[],"faces":"all"}', f"both face_ids and faces are given; {_EITHER}", "faces"),
    "all faces beside null": ('{"personId":"p","face_id":null,"faces":"all"}', f"both face_id and faces are given; {_EITHER}", "faces"),
    "another faces beside a list": ('{"personId":"p","faces":3,"faceIds":["1"]}', f"both faceIds and faces are given; {_EITHER}", "faces"),
    "all faces beside two lists": ('{"personId":"p","faces":"all","faceIds":["1"],"face_ids":["1"]}', f"both faceIds and face_ids and faces are given; {_EITHER}", "faces"),
    "all faces of nobody": ('{"faces":"all"}', "no key person_id or personId; name another key with --columns person=KEY", "personId"),
    "all faces of an empty person": ('{"personId":"","faces":"all"}', "person ID is empty", "personId"),
    "all faces of all": ('{"personId":"*","faces":"all"}', "person ID holds characters other than A-Z, a-z, 0-9, _ and -", "personId"),
    "all faces of a number": ('{"personId":5,"faces":"all"}', "person ID is a number; it must be a text in quotes", "personId"),
    "all faces, null as label": ('{"personId":"p","faces":"all","jobId":null}', "job ID is null; it must be a text in quotes", "jobId"),
    "all faces twice": ('{"personId":"p","faces":"all","faces":"all"}', "the record has a repeated key", ""),
    "Faces": ('{"personId":"p","Faces":"all"}', _NO_FACES, "faceIds"),
    "no person": ('{"faceIds":["1"]}', "no key person_id or personId; name another key with --columns person=KEY", "personId"),
    "integer as person": ('{"personId":5,"faceIds":["1"]}', "person ID is a number; it must be a text in quotes", "personId"),
    "null as person": ('{"personId":null,"faceIds":["1"]}', "person ID is null; it must be a text in quotes", "personId"),
    "object as person": ('{"personId":{"a":1},"faceIds":["1"]}', "person ID is an object; it must be a text in quotes", "personId"),
    "null as label": ('{"personId":"p","faceIds":["1"],"jobId":null}', "job ID is null; it must be a text in quotes", "jobId"),
    "float as label": ('{"personId":"p","faceIds":["1"],"jobId":1.5}', "job ID is a number; it must be a text in quotes", "jobId"),
    "half a pair in the label": ('{"personId":"p","faceIds":["1"],"jobId":"\\ud800"}', "the record holds half of a surrogate pair (\\ud800 to \\udfff), which is no character", "jobId"),
    "half a pair in a face": ('{"personId":"p","faceIds":["\\ud800"]}', "face ID holds half of a surrogate pair, which is no character", "faceIds"),
    "half a pair in a person": ('{"personId":"\\udc00","faceIds":["1"]}', "person ID holds half of a surrogate pair, which is no character", "personId"),
    "half a pair in a value": ('{"personId":"p","faceIds":["1"],"n":["\\ud800"]}', "the record holds half of a surrogate pair (\\ud800 to \\udfff), which is no character", ""),
    "half a pair in a key": ('{"personId":"p","faceIds":["1"],"\\ud800":1}', "the record holds half of a surrogate pair (\\ud800 to \\udfff), which is no character", ""),
    "NUL escape": ('{"personId":"p","faceIds":["1\\u0000"]}', "face ID holds a NUL character", "faceIds"),
    "duplicate keys": ('{"personId":"p","personId":"q","faceIds":["1"]}', "the record has a repeated key", ""),
    "duplicate other keys": ('{"personId":"p","faceIds":["1"],"n":1,"n":2}', "the record has a repeated key", ""),
    "duplicate inner keys": ('{"personId":"p","faceIds":["1"],"n":{"a":1,"a":2}}', "the record holds an object with a repeated key", ""),
    "NaN": ('{"personId":"p","faceIds":["1"],"n":NaN}', "the record holds NaN or Infinity, which JSON does not have", ""),
    "NaN as face": ('{"personId":"p","faceIds":[NaN]}', "the record holds NaN or Infinity, which JSON does not have", ""),
    "Infinity": ('{"personId":"p","faceIds":["1"],"n":[-Infinity]}', "the record holds NaN or Infinity, which JSON does not have", ""),
    "no object": ('["p","1"]', "the record is not a JSON object", ""),
    "number": ("12", "the record is not a JSON object", ""),
    "too deep": ('{"personId":"p","faceIds":["1"],"n":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "the record is nested deeper than 100 levels", ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "reason", "column"), REFUSED_JSON.values(), ids=REFUSED_JSON.keys()
)
@pytest.mark.parametrize("options", [{}, WHOLE], ids=["", "whole persons"])
@pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.json"])
def test_a_json_record_of_the_wrong_shape_refuses_only_itself(
    read: Any, *, name: str, options: dict[str, Any], record: str, reason: str, column: str
) -> None:
    good = '{"personId":"q","faceIds":["9"]}'
    text = f"{record}\n{good}\n" if name == "jobs.jsonl" else f"[{record},\n{good}]"
    bad, after = read(text.encode(), name, **options).entries
    assert (bad.reason, bad.column, bad.record, bad.line) == (reason, column, 0, 1)
    assert not bad.whole
    assert after == (1, 2, "", "q", "9", "", "", "", False, None)


def test_100_000_levels_in_a_line_refuse_the_record(read: Any) -> None:
    deep = b'{"personId":"p","faceIds":["1"],"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    entries = read(deep + b'{"personId":"q","faceIds":["9"]}\n', "jobs.jsonl").entries
    assert [e.reason for e in entries] == ["the record is nested deeper than 100 levels", ""]


def test_reasons_never_hold_the_text_that_they_refuse(read: Any) -> None:
    reading = read(b"person_id,face_id\nsecret.person,1\np,secretface\n")
    assert not any("secret" in reason for reason in reading.reasons)


def test_an_unreadable_id_is_kept_for_the_report_only_if_short_and_printable(read: Any) -> None:
    rows = [("p" * 200, "1"), ("p" * 201, "1"), ("p", "x" * 200), ("p", "x" * 201)]
    text = "person_id,face_id\n" + "".join(f"{p},{f}\n" for p, f in rows)
    assert read(text.encode()).pairs == [("p" * 200, ""), ("", ""), ("p", "x" * 200), ("p", "")]


def test_own_grammars_decide_and_hints_only_explain(read: Any) -> None:
    data = b"person_id,face_id\na.b,f-1\na b,ALL\na.b,*\n"
    entries = read(data, person_id_pattern="[a-z.]+", face_id_pattern="[A-Za-z0-9-]+").entries
    assert [e.reason for e in entries] == [
        "",
        "person ID holds a space",
        "face ID is a word; no word ever means all faces or no face",
    ]
    entries = read(b"person_id,face_id\na,x1\n", face_id_pattern="[0-9]{2}").entries
    assert entries[0].reason == "face ID does not match face_id_pattern of the configuration"
