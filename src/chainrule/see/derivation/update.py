"""The update section of a derivation: the optimizer's formula with the names and numbers of this step."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from chainrule.graph import tensor
from chainrule.optim import Clip, Optimizer
from chainrule.optim.layout import places
from chainrule.see.derivation import expression
from chainrule.see.derivation.lines import Change, Line

MOST_OTHERS = 12
"""Parameters that the last line of the update lists by name."""


@dataclass(frozen=True)
class Update:
    """What turns gradients into new parameters, and where training stands.

    memory: for each slot of the optimizer an array a parameter, by ``state_dict`` name; without it, as before the first
    step. step counts the updates made, the one that is derived included.
    """

    optimizer: Optimizer
    step: int = 1
    lr: float = 0.0
    clip: Clip = field(default_factory=Clip)
    memory: Mapping[str, Mapping[str, np.ndarray]] | None = None

    def before(self, label: str, weight: np.ndarray) -> dict[str, np.ndarray]:
        """The optimizer's memory of one parameter."""
        if self.memory is None:
            return self.optimizer.initial(weight)
        return {slot: self.memory[slot][label] for slot in self.optimizer.slots}

    def clipped(self, gradients: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
        """The gradients that the update uses, and the norm of all together."""
        offsets, length = places([g.size for g in gradients.values()])
        flat = np.zeros(length, next(iter(gradients.values())).dtype)
        for offset, g in zip(offsets, gradients.values(), strict=True):
            flat[offset : offset + g.size] = g.ravel()
        after, norm = self.clip.clipped(tensor(flat))
        array = after.numpy()
        return {
            n: array[o : o + g.size].reshape(g.shape) for o, (n, g) in zip(offsets, gradients.items(), strict=True)
        }, norm.item()


def update_lines(update: Update, target: str, others: Sequence[str], shape: tuple[int, ...]) -> list[Line]:
    """The formula for one parameter; the last line says for which others it holds too. Numbers are given later."""
    letters = set(update.optimizer.letters.values())
    clips, steps = update.clip.formula(), update.optimizer.formula(update.step, update.lr)
    known = {"w": expression.name(target), "g": expression.derivative(expression.name(target))}
    known |= {letter: _of(letter, target) for letter in letters}
    lines = []
    for assignment in (*clips, *steps):
        letter, _, formula = assignment.partition(" = ")
        tree = _Naming(known).visit(expression.parsed(formula))
        known[letter] = expression.name(target) if letter == "w" else _of(letter, target)
        name = expression.text(known[letter])
        key = f"{name}'" if letter == "w" or letter in letters else name
        lines.append(Line(0, "update", name, expression.text(tree), shape=shape, key=key))
    rule = f"{type(update.optimizer).__name__}, learning rate {update.lr:g}"
    listed = ", ".join(others) if len(others) <= MOST_OTHERS else f"the other {len(others)} parameters"
    so = f"and so for {listed}" if others else ""
    return [
        *(Line(**{**vars(line), "rule": rule if k == 0 else ""}) for k, line in enumerate(lines[:-1])),
        Line(**{**vars(lines[-1]), "rule": rule if len(lines) == 1 else "", "note": so}),
    ]


def _of(letter: str, target: str) -> ast.expr:
    return ast.Subscript(expression.name(letter), expression.name(target), ast.Load())


class _Naming(ast.NodeTransformer):
    def __init__(self, known: Mapping[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.known.get(node.id, node)


def updated(
    update: Update, weights: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Each parameter after the update and the optimizer's memory of it."""
    clipped, _ = update.clipped(gradients)
    return {
        n: update.optimizer.stepped(w, clipped[n], update.before(n, w), update.step, update.lr)
        for n, w in weights.items()
    }


def largest(gradients: Mapping[str, np.ndarray]) -> tuple[str, tuple[int, ...]]:
    """The parameter and index with the largest gradient in size; one that is not a number counts as 0."""
    sizes = {n: np.nan_to_num(np.abs(g)) for n, g in gradients.items() if g.size}
    label = max(sizes, key=lambda n: sizes[n].max())
    return label, tuple(int(i) for i in np.unravel_index(int(sizes[label].argmax()), sizes[label].shape))


def change_of(
    update: Update,
    label: str,
    name: str,
    index: tuple[int, ...],
    weights: Mapping[str, np.ndarray],
    gradients: Mapping[str, np.ndarray],
    after: np.ndarray,
) -> Change:
    """One weight before and after, with the numbers of each assignment of the formula."""
    clipped, norm = update.clipped(gradients)
    weight, gradient = weights[label], gradients[label]
    values = {"w": float(weight[index]), "g": float(clipped[label][index])}
    memory = update.before(label, weight)
    values |= {letter: float(memory[slot][index]) for slot, letter in update.optimizer.letters.items()}
    steps = []
    if values["g"] != gradient[index]:
        steps.append(f"g = {values['g']:.4g}, clipped from {gradient[index]:.4g} (norm of all: {norm:.4g})")
    for assignment in update.optimizer.formula(update.step, update.lr):
        letter, _, formula = assignment.partition(" = ")
        tree = expression.parsed(formula)
        before, numbers = values.get(letter), expression.with_numbers(tree, values)
        values[letter] = expression.calculated(tree, values)
        if letter == "w":
            steps.append(f"w {before:.4g} -> {values[letter]:.4g} = {numbers}")
        else:
            steps.append(f"{letter} = {numbers} = {values[letter]:.4g}")
    place = f"[{', '.join(map(str, index))}]" if index else ""
    return Change(
        label + place,
        name + place,
        float(weight[index]),
        float(after[index]),
        float(gradient[index]),
        tuple(steps),
    )
