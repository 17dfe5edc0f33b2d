"""A derivation as LaTeX: all lines, and the chain of derivatives from the loss to one weight."""

from __future__ import annotations

import ast
import difflib
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from chainrule.errors import ArgumentError
from chainrule.see.derivation import expression
from chainrule.see.derivation.fold import Fold
from chainrule.see.derivation.lines import Line
from chainrule.see.derivation.text import SECTIONS, entries_of, names_by_label

if TYPE_CHECKING:
    from chainrule.see.derivation.derive import Derivation

GREEK = {"gamma": r"\gamma", "beta": r"\beta", "pi": r"\pi"}
BINDING: dict[type, int] = {
    ast.Add: 1, ast.Sub: 1, ast.Mult: 2, ast.MatMult: 2, ast.Div: 2, ast.Mod: 2, ast.FloorDiv: 2, ast.Pow: 4,
}  # fmt: skip
SIGNS: dict[type, str] = {
    ast.Add: " + ", ast.Sub: " - ", ast.MatMult: r" \, ", ast.Mod: r" \ \mathrm{mod}\ ", ast.FloorDiv: r" \div ",
}  # fmt: skip
RELATIONS: dict[type, str] = {ast.Gt: ">", ast.GtE: r"\geq", ast.Lt: "<", ast.LtE: r"\leq", ast.Eq: "="}
ATOM = 9


def as_latex(derivation: Derivation) -> str:
    """An ``align*`` environment with a row a line; repeating layers are said once."""
    rows = []
    for section in SECTIONS:
        for entry in entries_of(derivation, section):
            rows.append(rf"&\vdots && \text{{{entry.words}}}" if isinstance(entry, Fold) else _row(entry))
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"


def _row(line: Line) -> str:
    sign = r"\leftarrow" if line.section == "update" else "="
    row = f"{formula(line.name)} &{sign} {formula(line.expression)}"
    words = ", ".join(w for w in (f"from {', '.join(map(str, line.cites))}" if line.cites else "", line.equation) if w)
    return row + rf" && \text{{{words}}}" if words else row


def formula(source: str) -> str:
    """LaTeX of an expression of a line: ``d[z1] * (1 - a1 ** 2)``."""
    return _latex(expression.parsed(source))[0]


def _latex(tree: ast.expr) -> tuple[str, int]:
    """(LaTeX, how strongly its outermost sign binds)."""
    if isinstance(tree, ast.Name):
        return symbol(tree.id), ATOM
    if isinstance(tree, ast.Constant):
        return _constant(tree.value), ATOM
    if isinstance(tree, ast.Subscript):
        return _subscript(tree)
    if isinstance(tree, ast.Attribute):  # .T
        return f"{_at_least(tree.value, ATOM)}^{{\\top}}", 5
    if isinstance(tree, ast.UnaryOp):
        return f"-{_at_least(tree.operand, 2)}", 1
    if isinstance(tree, ast.Compare):
        relation = RELATIONS[type(tree.ops[0])]
        return rf"\mathbf{{1}}[{_latex(tree.left)[0]} {relation} {_latex(tree.comparators[0])[0]}]", ATOM
    if isinstance(tree, ast.Call):
        return _call(tree), ATOM
    if isinstance(tree, ast.Tuple):
        return f"({', '.join(_latex(e)[0] for e in tree.elts)})", ATOM
    if isinstance(tree, ast.BinOp):
        return _binary(tree)
    return rf"\mathrm{{{expression.text(tree)}}}", ATOM


def _binary(tree: ast.BinOp) -> tuple[str, int]:
    if isinstance(tree.op, ast.Div):
        return rf"\frac{{{_latex(tree.left)[0]}}}{{{_latex(tree.right)[0]}}}", 3
    if isinstance(tree.op, ast.Pow):
        return f"{_at_least(tree.left, 5)}^{{{_latex(tree.right)[0]}}}", 4
    binds = BINDING[type(tree.op)]
    if isinstance(tree.op, ast.Mult):
        numbers = not all(any(isinstance(n, ast.Name) for n in ast.walk(side)) for side in (tree.left, tree.right))
        sign = r" \cdot " if numbers else r" \odot "
    else:
        sign = SIGNS[type(tree.op)]
    right = binds + 1 if isinstance(tree.op, (ast.Sub, ast.MatMult, ast.Mult)) else binds
    return f"{_at_least(tree.left, binds)}{sign}{_at_least(tree.right, right)}", binds


def _at_least(tree: ast.expr, binds: int) -> str:
    text, own = _latex(tree)
    return text if own >= binds else rf"\left({text}\right)"


def _constant(value: object) -> str:
    if isinstance(value, float):
        shown = f"{value:g}"
        mantissa, _, power = shown.partition("e")
        if not power:
            return shown
        return rf"10^{{{int(power)}}}" if mantissa == "1" else rf"{mantissa} \cdot 10^{{{int(power)}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return rf"\mathrm{{{value}}}" if isinstance(value, str) else str(value)


def _subscript(tree: ast.Subscript) -> tuple[str, int]:
    inside = _latex(tree.slice)[0]
    if isinstance(tree.value, ast.Name) and tree.value.id == "d":
        return rf"\frac{{\partial L}}{{\partial {inside}}}", 3
    return f"{_latex(tree.value)[0]}[{inside.strip('()')}]", ATOM


def _call(tree: ast.Call) -> str:
    name = tree.func.id if isinstance(tree.func, ast.Name) else expression.text(tree.func)
    if name == "sqrt":
        return rf"\sqrt{{{_latex(tree.args[0])[0]}}}"
    if name == "exp" and len(tree.args) == 1:
        return rf"e^{{{_latex(tree.args[0])[0]}}}"
    if name == "abs":
        return rf"\left|{_latex(tree.args[0])[0]}\right|"
    if name == "sum_rows":
        return rf"\sum_{{\mathrm{{rows}}}} {_latex(tree.args[0])[0]}"
    spelt = name.replace("_", r"\ ")
    arguments = [_latex(a)[0] for a in tree.args]
    arguments += [rf"\mathrm{{{(k.arg or '').replace('_', ' ')}}}={_latex(k.value)[0]}" for k in tree.keywords]
    return rf"\mathrm{{{spelt}}}({', '.join(arguments)})"


def symbol(name: str) -> str:
    """``W1`` as W with the index 1, ``h1_2`` with the index 1,2."""
    found = re.fullmatch(r"([A-Za-z]+(?:_[A-Za-z]+)*?)_?(\d*)(?:_(\d+))?(')?", name)
    if not found:
        return rf"\mathrm{{{name.replace('_', ' ')}}}"
    letters, digits, further, prime = found.groups()
    head = GREEK.get(letters) or (letters if len(letters) == 1 else rf"\mathrm{{{letters.replace('_', ' ')}}}")
    index = ",".join(part for part in (digits, further) if part)
    return head + (f"_{{{index}}}" if index else "") + (prime or "")


# ------------------------------------------------------------------------------------------------ the chain of a weight


def chain_as_latex(derivation: Derivation, wanted: str) -> str:
    """dL/dw as a product of local derivatives, one a link, and then what each of them is.

    Where the loss depends on a value by several paths, the chain follows the first and says how many there are.
    """
    name, index = _found(derivation, wanted)
    links, further = chain_of(derivation, name)
    places = [name, *links]
    target = symbol(name) + (f"[{index}]" if index else "")
    whole = _fraction("L", target)
    shown = [target, *map(symbol, places[1:])]
    factors = [_fraction(above, below) for below, above in pairwise(shown)][::-1]
    rows = [f"{whole} &= " + r" \cdot ".join(factors)]
    by_name = {line.name: line for line in derivation.lines if line.section == "backward"}
    rows.extend(_by_sample(by_name[f"d[{name}]"], index, links[0]))
    for below, above in pairwise(places):
        local = _local(by_name[f"d[{below}]"].expression, above)
        rows.append(f"{_fraction(symbol(above), symbol(below))} &= {_latex(local)[0]}")
    if further:
        rows.append(rf"&\text{{and {further} more {'path' if further == 1 else 'paths'}, whose products are added}}")
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"


def _by_sample(line: Line, index: str, above: str) -> list[str]:
    """The gradient of one weight or bias of a layer as a sum over the samples n: error times input activation."""
    places = index.split(", ") if index else []
    error = _fraction("L", f"{symbol(above)}[n, {places[0] if places else ''}]")
    if line.equation == "BP4" and len(places) == 2:
        activation = _latex(_local(line.expression, above))[0]
        return [rf"&= \sum_{{n}} {error} \cdot {activation}[n, {places[1]}]"]
    return [rf"&= \sum_{{n}} {error}"] if line.equation == "BP3" and len(places) == 1 else []


def _fraction(above: str, below: str) -> str:
    return rf"\frac{{\partial {above}}}{{\partial {below}}}"


def chain_of(derivation: Derivation, name: str) -> tuple[list[str], int]:
    """(the values from ``name`` up to the loss, how many further paths leave the chain)."""
    by_name = {line.name: line for line in derivation.lines if line.section == "backward"}
    links, further = [name], 0
    while links[-1] != "L":
        line = by_name.get(f"d[{links[-1]}]")
        if line is None or not line.via or not line.via[0]:
            reason = line.rule if line is not None else "no line of the backward pass is about it"
            raise ArgumentError(f"there is no chain from the loss to {links[-1]}: {reason}")
        further += len(line.via) - 1
        links.append(line.via[0])
    return links[1:], further


def _local(source: str, above: str) -> ast.expr:
    """The local derivative of ``above``: the first path of the line, without the error that comes in."""
    tree = expression.parsed(source)
    first = _first_path(tree, above)
    return expression.simplified(_WithoutError(above).visit(first))


def _first_path(tree: ast.expr, above: str) -> ast.expr:
    """Of a sum over paths the first term that reads the error of ``above``."""
    error = f"d[{above}]"
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        if error in expression.text(tree.right) and error not in expression.text(tree.left):
            return tree.right
        if error not in expression.text(tree.right):
            tree = tree.left
        else:
            break
    return tree


class _WithoutError(ast.NodeTransformer):
    def __init__(self, above: str) -> None:
        self.above = above

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return expression.ONE if ast.unparse(node) == f"d[{self.above}]" else node


def _found(derivation: Derivation, wanted: str) -> tuple[str, str]:
    """(name in the derivation, index or nothing) of "0.weight[7, 2]", "W1[7, 2]", "b1", "z1"."""
    given = re.fullmatch(r"\s*([\w.]+)\s*(?:\[([\d,\s]*)\])?\s*", wanted)
    name = given[1] if given else wanted
    name = names_by_label(derivation.names).get(name, name)
    line = next((entry for entry in derivation.lines if entry.name == f"d[{name}]"), None)
    if line is None or given is None:
        known = [entry.name[2:-1] for entry in derivation.lines if entry.section == "backward"]
        near = difflib.get_close_matches(wanted, [*known, *derivation.names.values()], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"the derivation has no derivative by {wanted!r}{hint}: it has {', '.join(known)}")
    index = (given[2] or "").strip()
    places = [int(i) for i in index.split(",") if i.strip()]
    if places and (len(places) != len(line.shape) or any(i >= n for i, n in zip(places, line.shape, strict=True))):
        raise ArgumentError(f"{name} has the shape {list(line.shape)}, so [{index}] is not in it")
    return name, ", ".join(map(str, places))
