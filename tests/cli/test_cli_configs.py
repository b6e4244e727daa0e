from __future__ import annotations

import csv
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import msgspec

from worker.configuration import TYPES, load
from worker.settings import DOCUMENTED_FACES_PER_PERSON, ClientInfo, Settings

CONFIGS = Path(__file__).parents[2] / "configs"
REFERENCE = CONFIGS / "reference.toml"
EXAMPLES = CONFIGS / "examples"


def test_the_reference_equals_the_defaults() -> None:
    configuration = load({}, {}, str(REFERENCE))
    assert configuration.settings == Settings()
    for key, origin in configuration.origins.items():
        assert re.fullmatch(rf".*reference\.toml:\d+: {key}", origin)


def test_the_reference_has_every_key_and_no_other() -> None:
    written = tomllib.loads(REFERENCE.read_text("utf-8"))
    assert set(written) == set(TYPES)
    assert set(written["client_info"]) == {
        field.name for field in msgspec.structs.fields(ClientInfo)
    }
    for key, value in msgspec.to_builtins(Settings()).items():
        if key != "client_info":
            assert type(written[key]) is type(value), key


def test_every_key_of_the_reference_is_explained() -> None:
    before = ""
    for line in REFERENCE.read_text("utf-8").splitlines():
        key = re.match(r"\[?([a-z_]+)\]?( =|$)", line)
        if key and key[1] in TYPES:
            assert before.startswith("# "), f"{key[1]} has no comment above it"
        before = line


def test_the_reference_names_flags_that_exist() -> None:
    from worker.cli import options

    flags = {"--" + name.replace("_", "-"): key for name, key in options.SETTING_OF.items()}
    comment = ""
    for line in REFERENCE.read_text("utf-8").splitlines():
        if line.startswith("#"):
            comment += line
            continue
        key = re.match(r"\[?([a-z_]+)", line)
        if key and key[1] in TYPES:
            named = re.findall(r"Flag:\s#?\s?(--[a-z-]+)", comment.replace("# ", " "))
            assert [flags[flag] for flag in named] == [key[1]] * (key[1] in flags.values()), key[1]
        comment = ""


def _retention() -> list[dict[str, str]]:
    with (EXAMPLES / "retention.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _requests() -> list[dict[str, object]]:
    lines = (EXAMPLES / "erasure-requests.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_demonstration_is_short_and_shows_what_it_should() -> None:
    rows = [(row["person_id"], row["face_id"]) for row in _retention()]
    wanted = [
        (str(job["personId"]), str(face))
        for job in _requests()
        for face in (job["faceIds"] if isinstance(job["faceIds"], list) else [])
    ]
    pairs = {*rows, *wanted}
    persons = Counter(person for person, _ in pairs)
    assert 60 <= len(persons) <= 120, "the demonstration takes a call for each, 20 a second"
    assert 200 <= len(pairs) <= 500
    assert max(persons.values()) <= DOCUMENTED_FACES_PER_PERSON
    assert len(set(rows)) < len(rows), "there are repeated rows"
    assert set(rows) & set(wanted), "the two lists overlap"
    assert len({face for _, face in pairs}) == len(pairs), "there is no conflict"
    assert set(_retention()[0]) == {"person_id", "face_id", "ticket", "retained_until"}
    for person, face in pairs:
        assert re.fullmatch(Settings().person_id_pattern, person)
        assert re.fullmatch(Settings().face_id_pattern, face)


def test_the_doubtful_example_has_one_conflict_and_one_bad_row() -> None:
    with (EXAMPLES / "doubtful.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    faces = Counter(row["face_id"] for row in rows)
    assert [face for face, count in faces.items() if count > 1] == ["1345345466455"]
    bad = [face for face in faces if not re.fullmatch(Settings().face_id_pattern, face)]
    assert bad == ["1.24445E+12"]
