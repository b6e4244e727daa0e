"""Every message that the program can write, read out of its source.

What is only known at run time is a hole; a name that stands for a text of a module is that text; of
two branches both are read.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType

import worker
from worker.errors import FacepurgeError

HOLE = "\N{WHITE SQUARE}"
"""Stands for what a message fills in."""


class Voice(StrEnum):
    """Who speaks."""

    ERROR = "error"
    """An error of ours: a cause and a remedy."""
    STOP = "stop"
    """Why a run ends: a sentence and a remedy."""
    VERDICT = "verdict"
    """What a person has to do about an answer, where it stops a run."""
    USAGE = "usage"
    """An error of the command line, which adds where to read more."""
    STDERR = "stderr"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that can be said."""

    place: str
    """``module:line`` of the source."""
    voice: Voice
    texts: tuple[str, ...]
    """The cause, or whatever is said; one text for each way the branches can go."""
    remedies: tuple[str, ...]
    """The same of the remedy; none where none is given."""
    holes: tuple[str, ...]
    """The source of what is filled in, and the names under which a log line has it."""

    def __str__(self) -> str:
        return self.place


_LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


_WITH_REMEDY = (Voice.ERROR, Voice.STOP, Voice.VERDICT)


def messages() -> Iterator[Message]:
    """All of them, module by module."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(worker.__path__, "worker.")
        if not found.name.endswith("__main__")
    ]
    errors = _error_names()
    for module in modules:
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (voice := _voice(node, errors)):
                yield _message(module, node, voice)


def _error_names() -> frozenset[str]:
    kinds = [FacepurgeError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return frozenset(kind.__name__ for kind in kinds)


def _voice(call: ast.Call, errors: frozenset[str]) -> Voice | None:
    match call.func:
        case ast.Name(name) | ast.Attribute(attr=name) if name in errors:
            return Voice.ERROR
        case ast.Attribute(attr="refused") if len(call.args) > 1 and "place" in _source(call.func):
            return Voice.ERROR
        case ast.Name("Stop") if len(call.args) > 1:
            return Voice.STOP
        case ast.Name("Meaning" | "Unidentified") if len(call.args) > 1:
            return Voice.VERDICT
        case ast.Name("Finding" | "Evidence" | "replace") if _says(call, "remedy"):
            return Voice.VERDICT
        case ast.Attribute(attr="UsageError" | "BadParameter"):
            return Voice.USAGE
        case ast.Attribute(ast.Name("stderr"), "write" | "ask"):
            return Voice.STDERR
        case ast.Attribute(owner, method) if method in _LOG_METHODS and "log" in _source(owner):
            return Voice.LOG
        case _:
            return None


def _says(call: ast.Call, name: str) -> bool:
    """Whether something is given by that keyword that is not empty beforehand."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return bool(given) and not (isinstance(given[0], ast.Constant) and not given[0].value)


def _message(module: ModuleType, call: ast.Call, voice: Voice) -> Message:
    said = call.args
    if voice is Voice.STOP:
        said = said[1:]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    remedy: ast.expr | None = keywords.get("remedy")
    if remedy is None and voice in _WITH_REMEDY and len(said) > 1:
        remedy = said[1]
    if voice is Voice.VERDICT and remedy is not None:
        # What came is told in the service's own words, and in whole sentences of ours.
        said, keywords = [], {"remedy": remedy}
    words = said[:1] if voice in (Voice.ERROR, Voice.STOP, Voice.USAGE) else said
    texts = [text for node in words for text in _texts(module, node)]
    holes = [hole for node in [*said, *keywords.values()] for hole in _holes(module, node)]
    if voice is Voice.LOG:
        holes += keywords
    return Message(
        f"{module.__name__}:{call.lineno}",
        voice,
        tuple(texts),
        tuple(_texts(module, remedy)) if remedy is not None else (),
        tuple(holes),
    )


def _texts(module: ModuleType, node: ast.expr) -> Sequence[str]:
    """Every text that the expression can be."""
    match node:
        case ast.Constant(str() as text):
            return [text]
        case ast.JoinedStr(parts):
            return _joined([_texts(module, part) for part in parts])
        case ast.FormattedValue(value):
            return _texts(module, value)
        case ast.BinOp(left, ast.Add(), right):
            return _joined([_texts(module, left), _texts(module, right)])
        case ast.IfExp(body=body, orelse=orelse):
            return [*_texts(module, body), *_texts(module, orelse)]
        case ast.Name(name) if isinstance(named := getattr(module, name, None), str):
            return [named]
        case _:
            return [HOLE]


def _joined(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    return ["".join(combined) for combined in itertools.product(*parts)]


def _holes(module: ModuleType, node: ast.expr) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.FormattedValue | ast.Starred):
            yield _source(inner.value)
    if not isinstance(node, ast.Constant | ast.JoinedStr) and HOLE in _texts(module, node):
        yield _source(node)


def _source(node: ast.AST) -> str:
    return ast.unparse(node)
