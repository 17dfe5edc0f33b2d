"""The expressions of a nest, numbered: equal ones share a number, arguments come before what uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chainrule.errors import GraphError
from chainrule.kernel.scalar import Const, Gather, Load, Local, Op, Scalar, Variable, children


class Node(NamedTuple):
    """An expression with its arguments as numbers, and what it depends on, all the way down."""

    scalar: Scalar
    arguments: tuple[int, ...]
    variables: frozenset[str]
    locals: frozenset[str]
    buffers: frozenset[int]


class Dag:
    """Numbered expressions. Equality is decided by number, so a shared expression costs nothing twice.

    (Comparing the trees themselves takes exponential time where an expression uses another one twice.)
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._by_identity: dict[int, int] = {}
        self._by_content: dict[tuple, int] = {}

    def number(self, root: Scalar) -> int:
        """The number of an expression; it and what is below it are added where new. The caller keeps ``root`` alive."""
        stack = [(root, False)]
        while stack:
            expression, ready = stack.pop()
            if id(expression) in self._by_identity:
                continue
            below = children(expression)
            if not ready:
                stack.append((expression, True))
                stack.extend((b, False) for b in reversed(below))
                continue
            arguments = tuple(self._by_identity[id(b)] for b in below)
            content = (type(expression).__name__, expression.dtype, *_own(expression), arguments)
            if content not in self._by_content:
                self._by_content[content] = len(self.nodes)
                self.nodes.append(self._node(expression, arguments))
            self._by_identity[id(expression)] = self._by_content[content]
        return self._by_identity[id(root)]

    def below(self, roots: Iterable[int]) -> list[int]:
        """``roots`` and all they need, in ascending order."""
        found: set[int] = set()
        stack = list(roots)
        while stack:
            number = stack.pop()
            if number not in found:
                found.add(number)
                stack.extend(self.nodes[number].arguments)
        return sorted(found)

    def _node(self, expression: Scalar, arguments: tuple[int, ...]) -> Node:
        below = [self.nodes[a] for a in arguments]
        variables = frozenset().union(*(b.variables for b in below))
        locals_ = frozenset().union(*(b.locals for b in below))
        buffers = frozenset().union(*(b.buffers for b in below))
        if isinstance(expression, Variable):
            variables |= {expression.name}
        elif isinstance(expression, Local):
            locals_ |= {expression.name}
        elif isinstance(expression, Load):
            variables |= {name for name, stride in expression.at.strides if stride}
            buffers |= {expression.buffer}
        elif isinstance(expression, Gather):
            buffers |= {expression.buffer}
        return Node(expression, arguments, variables, locals_, buffers)


def _own(expression: Scalar) -> tuple:
    """What tells an expression from another one of its kind, dtype and arguments."""
    if isinstance(expression, Const):
        return (repr(expression.value),)
    if isinstance(expression, (Variable, Local)):
        return (expression.name,)
    if isinstance(expression, Load):
        return (expression.buffer, expression.at, repr(expression.other))
    if isinstance(expression, Gather):
        return (expression.buffer, expression.size, repr(expression.other))
    if isinstance(expression, Op):
        return (expression.name,)
    raise GraphError(f"{type(expression).__name__} is not a scalar expression of chainrule.kernel")
