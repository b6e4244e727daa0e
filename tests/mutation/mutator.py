"""Mutants of a module: its text with one small, deliberate change each.

Besides what functions do, the tables at module level are changed too (dictionaries of codes, sets
of words, patterns, SQL): in this program they hold half of the decisions. That is why this is not
mutmut, which (as of 3.8) changes only what stands in functions. Left alone are wording, docstrings,
annotations, decorators, imports and asserts; they decide nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
}
OPERATORS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.FloorDiv(),
    ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Mult(),
    ast.Mod: ast.Mult(),
    ast.BitOr: ast.BitAnd(),
    ast.BitAnd: ast.BitOr(),
}
FUNCTIONS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "fullmatch": "match",
    "startswith": "endswith",
    "endswith": "startswith",
}

SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE)\b")
After = str | Callable[[re.Match[str]], str]
"""What stands in the place of a match: a template, or what makes it."""

SQL_CHANGES: tuple[tuple[re.Pattern[str], After], ...] = (
    (re.compile(r"<>"), "="),
    (re.compile(r"(?<![<>=])=(?!=)"), "<>"),
    (re.compile(r"(?<=\s)>(?=\s)"), ">="),
    (re.compile(r"(?<=\s)<(?=\s)"), "<="),
    (re.compile(r"\bAND\b"), "OR"),
    (re.compile(r"\bOR\b(?! IGNORE)"), "AND"),
    (re.compile(r"(?<!NOT )\bIN\b"), "NOT IN"),
    (re.compile(r"\bNOT (?=IN|EXISTS)"), ""),
    (re.compile(r"(?<!NOT )\bEXISTS\b"), "NOT EXISTS"),
    (re.compile(r"\bMIN\b"), "MAX"),
    (re.compile(r"\bMAX\b"), "MIN"),
    (re.compile(r"\bLEFT JOIN\b"), "JOIN"),
    (re.compile(r"\bDISTINCT "), ""),
    (re.compile(r"(?<=ORDER BY )\w+(\.\w+)?"), r"\g<0> DESC"),
    (re.compile(r"\bDESC\b"), "ASC"),
    (re.compile(r"(?<=')\w+(?=')"), r"not_\g<0>"),
)
"""Each place where the pattern matches is one mutant."""

CONTEXT = 24
"""Characters shown on each side of a change in a text."""

CLASS = re.compile(r"(?<!\\)\[\^?\]?(?:\\.|[^\]\\])*\]")
"""A class of characters in a pattern, where signs mean themselves."""

PATTERN_CHANGES: tuple[tuple[re.Pattern[str], After], ...] = (
    (re.compile(r"(?<![\\(?*+])\*"), "+"),
    (re.compile(r"(?<![\\(?*+])\+"), "*"),
    (re.compile(r"(?<![\\(*+])\?(?![:=!<])"), ""),
    (re.compile(r"(?<!\\)\[\^"), "["),
    (re.compile(r"(?<=,)\d+(?=\})"), lambda number: str(int(number[0]) + 1)),
    (re.compile(r"(?<=\{)\d+"), lambda number: str(int(number[0]) + 1)),
    (re.compile(r"\(\?!"), "(?="),
    (re.compile(r"\(\?="), "(?!"),
)

COMPOUND = (ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Lambda)
"""Expressions that may mean something else without parentheses around them."""

DECIDES_NOTHING = (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change."""

    line: int
    """1-based."""
    code: str
    """The line as it was, without the space around it."""
    before: str
    after: str
    """``""`` where ``before`` is left out."""
    text: str = field(repr=False)
    """The whole module with the change in it."""

    @property
    def name(self) -> tuple[str, str, str]:
        """What it is recognised by when the lines around it have moved."""
        return self.code, self.before, self.after

    def __str__(self) -> str:
        return f"{self.before}  ->  {self.after or '(left out)'}"


@dataclass(frozen=True, slots=True)
class _Change:
    node: ast.AST
    after: str
    gone: ast.AST | None = None
    """The member of ``node`` that is missing from ``after``."""
    shown: tuple[str, str] | None = None
    """Before and after, where that is a small part of a long text."""


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a module that still is Python, in the order of its lines."""
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    encoded = source.encode()
    found: dict[str, Mutant] = {}
    for change in _Changes(tree).found:
        node = change.node
        assert isinstance(node, ast.expr | ast.stmt | ast.pattern)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = (encoded[:begin] + change.after.encode() + encoded[end:]).decode()
        if text == source or text in found or not _compiles(text):
            continue
        if change.gone is not None:
            before, after = ast.unparse(change.gone), ""
        elif change.shown is not None:
            before, after = change.shown
        else:
            before, after = _difference(encoded[begin:end].decode(), change.after)
        number = int(getattr(change.gone, "lineno", node.lineno))
        found[text] = Mutant(number, lines[number - 1].strip(), before, after, text)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _difference(before: str, after: str, shown: int = 80) -> tuple[str, str]:
    """Both texts on one line, cut to where they differ when they are long."""
    before, after = " ".join(before.split()), " ".join(after.split())
    if max(len(before), len(after)) <= shown:
        return before, after
    same = next(
        (i for i, (b, a) in enumerate(zip(before, after, strict=False)) if b != a),
        min(len(before), len(after)),
    )
    begin = max(0, same - shown // 4)
    return before[begin : begin + shown], after[begin : begin + shown]


class _Changes(ast.NodeVisitor):
    """Walks a module and collects what could be changed."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[_Change] = []
        self._depth = 0
        self._done: set[ast.AST] = set()
        self._enumerations = _enumerations(tree)
        self.visit(tree)

    def _change(self, node: ast.AST, after: ast.AST | str, *, gone: ast.AST | None = None) -> None:
        if isinstance(after, ast.AST):
            text = ast.unparse(after)
            after = f"({text})" if isinstance(after, COMPOUND) else text
        self.found.append(_Change(node, after, gone))

    def _fewer(
        self, node: ast.AST, members: Sequence[ast.AST], rest: Callable[[list[Any]], ast.AST]
    ) -> None:
        """One change for each of ``members``: ``rest`` makes the node from the others."""
        for index, gone in enumerate(members):
            others = [*members[:index], *members[index + 1 :]]
            self._change(node, rest(others), gone=gone)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, DECIDES_NOTHING) or node in self._done:
            return
        changes: Callable[[ast.AST], Iterator[ast.AST | str]] | None
        changes = getattr(self, f"_{type(node).__name__}", None)
        for after in changes(node) if changes else ():
            self._change(node, after)
        super().generic_visit(node)

    # What is passed over, and how deep

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._depth += 1
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        self._body(node.body)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._body(node.body)

    def visit_Module(self, node: ast.Module) -> None:
        self._body(node.body)

    def _body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring, or the ellipsis of a protocol
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    # Statements

    def _Expr(self, node: ast.Expr) -> Iterator[str]:  # noqa: N802
        if isinstance(node.value, ast.Call | ast.Await):
            yield "pass"

    def _Raise(self, _node: ast.Raise) -> Iterator[str]:  # noqa: N802
        yield "pass"

    def _Assign(self, node: ast.Assign) -> Iterator[str]:  # noqa: N802
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            yield "pass"

    def _AugAssign(self, node: ast.AugAssign) -> Iterator[ast.AST | str]:  # noqa: N802
        yield "pass"
        if type(node.op) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(node.op)], node.value)

    def _Continue(self, _node: ast.Continue) -> Iterator[str]:  # noqa: N802
        yield "break"

    def _Break(self, _node: ast.Break) -> Iterator[str]:  # noqa: N802
        yield "continue"

    def _Return(self, node: ast.Return) -> Iterator[str]:  # noqa: N802
        if node.value is not None and not isinstance(node.value, ast.Constant):
            yield "return None"

    # Conditions

    def _If(self, node: ast.If | ast.IfExp) -> Iterator[ast.AST]:  # noqa: N802
        for value in (True, False):
            self._change(node.test, ast.Constant(value))
        yield from ()

    _IfExp = _If

    def _While(self, node: ast.While) -> Iterator[ast.AST]:  # noqa: N802
        self._change(node.test, ast.Constant(value=False))
        yield from ()

    def _comprehension(self, node: ast.comprehension) -> Iterator[ast.AST]:
        for test in node.ifs:
            for value in (True, False):
                self._change(test, ast.Constant(value))
        yield from ()

    def _match_case(self, node: ast.match_case) -> Iterator[ast.AST]:
        if node.guard is not None:
            for value in (True, False):
                self._change(node.guard, ast.Constant(value))
        yield from ()

    def _MatchOr(self, node: ast.MatchOr) -> Iterator[ast.AST]:  # noqa: N802
        self._fewer(node, node.patterns, ast.MatchOr)
        yield from ()

    # Expressions

    def _Compare(self, node: ast.Compare) -> Iterator[ast.AST]:  # noqa: N802
        for index, op in enumerate(node.ops):
            ops = [*node.ops[:index], COMPARISONS[type(op)], *node.ops[index + 1 :]]
            yield ast.Compare(node.left, ops, node.comparators)
        for members in node.comparators:
            if isinstance(members, ast.Tuple) and self._depth:
                self._members(members)

    def _BoolOp(self, node: ast.BoolOp) -> Iterator[ast.AST]:  # noqa: N802
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)

    def _UnaryOp(self, node: ast.UnaryOp) -> Iterator[ast.AST]:  # noqa: N802
        if isinstance(node.op, ast.Not):
            yield node.operand

    def _BinOp(self, node: ast.BinOp) -> Iterator[ast.AST]:  # noqa: N802
        if type(node.op) in OPERATORS and not (_is_text(node.left) or _is_text(node.right)):
            yield ast.BinOp(node.left, OPERATORS[type(node.op)], node.right)

    def _Call(self, node: ast.Call) -> Iterator[ast.AST]:  # noqa: N802
        self._fewer(node, node.keywords, lambda fewer: ast.Call(node.func, node.args, fewer))
        if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            other = ast.Name(FUNCTIONS[node.func.id], ast.Load())
            yield ast.Call(other, node.args, node.keywords)

    def _Attribute(self, node: ast.Attribute) -> Iterator[str]:  # noqa: N802
        if node.attr in FUNCTIONS:
            yield f"{ast.unparse(node.value)}.{FUNCTIONS[node.attr]}"
        if isinstance(node.value, ast.Name) and node.value.id in self._enumerations:
            members = self._enumerations[node.value.id]
            other = members[(members.index(node.attr) + 1) % len(members)]
            yield f"{node.value.id}.{other}"

    def _Slice(self, node: ast.Slice) -> Iterator[str]:  # noqa: N802
        if node.lower is not None:
            yield ast.unparse(ast.Slice(None, node.upper, node.step))
        if node.upper is not None:
            yield ast.unparse(ast.Slice(node.lower, None, node.step))

    def _Set(self, node: ast.Set) -> Iterator[ast.AST]:  # noqa: N802
        if len(node.elts) > 1:
            self._fewer(node, node.elts, ast.Set)
            self._done.update(one for one in node.elts if isinstance(one, ast.Constant))
        yield from ()

    def _Tuple(self, node: ast.Tuple) -> Iterator[ast.AST]:  # noqa: N802
        if not self._depth and isinstance(node.ctx, ast.Load):
            self._members(node)
        yield from ()

    def _members(self, node: ast.Tuple) -> None:
        """Leave out a member of what is a list of its like, and not a record."""
        if len(node.elts) > 1 and len({type(member) for member in node.elts}) == 1:
            self._fewer(node, node.elts, lambda fewer: ast.Tuple(fewer, ast.Load()))
            self._done.update(one for one in node.elts if isinstance(one, ast.Constant))

    def _Dict(self, node: ast.Dict) -> Iterator[ast.AST]:  # noqa: N802
        names = {value.id for value in node.values if isinstance(value, ast.Name)}
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            keys = [*node.keys[:index], *node.keys[index + 1 :]]
            values = [*node.values[:index], *node.values[index + 1 :]]
            self._change(node, ast.Dict(keys, values), gone=key)
            if isinstance(key, ast.Constant):
                self._done.add(key)
            if isinstance(value, ast.Name) and (others := sorted(names - {value.id})):
                self._change(value, others[0])
        yield from ()

    def _texts(
        self, node: ast.Constant, changed: Iterable[tuple[ast.Constant, tuple[str, str]]]
    ) -> None:
        for after, shown in changed:
            self.found.append(_Change(node, ast.unparse(after), shown=shown))

    def _Constant(self, node: ast.Constant) -> Iterator[ast.AST | str]:  # noqa: N802
        value = node.value
        if isinstance(value, bool):
            yield ast.Constant(not value)
        elif isinstance(value, int | float):
            yield ast.Constant(value + 1)
        elif isinstance(value, str) and SQL.search(value):
            self._texts(node, _texts(value, SQL_CHANGES, str))
        elif isinstance(value, str) and _is_pattern(value):
            self._texts(node, _texts(value, PATTERN_CHANGES, re.compile))
        elif isinstance(value, str) and " " not in value.strip():
            yield ast.Constant(value + "~")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_pattern(value: str) -> bool:
    """Whether a text is a regular expression: has a class or a group, and no word of a sentence."""
    return bool(re.search(r"\[.+\]|\(.+\)|\\[sSdDwWb]", value)) and not re.search(
        "[a-z]{3} ", value
    )


def _texts(
    value: str, changes: Iterable[tuple[re.Pattern[str], After]], check: Callable[[str], object]
) -> Iterator[tuple[ast.Constant, tuple[str, str]]]:
    """Each changed text, and the place of the change in it before and after."""
    classes = [] if check is str else [found.span() for found in CLASS.finditer(value)]
    for pattern, after in changes:
        for match in pattern.finditer(value):
            if any(begin < match.start() < end for begin, end in classes):
                continue
            replaced = match.expand(after) if isinstance(after, str) else after(match)
            head, tail = value[: match.start()], value[match.end() :]
            try:
                check(head + replaced + tail)
            except re.error:
                continue
            around = head[-CONTEXT:], tail[:CONTEXT]
            before, changed = (part.join(around) for part in (match[0], replaced))
            yield (
                ast.Constant(head + replaced + tail),
                (" ".join(before.split()), " ".join(changed.split())),
            )


def _enumerations(tree: ast.Module) -> dict[str, list[str]]:
    """Enumerations that the module imports, with the members that it uses, where it uses several.

    An enumeration is told by its members in capitals.
    """
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    used: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in imported
            and re.fullmatch("[A-Z][A-Z_]+", node.attr)
        ):
            members = used.setdefault(node.value.id, [])
            if node.attr not in members:
                members.append(node.attr)
    return {name: members for name, members in used.items() if len(members) > 1}
