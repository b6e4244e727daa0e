from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from worker.calibration import Calibration, NotRecorded, calibrated, path_of, record

ACCOUNT, ENDPOINT = "1234567890", "https://green.cn-shanghai.aliyuncs.com"
FOUND = Calibration(ACCOUNT, ENDPOINT, "code-400", "2026-11-23T12:00:00.000Z", 200, "400")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "facepurge"


def test_what_is_recorded_is_known_from_then_on(state: Path) -> None:
    assert calibrated(ACCOUNT, ENDPOINT) == ""
    path = record(FOUND)
    assert path == path_of(ACCOUNT, ENDPOINT)
    assert path.parent == state / "calibration"
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"
    assert json.loads(path.read_bytes()) == {
        "account": ACCOUNT,
        "endpoint": ENDPOINT,
        "answer": "code-400",
        "time": "2026-11-23T12:00:00.000Z",
        "http_status": 200,
        "code": "400",
    }
    record(msgspec.structs.replace(FOUND, answer="empty-list"))
    assert calibrated(ACCOUNT, ENDPOINT) == "empty-list"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_each_account_and_endpoint_has_its_own() -> None:
    record(FOUND)
    record(msgspec.structs.replace(FOUND, account="2", answer="code-404"))
    record(msgspec.structs.replace(FOUND, endpoint="http://127.0.0.1:1", answer="empty-data"))
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"
    assert calibrated("2", ENDPOINT) == "code-404"
    assert calibrated(ACCOUNT, "http://127.0.0.1:1") == "empty-data"
    assert calibrated("2", "http://127.0.0.1:1") == ""


def test_files_are_private_under_any_umask(state: Path) -> None:
    before = os.umask(0)
    try:
        path = record(FOUND)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    for directory in (path.parent, state):
        assert directory.stat().st_mode & 0o777 == 0o700


def _with(**changes: object) -> bytes:
    return json.dumps({**msgspec.structs.asdict(FOUND), **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[" * 30_000,
        b"\xff" * 10,
        b'"\xff"',
        _with(answer="code-500"),
        _with(answer=""),
        _with(answer=None),
        _with(code=400),
        _with(more=1),
        _with(account="2"),
        _with(endpoint="https://green.cn-beijing.aliyuncs.com"),
        _with(time="x" * 70_000),
        _with()[:-1],
        _with().replace(b'"account"', b'"acount"'),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_cannot_be_understood_or_is_about_another_is_not_there(content: bytes) -> None:
    path = record(FOUND)
    path.write_bytes(content)
    assert calibrated(ACCOUNT, ENDPOINT) == ""
    record(FOUND)
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"


def _as_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


def _as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _below_a_link(path: Path) -> None:
    path.parent.rename(path.parent.parent / "elsewhere")
    path.parent.symlink_to("elsewhere")


def _writable(mode: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(mode)


@pytest.mark.parametrize(
    "spoil",
    [_as_link, _as_directory, _as_pipe, _below_a_link, _writable(0o620), _writable(0o602)],
)
def test_what_somebody_else_could_have_written_is_not_there(spoil: Callable[[Path], None]) -> None:
    path = record(FOUND)
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"
    spoil(path)
    assert calibrated(ACCOUNT, ENDPOINT) == ""


def test_another_users_file_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    record(FOUND)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert calibrated(ACCOUNT, ENDPOINT) == ""


def test_nobody_has_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert calibrated(ACCOUNT, ENDPOINT) == ""


def test_a_link_is_replaced_and_never_followed() -> None:
    path = record(FOUND)
    victim = path.parent / "victim"
    victim.write_text("precious")
    path.unlink()
    path.symlink_to(victim)
    record(FOUND)
    assert not path.is_symlink()
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"
    temporary = path.parent / f".{path.name}.tmp"
    temporary.symlink_to(victim)
    record(FOUND)
    assert victim.read_text() == "precious"
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "victim"}


@pytest.mark.parametrize("where", ["root", "directory"])
def test_where_it_cannot_be_recorded_it_says_what_to_do(state: Path, where: str) -> None:
    state.parent.mkdir()
    if where == "root":
        state.write_text("in the way")
    else:
        (state / "calibration").parent.mkdir()
        (state / "calibration").symlink_to(state.parent)
    with pytest.raises(NotRecorded) as refused:
        record(FOUND)
    assert refused.value.exit_code == 1
    assert str(path_of(ACCOUNT, ENDPOINT)) in refused.value.cause
    assert 'unknown_person = "code-400"' in refused.value.remedy


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_what_fails_half_way_leaves_the_old_one(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(FOUND)

    def fails(*_arguments: object, **_more: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(NotRecorded, match="No space left"):
            record(msgspec.structs.replace(FOUND, answer="code-404"))
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_write_that_takes_a_part_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    record(FOUND)
    assert calibrated(ACCOUNT, ENDPOINT) == "code-400"
