from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

import worker
import worker.cli
from worker import errors
from worker.configuration import CONFIG_VARIABLE, PREFIX, TYPES, load
from worker.ledger.database import FILE_NAME
from worker.report import conclusion
from worker.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def _manifest(kind: str) -> Any:
    found = [
        document
        for path in MANIFESTS
        for document in yaml.safe_load_all(path.read_text("utf-8"))
        if document["kind"] == kind
    ]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def job() -> Any:
    return _manifest("Job")["spec"]


@pytest.fixture(scope="module")
def pod(job: Any) -> Any:
    return job["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (only,) = pod["containers"]
    return only


@pytest.fixture(scope="module")
def settings() -> str:
    return str(_manifest("ConfigMap")["data"]["facepurge.toml"])


def _commands(script: str) -> list[list[str]]:
    """The ``facepurge`` command lines of a shell script, as words."""
    return [
        shlex.split(line.split("facepurge ", 1)[1])
        for line in script.splitlines()
        if re.match(r"\s*(exec )?facepurge ", line)
    ]


def _check_command(words: list[str]) -> None:
    """The verb exists, and so does every flag it is given."""
    verb, *rest = words
    assert verb in worker.cli.VERBS, verb
    command = worker.cli.facepurge.get_command(click.Context(worker.cli.facepurge), verb)
    assert command is not None
    known = {flag for param in command.params for flag in param.opts}
    flags = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    assert flags <= known, f"{verb}: {flags - known}"


def _program_codes() -> set[int]:
    """Every exit code that the program as it stands can end with."""
    kinds: list[type[errors.FacepurgeError]] = [errors.FacepurgeError]
    kinds += errors.FacepurgeError.__subclasses__()
    judged = ast.walk(ast.parse(inspect.getsource(conclusion._exit_code)))
    constants = {
        int(ast.literal_eval(node.value))
        for node in judged
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant)
    }
    return {kind.exit_code for kind in kinds} | constants | {*conclusion._SIGNALS.values()}


def test_the_commands_of_the_job_exist(container: Any) -> None:
    assert container["command"] == ["/bin/sh", "-euc"]
    (script,) = container["args"]
    resume, run = _commands(script)
    _check_command(resume)
    _check_command(run)
    assert (resume[0], run[0]) == ("resume", "run")
    assert run[run.index("--run-dir") + 1] == resume[1] == "$PURGE_DIR"
    assert "--yes" not in run, "the first pod confirms a count that a person has set"


@pytest.mark.parametrize("successor", ["", FILE_NAME])
def test_a_successor_resumes_and_the_first_pod_runs(
    container: Any, tmp_path: Path, successor: str
) -> None:
    told = tmp_path / "facepurge"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    told.chmod(0o755)
    run_dir = tmp_path / "purge 1"
    run_dir.mkdir()
    if successor:
        (run_dir / successor).touch()
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PURGE_DIR": str(run_dir), "PURGE_COUNT": "7"},
        check=True,
        capture_output=True,
        text=True,
    )
    words = done.stdout.splitlines()
    if successor:
        assert words[:3] == ["resume", str(run_dir), "--yes"]
    else:
        assert words[0] == "run"
        assert words[words.index("--confirm") + 1] == "7"
        assert words[words.index("--run-dir") + 1] == str(run_dir)


def test_as_shipped_the_job_confirms_nothing(container: Any) -> None:
    values = {item["name"]: item["value"] for item in container["env"]}
    assert values["PURGE_COUNT"] == "0"
    done = subprocess.run(
        [sys.executable, "-m", "worker", "run", "x.csv", "--confirm", values["PURGE_COUNT"]],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("nothing was sent\n")


def test_the_settings_of_the_config_map_are_settings(settings: str, tmp_path: Path) -> None:
    file = tmp_path / "facepurge.toml"
    file.write_text(settings)
    assert load({}, {}, str(file)).settings.region
    assert set(tomllib.loads(settings)) <= set(TYPES)


def test_variables_of_the_container_are_known_and_hold_no_secret(container: Any) -> None:
    known = {PREFIX + key.upper() for key in TYPES} | {CONFIG_VARIABLE}
    for variable in container["env"]:
        assert not variable["name"].startswith(PREFIX) or variable["name"] in known
        assert "ACCESS_KEY" not in variable["name"], "keys come from the Secret"


def test_the_pod_outlives_the_programs_grace(pod: Any, settings: str) -> None:
    grace_seconds = tomllib.loads(settings).get("grace_seconds", Settings().grace_seconds)
    assert pod["terminationGracePeriodSeconds"] >= grace_seconds + 30


def test_the_pod_meets_pod_security_restricted(pod: Any, container: Any) -> None:
    allowed_volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= allowed_volumes
    for field in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
        assert field not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["runAsNonRoot"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in security
    assert pod["automountServiceAccountToken"] is False
    assert all("hostPort" not in port for port in container.get("ports", []))


def test_what_is_mounted_is_declared(pod: Any, container: Any) -> None:
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) == set(volumes)
    claim = _manifest("PersistentVolumeClaim")
    assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volumes["settings"]["configMap"]["name"] == _manifest("ConfigMap")["metadata"]["name"]
    assert mounts["settings"]["readOnly"] is True
    assert mounts["input"]["readOnly"] is True
    state = next(item for item in container["env"] if item["name"] == "XDG_STATE_HOME")
    assert state["value"].startswith(mounts["runs"]["mountPath"] + "/"), "the root is read-only"


def test_every_exit_code_has_its_answer_in_the_job(job: Any, container: Any) -> None:
    rules = job["podFailurePolicy"]["rules"]
    assert job["template"]["spec"]["restartPolicy"] == "Never", "required by podFailurePolicy"
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget"}]
    answers = {
        rule["action"]: set(rule["onExitCodes"]["values"])
        for rule in rules
        if "onExitCodes" in rule
    }
    assert all(
        rule["onExitCodes"]["containerName"] == container["name"]
        for rule in rules
        if "onExitCodes" in rule
    )
    assert answers["Count"] == {5, *conclusion._SIGNALS.values()}
    assert answers["FailJob"] == _program_codes() - answers["Count"] - {0}


def test_the_runbook_has_every_exit_code_and_no_other() -> None:
    table = re.findall(
        r"^\| ([0-9, ]+) \|", (DEPLOY / "RUNBOOK.md").read_text("utf-8"), re.MULTILINE
    )
    assert {int(code) for row in table for code in row.split(",")} == _program_codes()


def test_the_runbook_types_commands_that_exist() -> None:
    text = (DEPLOY / "RUNBOOK.md").read_text("utf-8")
    inline = re.findall(r"`(facepurge [^`]+)`", text)
    commands = _commands("\n".join([*inline, *text.splitlines()]))
    assert len(commands) > 5
    for words in commands:
        _check_command(words)
    for name in re.findall(r"`(?:deploy|configs)/[^`]+`", text):
        assert (ROOT / name.strip("`")).exists(), name


def test_the_container_file_copies_what_is_there_and_runs_as_nobody() -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    build, final = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    for images in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", images)
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", build, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["facepurge"]' in final
    assert "--require-hashes" in build
    uid = yaml.safe_load((DEPLOY / "kubernetes/job.yaml").read_text("utf-8"))
    security = uid["spec"]["template"]["spec"]["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in final


def test_the_image_of_the_job_is_this_edition(container: Any) -> None:
    assert container["image"] == f"facepurge:{worker.__version__}"


def _pinned(name: str) -> dict[str, str]:
    text = (DEPLOY / name).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("runtime.lock", ("dependencies",)),
        ("dev.lock", ("dependencies", "dev")),
        ("build.lock", ("build",)),
    ],
)
def test_the_locks_pin_what_the_project_asks_for(lock: str, wanted: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = {
        "dependencies": project["project"]["dependencies"],
        "dev": project["project"]["optional-dependencies"]["dev"],
        "build": project["build-system"]["requires"],
    }
    text = (DEPLOY / lock).read_text("utf-8")
    pinned = _pinned(lock)
    for group in wanted:
        for requirement in asked[group]:
            name, least = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement).groups()  # type: ignore[union-attr]
            version = pinned[name.lower()]
            assert _numbers(version) >= _numbers(least), requirement
    assert text.count("--hash=sha256:") >= len(pinned) > 0
    assert "://" not in text, "no index, no host"
    for line in text.splitlines():
        assert re.match(
            r"#|    (#|--hash=sha256:[0-9a-f]{64})|[a-z0-9._-]+==\S+( ;.*)? \\$|$", line
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_the_locks_agree() -> None:
    runtime, dev = _pinned("runtime.lock"), _pinned("dev.lock")
    assert {name: dev.get(name) for name in runtime} == runtime


def _audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module
    spec.loader.exec_module(module)
    return module


def test_the_audit_never_calls_clean_what_was_not_looked_up() -> None:
    audit = _audit()
    packages = {"click": "8.5", "Fancy_Name": "1", "skipped": "2", "silent": "3"}
    answer = {
        "dependencies": [
            {"name": "click", "version": "8.5", "vulns": []},
            {"name": "fancy-name", "version": "1", "vulns": [{"id": "PYSEC-1"}]},
            {"name": "skipped", "skip_reason": "not found"},
        ]
    }
    judged = audit.judge(packages, answer, "not mentioned")
    assert judged.clean == ("click",)
    assert judged.vulnerable == ("Fancy_Name==1: PYSEC-1",)
    assert judged.unaudited == ("silent==3: not mentioned", "skipped==2: not found")
    assert judged.exit_code() == audit.VULNERABLE
    assert "not audited  silent==3: not mentioned" in judged.lines()

    unreachable = audit.judge(packages, None, "the advisory service could not be reached")
    assert len(unreachable.unaudited) == len(packages)
    assert unreachable.exit_code() == audit.NOT_AUDITED != 0

    clean = audit.judge({"click": "8.5"}, answer, "")
    assert clean.exit_code() == audit.CLEAN == 0
    assert clean.lines() == ["audit: 1 clean, 0 vulnerable, 0 not audited"]


def test_the_audit_sees_every_pinned_package() -> None:
    locks = [DEPLOY / name for name in ("build.lock", "runtime.lock", "dev.lock")]
    expected = {**_pinned("build.lock"), **_pinned("runtime.lock"), **_pinned("dev.lock")}
    assert _audit().pinned(locks) == expected


def test_every_target_of_the_makefile_can_be_made() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z]+):.*## \S", text, re.MULTILINE)
    assert {"demo", "test", "format", "lint", "types", "imports", "security", "audit"} <= set(
        targets
    )
    for name in re.findall(
        r"(?<![\w/])((?:configs|tests|deploy|\.ci)/[\w./-]+\w)(?=[\s;]|$)", text
    ):
        assert (ROOT / name).exists(), name
    done = subprocess.run(
        ["make", "--dry-run", *targets], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (demo,) = _commands(text.replace("$(BIN)/facepurge", "facepurge"))
    _check_command(demo)
