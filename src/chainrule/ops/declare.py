"""Declare a primitive in one expression: the door for layer-level operations and for users' own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from chainrule.graph import Primitive
from chainrule.ops.broadcasting import as_tensors
from chainrule.ops.namespace import expanded_specs


def primitive(
    name: str,
    formula: str,
    *,
    evaluate: Callable,
    pullback: Callable,
    shape: Callable | None = None,
    arguments: Callable | None = None,
    draw: Callable | None = None,
    outputs: int = 1,
    meaning: str = "",
    convention: str = "",
    why: tuple[str, ...] = (),
    rule: tuple[str, ...] = (),
    written: str = "",
    terms: Callable | None = None,
    equations: tuple[str, ...] = (),
) -> Primitive:
    """Declare an operation; calling the result applies it.

    name, formula: how it is called and written, in graphs, derivations and the documentation.
    evaluate:  (xp, *inputs, **parameters) -> output, or a tuple if ``outputs`` > 1. ``xp`` is an array namespace: NumPy
               for the reference, chainrule's operations for compiled code, so use only ``xp`` and operators.
    pullback:  (dy, y, *inputs, **parameters) -> a tuple with the cotangent of each input, or None where nothing flows,
               written with chainrule's operations, so that derivatives of any order follow.
    shape:     (*specs, **parameters) -> spec; without it the shapes that ``evaluate`` gives.
    arguments: (what the user passes) -> (inputs, parameters); without it tensors are positional, parameters keywords.
    rule, written, terms, equations: the pullback in symbols and words for derivations, as in ``Primitive``.
    draw:      (Draw) -> (arrays, parameters): a random point for the generated tests.
    """
    keywords = {p.name: p.default for p in inspect.signature(evaluate).parameters.values() if p.kind is p.KEYWORD_ONLY}

    def inferred(*specs: Any, **parameters: Any) -> Any:
        found = expanded_specs(evaluate, specs, parameters)
        return found if outputs > 1 else found[0]

    def plain_arguments(*values: Any, **parameters: Any) -> tuple[tuple, dict]:
        unknown = parameters.keys() - keywords.keys()
        if unknown:
            raise TypeError(
                f"{name}() has no parameter {', '.join(sorted(unknown))}: it has {', '.join(keywords) or 'none'}"
            )
        return as_tensors(name, values), {**keywords, **parameters}

    return Primitive(
        name,
        formula,
        shape or inferred,
        evaluate,
        pullback,
        arguments or plain_arguments,
        draw=draw,
        meaning=meaning,
        convention=convention,
        why=why,
        rule=rule,
        written=written,
        terms=terms,
        equations=equations,
        several=outputs > 1,
    )
