"""Tests by their names, for the tables that say which test stands for what."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def _module(file: str) -> tuple[frozenset[str], frozenset[str]]:
    """The test functions of a file, and the texts in it."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    functions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return frozenset(functions), frozenset(texts)


def missing(test: str) -> str:
    """Why there is no such test, or ``""``.

    ``file::function`` or ``file::function[case]``, where the case is a text in the file: the key of
    the case in its table, or the case itself.
    """
    file, _, rest = test.partition("::")
    function, _, case = rest.removesuffix("]").partition("[")
    if not (ROOT / file).is_file():
        return f"{test}: there is no such file"
    functions, texts = _module(file)
    if not function.startswith("test_") or function not in functions:
        return f"{test}: there is no such function"
    if case and case not in texts:
        return f"{test}: there is no such case"
    return ""
