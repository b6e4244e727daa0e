"""What the sandbox can be told, in words: the text of ``facepurge sandbox --list``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from worker.sandbox.facts import Facts
from worker.sandbox.faults import FAULTS, Rule


def facts_text() -> str:
    """Every switch with its description, its values and its default."""
    hints = get_type_hints(Facts, include_extras=True)
    lines = ["Set with --fact KEY=VALUE. The first value shown is the default.", ""]
    for field in msgspec.structs.fields(Facts):
        values, description = _annotation(hints[field.name])
        others = [value for value in values if value != field.default]
        lines.append(f"{field.name} = {' | '.join(map(str, [field.default, *others]))}")
        lines.append(f"    {description}")
    return "\n".join(lines)


def _annotation(hint: Any) -> tuple[tuple[Any, ...], str]:
    assert get_origin(hint) is Annotated
    kind, meta = get_args(hint)
    return get_args(kind), meta.description


def faults_text() -> str:
    """Every fault with its keys, and the keys that say which requests it strikes."""
    lines = ["Set with --fault 'NAME KEY=VALUE ...', or in a file with --faults.", ""]
    for fault in FAULTS:
        lines.append(f"{fault.__struct_config__.tag} {' '.join(_keys(fault))}")
        lines += [f"    {line}" for line in inspect.cleandoc(fault.__doc__ or "").splitlines()]
    lines += [
        "",
        "applies: whether what was asked for was done, whatever is answered.",
        f"Of every fault: {' '.join(_keys(Rule))}",
    ]
    lines += [f"    {line}" for line in inspect.cleandoc(Rule.__doc__ or "").splitlines()]
    return "\n".join(line.rstrip() for line in lines)


def _keys(struct: type[msgspec.Struct]) -> Iterator[str]:
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        values = [str(value) for value in get_args(hints[field.name]) if isinstance(value, str)]
        default = "" if field.default is None else str(field.default)
        others = [value for value in values if value != default]
        yield f"{field.encode_name}={'|'.join([default, *others])}"
