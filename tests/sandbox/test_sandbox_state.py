from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import InputRefused, UsageRefused
from worker.sandbox.latency import (
    FixedLatency,
    LatencySampler,
    LogNormalLatency,
    NoLatency,
    parse_latency,
)
from worker.sandbox.state import Generated, load_world, parse_generated, write_state
from worker.sandbox.world import Change, Profile, World


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_ids_are_opaque_text(tmp_path: Path) -> None:
    persons = {"person 1": ["007", "31842550077981745", "ü"], "EMPTY": [], "Ａ": ["1.0"]}
    world, _ = load_world(written(tmp_path / "state.json", {"persons": persons}))
    assert world.as_dict() == persons
    assert (len(world), world.face_count()) == (3, 4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[]", "object"),
        ("{}", "persons"),
        ('{"persons": []}', "object"),
        ('{"persons": {}, "groups": {}}', "groups"),
        ('{"persons": {"p": "1"}}', "array"),
        ('{"persons": {"p": [31842550077981745]}}', "str"),
        ('{"persons": {"p": [null]}}', "str"),
        ('{"persons": {"": ["1"]}}', "empty ID"),
        ('{"persons": {"p": [""]}}', "empty ID"),
        ('{"persons": {"p": ["1", "1"]}}', "face twice"),
        ("\xff", "state"),
    ],
)
def test_a_state_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputRefused, match=r"state\.json") as refused:
        load_world(path)
    assert said in refused.value.cause
    assert "persons" in refused.value.remedy


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_state_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputRefused, match="cannot be read"):
        load_world(tmp_path / name)


def test_made_up_worlds_come_from_their_seed() -> None:
    world, digest = load_world(Generated(50, 4, seed=1))
    again, same = load_world(Generated(50, 4, seed=1))
    other, differs = load_world(Generated(50, 4, seed=2))
    assert world.as_dict() == again.as_dict() != other.as_dict()
    assert digest == same != differs
    faces = [face for person in world for face in world.faces(person)]
    assert len(set(faces)) == len(faces) == 200
    assert all(len(face) == 17 and face.isdigit() for face in faces)


@pytest.mark.parametrize(
    ("text", "generated"), [("7", Generated(7, 3, 9)), ("7:20", Generated(7, 20, 9))]
)
def test_a_made_up_world_in_a_word(text: str, generated: Generated) -> None:
    assert parse_generated(text, 9) == generated


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3", "1.5", "٣"])
def test_a_word_that_is_no_world_is_refused(text: str) -> None:
    with pytest.raises(UsageRefused):
        parse_generated(text, 0)


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(persons=st.dictionaries(ids, st.lists(ids, unique=True, max_size=4), max_size=6))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, persons: dict[str, list[str]]
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.json"
    write_state(path, persons.items())
    assert load_world(path)[0].as_dict() == persons
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]


def test_a_state_is_old_or_new_but_never_half(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, [("old", ["1"])])

    def breaks_off() -> Iterator[tuple[str, list[str]]]:
        yield "new", ["2"]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_state(path, breaks_off())
    assert load_world(path)[0].as_dict() == {"old": ["1"]}
    assert len(list(tmp_path.iterdir())) == 1


def test_changes_to_what_is_not_there_are_passed_over() -> None:
    world = World({"p": ["1", "2"]})
    world.apply(Change("q", deleted=("1",)))
    world.apply(Change("q", person="deleted"))
    world.apply(Change("p", deleted=("3", "1")))
    assert world.as_dict() == {"p": ["2"]}
    assert world.profile("p") == Profile()


def test_added_faces_have_numbers_of_their_own() -> None:
    world = World({"p": []})
    for _ in range(3):
        world.apply(Change("p", added=world.new_face_ids(2)))
    assert len(set(world.faces("p"))) == 6


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("none", NoLatency()),
        ("fixed:0.05", FixedLatency(0.05)),
        ("lognormal:0.05", LogNormalLatency(0.05, 0.5)),
        ("lognormal:0.05:1", LogNormalLatency(0.05, 1.0)),
    ],
)
def test_latencies_are_read_from_text(text: str, latency: Any) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "none:1",
        "fixed",
        "fixed:x",
        "fixed:-1",
        "fixed:nan",
        "fixed:inf",
        "lognormal:0",
        "lognormal:1:2:3",
    ],
)
def test_a_latency_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageRefused, match="--latency"):
        parse_latency(text)


def test_latencies_repeat_with_their_seed_and_have_their_median() -> None:
    latency = LogNormalLatency(0.05, 0.5)
    drawn, again, other = (
        [sampler.draw_seconds() for _ in range(2001)]
        for sampler in (LatencySampler(latency, seed) for seed in (1, 1, 2))
    )
    assert drawn == again != other
    assert 0.045 < sorted(drawn)[1000] < 0.055
    assert max(drawn) > 0.15
    assert LatencySampler(FixedLatency(0.2), 0).draw_seconds() == 0.2
    assert LatencySampler(NoLatency(), 0).draw_seconds() == 0.0
