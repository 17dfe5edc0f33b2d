"""A derivation: one training step of a network, written out line by line, with its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Tensor, evaluate
from chainrule.nn import Module
from chainrule.ops import key
from chainrule.optim import Optimizer
from chainrule.see.derivation.build import Built, built
from chainrule.see.derivation.lines import Change, Line
from chainrule.see.derivation.trace import TracedStep, graph_of, trace_step
from chainrule.see.derivation.update import Update, change_of, largest, update_lines, updated
from chainrule.see.gradient import loss_function, require_module, rows_of, truth_of
from chainrule.spec import TensorSpec


@dataclass(frozen=True, repr=False, eq=False)
class Derivation:
    """One step as lines: forward, backward, and with an optimizer the update. Printing it shows it.

    A derivation of more than 40 lines shows repeating layers once; ``unfold()`` shows all.
    """

    lines: tuple[Line, ...]
    names: Mapping[str, str]
    """What the names of parameters and buffers stand for: {"W1": "0.weight"}."""
    loss: float | None
    change: Change | None
    """With an optimizer: the weight with the largest gradient, before and after."""
    arrays: Mapping[str, np.ndarray] | None
    step: TracedStep
    given: tuple[np.ndarray, ...]
    built: Built
    update: Update | None = None
    folded: bool = True

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """The array of each line: "z1", "d[W1]"; "W1'" is W1 after the update, "m[W1]'" a new moment.

        Beside the lines: the inputs "x" and "y", parameters "W1", and the update of those that no line is for.
        """
        if self.arrays is None:
            raise ArgumentError(
                "this derivation was made from shapes, so its lines have no values: use "
                "chainrule.derivation(net, loss, x, y)"
            )
        return self.arrays

    def unfold(self) -> Derivation:
        """The same with every line shown."""
        return replace(self, folded=False)

    def text(self, width: int = 100) -> str:
        """Plain text for lines of ``width`` characters."""
        from chainrule.see.derivation.text import as_text

        return as_text(self, width)

    def markdown(self) -> str:
        """Markdown tables, one a section."""
        from chainrule.see.derivation.markdown import as_markdown

        return as_markdown(self)

    def html(self) -> str:
        """HTML without scripts: tables that fold."""
        from chainrule.see.derivation.html import as_html

        return as_html(self)

    def latex(self, name: str | None = None) -> str:
        """LaTeX: an ``align*`` of all lines, or the chain of derivatives from the loss to ``name``.

        name: a parameter or one weight of it, by either name: "0.weight[7, 2]", "W1[7, 2]", "b1", or a value "z1".
        """
        from chainrule.see.derivation.latex import as_latex, chain_as_latex

        return as_latex(self) if name is None else chain_as_latex(self, name)

    def numpy(self) -> str:
        """A program that needs NumPy alone and gives the same bits: loss, gradients and updated parameters."""
        from chainrule.see.derivation.program import as_program

        return as_program(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON has it: lines, names, loss and the change of one weight."""
        return {
            "loss": self.loss,
            "names": dict(self.names),
            "lines": [
                {k: list(v) if isinstance(v, tuple) else v for k, v in vars(line).items()} for line in self.lines
            ],
            "change": None if self.change is None else {**vars(self.change), "steps": list(self.change.steps)},
        }

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def __rich__(self) -> Any:
        from chainrule.see.derivation.terminal import as_rich

        return as_rich(self)

    def _repr_html_(self) -> str:
        return self.html()


def derivation(
    net: Module,
    loss: str | Callable[..., Tensor],
    x: Any,
    y: Any,
    optimizer: Optimizer | None = None,
    *,
    inputs: bool = False,
) -> Derivation:
    """The training step of ``loss(net(x), y)`` written out: forward, backward, and the update of ``optimizer``.

    inputs: also the derivative by x, which training needs not. The network is looked at in the mode that it is in.
    """
    function = loss_function(loss)
    require_module(net, "derivation")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        kind = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else type(optimizer).__name__
        raise ArgumentError(f"derivation takes an optimizer such as optim.SGD(0.1), or None, got {kind}")
    rows, truth = rows_of(net, x), truth_of(y)
    if inputs:
        rows = rows.astype(net.dtype, copy=False)
    update = None if optimizer is None else Update(optimizer, lr=optimizer.lr)
    return derived(net, function, rows, truth, update, inputs=inputs)


def derived(
    net: Module,
    loss: Callable[..., Tensor],
    x: np.ndarray | TensorSpec,
    y: np.ndarray | TensorSpec,
    update: Update | None = None,
    *,
    inputs: bool = False,
    penalties: tuple[float, float] = (0.0, 0.0),
    random_key: Tensor | None = None,
) -> Derivation:
    """A derivation from arrays, or from their shapes alone, and then without values.

    random_key: of the step, for dropout; None: that of seed 0, as ``gradients`` has it.
    """
    specs = [TensorSpec(a.shape, a.dtype) for a in (x, y)]
    step = trace_step(net, loss, specs[0], specs[1], inputs, penalties)
    made = built(step)
    lines = list(made.lines)
    read = set(re.findall(r"\w+", " ".join(f"{line.name} {line.expression}" for line in lines)))
    legend = {name: label for name, label in made.names.legend.items() if name in read}
    state = tuple(t.value("a derivation").copy() for t in step.captured)
    drawn = (key(0) if random_key is None else random_key).value("a derivation")
    arrays = None
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        arrays = _values(made, step, (x, y, drawn, *state))
    weights = {n: s for n, s in step.sources.items() if n != "x"}
    called = {n: made.names.of[s.key] for n, s in weights.items()}
    change = None
    if update is not None and weights:
        label, index = next(iter(weights)), tuple[int, ...]()
        if arrays is not None:
            label, index = largest({n: arrays[f"d[{called[n]}]"] for n in weights})
        others = [called[n] for n in weights if n != label]
        extra = update_lines(update, called[label], others, weights[label].shape)
        lines += [replace(line, number=len(lines) + k) for k, line in enumerate(extra, 1)]
        if arrays is not None:
            change = _update(arrays, update, called, label, index)
    given = (x, y, drawn, *state) if arrays is not None else (drawn, *state)
    loss_value = None if arrays is None else float(arrays["L"])
    return Derivation(tuple(lines), legend, loss_value, change, arrays, step, given, made, update)  # type: ignore[arg-type]


def _values(made: Built, step: TracedStep, given: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    names = list(made.tensors)
    found = evaluate(graph_of(step, [made.tensors[n] for n in names]), *given)
    arrays = {made.names.of[x.key]: a for x, a in zip(step.inputs, given, strict=True)}
    arrays |= {n: np.asarray(a, made.tensors[n].dtype) for n, a in zip(names, found, strict=True)}
    for name in step.reasons:
        source = step.sources[name]
        arrays[f"d[{made.names.of[source.key]}]"] = np.zeros(source.shape, source.dtype)
    return arrays


def _update(
    arrays: dict[str, np.ndarray], update: Update, called: Mapping[str, str], label: str, index: tuple[int, ...]
) -> Change:
    """Add what the update gives to ``arrays``; the change of the weight at ``index`` of ``label``."""
    weights = {n: arrays[c] for n, c in called.items()}
    gradients = {n: arrays[f"d[{c}]"] for n, c in called.items()}
    after = updated(update, weights, gradients)
    for n, (weight, memory) in after.items():
        arrays[f"{called[n]}'"] = weight
        arrays.update({f"{update.optimizer.letters[slot]}[{called[n]}]'": a for slot, a in memory.items()})
    return change_of(update, label, called[label], index, weights, gradients, after[label][0])
