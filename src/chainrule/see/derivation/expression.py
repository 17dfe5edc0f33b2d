"""Expressions of a derivation: Python syntax trees, filled in from the declared rules and made shorter."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ONE = ast.Constant(1)


def name(identifier: str) -> ast.expr:
    """A value by its name."""
    return ast.Name(identifier, ast.Load())


def derivative(value: ast.expr) -> ast.expr:
    """``d[v]``: the derivative of the loss by v."""
    return ast.Subscript(name("d"), value, ast.Load())


def number(value: float) -> ast.expr:
    """A constant; a negative one as the negation that Python's syntax has for it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def joined(values: list[ast.expr]) -> ast.expr:
    """The sum of several paths, in order."""
    total = values[0]
    for value in values[1:]:
        total = ast.BinOp(total, ast.Add(), value)
    return total


def filled(template: str, values: Mapping[str, ast.expr], words: Mapping[str, Any]) -> ast.expr:
    """A declared rule with expressions in place of ``{dy}``, ``{0}`` …, and words and numbers for other braces.

    A word may hold braces of its own, such as the part of ``x @ W.T + b`` that is there only with a bias.
    """
    while "{" in template:
        template = re.sub(r"\{(\w+)\}", lambda found: _placed(found[1], values, words), template)
    tree = _Filling(values).visit(ast.parse(template, mode="eval").body)
    return simplified(tree)


def _placed(key: str, values: Mapping[str, ast.expr], words: Mapping[str, Any]) -> str:
    if key in values:
        return f"_{key}_"
    word = words[key]
    if isinstance(word, np.dtype):
        return word.name
    if isinstance(word, float):
        return f"{word:.6g}" if math.isfinite(word) else f"{word}"
    return word if isinstance(word, str) else repr(word)


class _Filling(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = {f"_{key}_": value for key, value in values.items()}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        arguments: list[ast.expr] = []
        for given in node.args:
            value = self.visit(given)
            spread = isinstance(value, ast.Tuple) and value in self.values.values()  # {inputs} stands for several
            arguments.extend(value.elts if spread else [value])
        return ast.Call(node.func, arguments, [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords])


def simplified(tree: ast.expr) -> ast.expr:
    """Without factors of 1 and divisions by 1, which say nothing: the derivative of the loss by itself is 1."""
    return _Shorter().visit(tree)


def _is_one(tree: ast.AST) -> bool:
    return isinstance(tree, ast.Constant) and type(tree.value) in (int, float) and tree.value == 1


class _Shorter(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        times = isinstance(node.op, (ast.Mult, ast.MatMult))
        if times and _is_one(left):
            return right
        if (times or isinstance(node.op, (ast.Div, ast.Pow))) and _is_one(right):
            return left
        if times and isinstance(left, ast.UnaryOp) and isinstance(left.op, ast.USub) and _is_one(left.operand):
            return ast.UnaryOp(ast.USub(), right)
        return ast.BinOp(left, node.op, right)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = self.visit(node.value)
        return value if _is_one(value) else ast.Attribute(value, node.attr, ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.expr:
        arguments = [self.visit(a) for a in node.args]
        summed = isinstance(node.func, ast.Name) and node.func.id.startswith("sum_")
        if summed and len(arguments) == 1 and _is_one(arguments[0]):
            return arguments[0]
        return ast.Call(node.func, arguments, node.keywords)


def text(tree: ast.AST) -> str:
    """The expression as Python writes it."""
    return ast.unparse(ast.fix_missing_locations(ast.Expression(tree) if isinstance(tree, ast.expr) else tree))


def parsed(source: str) -> ast.expr:
    """The tree of an expression that ``text`` wrote."""
    return ast.parse(source, mode="eval").body


FUNCTIONS: dict[str, Callable[..., float]] = {"sqrt": math.sqrt, "maximum": max}
"""What an optimizer's formula may call."""


def calculated(tree: ast.AST, values: Mapping[str, float]) -> float:
    """The number that an optimizer's formula gives: arithmetic on the named numbers, and nothing else."""
    if isinstance(tree, ast.Constant):
        return float(tree.value)  # type: ignore[arg-type]
    if isinstance(tree, ast.Name):
        return values[tree.id]
    if isinstance(tree, ast.UnaryOp):
        return -calculated(tree.operand, values)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return FUNCTIONS[tree.func.id](*(calculated(a, values) for a in tree.args))
    assert isinstance(tree, ast.BinOp)
    a, b = calculated(tree.left, values), calculated(tree.right, values)
    if isinstance(tree.op, ast.Add):
        return a + b
    if isinstance(tree.op, ast.Sub):
        return a - b
    if isinstance(tree.op, ast.Mult):
        return a * b
    return a / b if isinstance(tree.op, ast.Div) else a**b


def with_numbers(tree: ast.expr, values: Mapping[str, float]) -> str:
    """A formula with numbers in place of names: ``0.3121 - 0.1 * (-0.018)``."""
    shown = {key: f"({value:.4g})" if value < 0 else f"{value:.4g}" for key, value in values.items()}
    return re.sub(r"\b[a-z]\w*\b(?!\()", lambda found: shown.get(found[0], found[0]), text(tree))
