"""Rows of a table by an expression of its columns."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np
import pandas as pd

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable

_FUNCTIONS = ("abs", "sqrt", "exp", "log", "log10", "sin", "cos", "arctan2")
# What an expression may be made of. pandas alone would also run methods of the columns, which can write files.
_ALLOWED = (
    ast.Expression,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Mod,
    ast.Pow,
    ast.BitAnd,
    ast.BitOr,
    ast.UnaryOp,
    ast.Not,
    ast.Invert,
    ast.USub,
    ast.Compare,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Eq,
    ast.NotEq,
    ast.In,
    ast.NotIn,
    ast.List,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Call,
)


def filtered(table: EmitterTable, where: str, unread: Sequence[str] = ()) -> EmitterTable:
    """The rows for which an expression of the columns is true, in their order.

    Args:
        table: the emitters.
        where: comparisons of columns and numbers, joined by and, or, not; + - * / % **, ``in [1, 2]``, brackets and
            sqrt, abs, exp, log, log10, sin, cos, arctan2 are there too. A comparison with NaN (unknown) is false.
        unread: columns of the table's file that are not in the table, to be named where the expression has one that is
            not there.

    Raises:
        EmitterError: an expression that cannot be read, names no column of the table, or is not true or false.
    """
    tree = _parsed(where)
    _check(tree, where, table, unread)
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in table.columns()]
    if not used:
        raise EmitterError(f"where is '{where}', without any column: there are {', '.join(table.columns())}")
    columns = pd.DataFrame({name: table.columns()[name] for name in used})
    try:
        with np.errstate(all="ignore"):
            keep = np.asarray(columns.eval(ast.unparse(tree), engine="python"))
    except Exception as error:  # pandas raises all kinds for what it cannot do
        raise EmitterError(
            f"where is '{where}' and cannot be computed ({' '.join(str(error).split())[:100]}): {_HOW}"
        ) from error
    if keep.dtype != bool or keep.shape != (len(table),):
        raise EmitterError(f"where is '{where}', which is a number and not true or false: {_HOW}")
    return table.select(keep)


_HOW = "compare columns with numbers, as in precision_x_nm < 15 and probability > 0.8"


class _NumbersAsFloats(ast.NodeTransformer):
    """9**9**9 overflows then, where whole numbers would be computed for hours."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        plain = isinstance(node.value, int) and not isinstance(node.value, bool) and abs(node.value) < 2**53
        return ast.copy_location(ast.Constant(float(node.value)), node) if plain else node  # type: ignore[arg-type]


def _parsed(where: str) -> ast.Expression:
    # as pandas reads them: & and | bind as and, or
    text = " ".join(where.replace("&", " and ").replace("|", " or ").split())
    try:
        tree = ast.parse(text, mode="eval")
        return ast.fix_missing_locations(_NumbersAsFloats().visit(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise EmitterError(f"where is '{where}' and cannot be read: {_HOW}") from error


def _check(tree: ast.Expression, where: str, table: EmitterTable, unread: Sequence[str]) -> None:
    """Refuse whatever is not a comparison of columns."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and (id(node) in called) != (node.id in _FUNCTIONS):
            raise EmitterError(
                f"where is '{where}' and '{node.id}' is no function: there are {', '.join(_FUNCTIONS)}"
                if id(node) in called
                else f"where is '{where}' and '{node.id}' is a function: write {node.id}(…)"
            )
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in table.columns():
            raise EmitterError(
                f"where is '{where}' and the table has no column '{node.id}': there are "
                f"{', '.join(table.columns())}"
                + (f"; other columns of the file are not read ({', '.join(unread)})" if unread else "")
            )
        number = not isinstance(node, ast.Constant) or isinstance(node.value, float)
        if not isinstance(node, _ALLOWED) or not number:
            raise EmitterError(f"where is '{where}', with '{ast.unparse(node)[:40]}' in it: {_HOW}")
