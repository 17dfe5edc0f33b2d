"""The explanation of one number of a network: its derivative by sample, factor and path, and its update."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.record.trace import LayerTrace, NetworkTrace, Use, behind
from chainrule.see.paths import SHOWN, Chain, Path, chain_of, direction_of, number, unit_of, ways
from chainrule.see.place import Place, array_at, largest, place_named, short_name
from chainrule.see.update import Stepping, Update, update_of

if TYPE_CHECKING:
    from chainrule.nn import Module
    from chainrule.optim import Optimizer

NUDGE = 1e-5
"""Step of the finite difference, times 1 + |value|: in float64 its error is about 1e-10 of the loss."""


@dataclass(frozen=True)
class Factors:
    """activation x error x agreement x uses is the derivative.

    activation, error: root mean squares over samples and uses. agreement: their uncentred cosine, -1 to 1: how far the
    samples pull the same way. uses: how often a sample uses the number.
    """

    activation: float
    error: float
    agreement: float
    uses: float
    noise: float
    """The size that the agreement of unrelated activations and errors would have: 1 / √n."""

    @property
    def product(self) -> float:
        return self.activation * self.error * self.agreement * self.uses


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one number of a network has the derivative that it has. Its text is for reading, ``to_dict`` for programs."""

    trace: NetworkTrace = field(repr=False)
    place: Place
    stepping: Stepping | None = field(default=None, repr=False)
    chosen: int | None = None
    """The sample that was asked for."""
    largest: tuple[tuple[str, float], ...] = ()
    """With no name given: the entries with the largest gradients."""

    @property
    def name(self) -> str:
        """As "0.weight[7, 2]" or "a1[3]"."""
        return str(self.place)

    @cached_property
    def gradient(self) -> float:
        """The derivative of the loss by this number, as the step used it."""
        return float(array_at(self.place, self.trace)[self.place.index])

    @cached_property
    def value(self) -> float | None:
        """The number itself, if it is a parameter."""
        held = self.trace.parameters.get(self.place.name)
        if held is None:
            held = next((p[self.place.name] for p in (w.parameters() for w in self.trace.layers)
                         if self.place.name in p), None)  # fmt: skip
        return None if held is None else float(held[self.place.index])

    @cached_property
    def penalty(self) -> float:
        """The part of the gradient that l1 and l2 make; it belongs to no sample."""
        (l1, l2), w = self.trace.penalty, self.value
        if w is None or len(self.place.index) < 2:
            return 0.0
        return l1 * float(np.sign(w)) + 2 * l2 * w

    @cached_property
    def _uses(self) -> tuple[tuple[int, Use], ...]:
        """(layer, what multiplies the number there and the error there) for every place it is used at."""
        trace, place = self.trace, self.place
        if place.kind == "parameter":
            found = [(i, w) for i, w in enumerate(trace.layers) if place.name in w.parameters() and w.by_row is None]
            return tuple((i, _wide(w.use(place.name, place.index))) for i, w in found)
        error = trace.x_delta if place.kind == "x" else _error_at(trace.layers[place.layer], place.kind)
        assert error is not None
        error = error[behind(place.index)].astype(np.float64).reshape(len(error), -1)
        return ((place.layer, Use(np.ones_like(error), error)),)

    @cached_property
    def by_sample(self) -> np.ndarray:
        """What each sample adds to the derivative; with the penalty they add up to it. float64 [n]

        Where an operation has lost the rows, what all samples add together is shared out evenly.
        """
        n = self.trace.rows
        total = np.zeros(n)
        for part in [(u.activation * u.error).sum(1) / n for _, u in self._uses] + self._parts_by_row:
            total += part if len(part) == n else part.sum() / n
        return total

    @cached_property
    def _parts_by_row(self) -> list[np.ndarray]:
        """What each sample adds where no product is: by pulling its own cotangent back."""
        place = self.place
        odd = [w for w in self.trace.layers if w.by_row is not None and place.name in w.parameters()]
        return [np.asarray(w.by_row(place.name, place.index), np.float64) for w in odd if w.by_row is not None]

    @cached_property
    def factors(self) -> Factors | None:
        """None where the number enters by anything else than a product."""
        uses = [u for _, u in self._uses]
        if not uses or self._parts_by_row:
            return None
        a, e = (np.concatenate([u[i].reshape(-1) for u in uses]) for i in (0, 1))
        big_a, big_e = float(np.abs(a).max(initial=0)), float(np.abs(e).max(initial=0))
        n = self.trace.rows
        if not (big_a and big_e and np.isfinite(big_a) and np.isfinite(big_e)):
            return Factors(_root_mean_square(a), _root_mean_square(e), 0.0, a.size / n, n**-0.5)
        agreement = float((a / big_a) @ (e / big_e) / np.sqrt(((a / big_a) ** 2).sum() * ((e / big_e) ** 2).sum()))
        return Factors(_root_mean_square(a), _root_mean_square(e), agreement, a.size / n, n**-0.5)

    @property
    def form(self) -> str:
        """How the derivative is made, in words."""
        if self.place.kind != "parameter":
            return "sum of errors"
        if self._parts_by_row:
            return "no activation x error form: what each sample's own error gives"
        if not self._uses:
            return "no path to the loss"
        return "sum of activation x error"

    @cached_property
    def zeros(self) -> dict[str, int]:
        """Why samples add exactly nothing -> how many of them."""
        reasons = Counter(self._why_zero(int(s)) for s in np.flatnonzero(self.by_sample == 0))
        return dict(reasons.most_common())

    def _why_zero(self, sample: int) -> str:
        place, trace = self.place, self.trace
        if place.name in trace.reasons:
            return trace.reasons[place.name]
        for at, use in self._uses:
            if len(use.error) != trace.rows or at < 0:
                continue
            layer = trace.layers[at]
            if not use.activation[sample].any():
                return _why_input_is_zero(trace, at)
            slope = _slope_at(layer, place, sample)
            if not use.error[sample].any() and slope is not None and not slope.any():
                return f"{layer.activation} is off" if layer.activation == "relu" else (
                    f"the local derivative of {layer.activation} is 0")  # fmt: skip
            if not use.error[sample].any():
                return "no error arrives"
        return "its uses cancel, or never meet" if self._uses else "its own error gives nothing"

    @cached_property
    def sample(self) -> int:
        """The sample whose chain is shown: the one that was asked for, or the one that adds most."""
        return int(np.abs(self.by_sample).argmax()) if self.chosen is None else self.chosen

    @cached_property
    def chain(self) -> Chain | None:
        """The scalar chain of one sample; None where the number enters by anything else than a product."""
        if not self._uses or self._parts_by_row:
            return None
        at = max(self._uses, key=lambda use: float(np.abs((use[1].activation * use[1].error)[self._row(use[1])]).sum()))
        layer = at[0]
        if len(at[1].error) != self.trace.rows:
            return None
        short = short_name(self.place.name, self.trace)
        return chain_of(self.trace, self.place, short, layer, self.sample, float(self.by_sample[self.sample]))

    def _row(self, use: Use) -> slice | int:
        return self.sample if len(use.error) == self.trace.rows else slice(None)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The derivative by the units of the layers above that the error came by; each has paths ``above`` it.

        The values add up: of this tuple to the derivative (of the sample that was asked for), of ``above`` to the path
        below it.
        """
        found: list[Path] = []
        rows = slice(None) if self.chosen is None else slice(self.chosen, self.chosen + 1)
        kind = self.place.kind if self.place.kind != "parameter" else "z"
        for at, _ in self._uses:
            direction = direction_of(self.trace, self.place, at, rows)
            found.extend(ways(self.trace, kind, at, direction, SHOWN))
        for part in self._parts_by_row:
            found.append(Path("by sample, not followed", float(part[rows].sum()), self.trace))
        if self.penalty and self.chosen is None:
            found.append(Path("penalty", self.penalty, self.trace))
        return tuple(sorted(found, key=lambda path: (path.name.endswith("others"), -abs(path.value))))

    @cached_property
    def update(self) -> Update | None:
        """What the optimizer makes of the gradient, by term; None without one, and for what it does not move."""
        if self.stepping is None or self.value is None or self.place.kind != "parameter":
            return None
        return update_of(
            self.stepping, self.place.name, self.place.index, self.value, self.trace.gradients, self.penalty
        )

    @cached_property
    def finite_difference(self) -> float | None:
        """(L(w + h) - L(w - h)) / 2h in float64, by running the loss; None for a trace that cannot be run again."""
        if self.trace.nudged is None:
            return None
        place, h = self.place, NUDGE * (1 + abs(self.value or 0.0))
        where = place.name if place.kind == "parameter" else place.layer
        up, down = (self.trace.nudged(place.kind, where, place.index, by) for by in (h, -h))
        return (up - down) / (2 * h)

    @property
    def sensitivity(self) -> str:
        """What a small change does, in a sentence."""
        change = 0.01 * self.gradient
        if change == 0:
            why = self.trace.reasons.get(self.place.name)
            return f"raise it by 0.01 and the loss does not change to first order{f': {why}' if why else ''}"
        return f"raise it by 0.01 and the loss {'rises' if change > 0 else 'falls'} by {number(abs(change))}"

    def shown_samples(self, most: int = 5) -> list[tuple[int, float]]:
        """(sample, what it adds), the largest first."""
        order = np.argsort(-np.abs(self.by_sample), kind="stable")[:most]
        return [(int(s), float(self.by_sample[s])) for s in order if self.by_sample[s] != 0]

    def text(self, width: int = 100) -> str:
        """A screen of text, in lines of at most ``width`` characters."""
        from chainrule.see.explanation_text import text_of

        return text_of(self, width)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON has it."""
        f = self.factors
        return {
            "schema": 1, "name": self.name, "kind": self.place.kind, "index": list(self.place.index),
            "short_name": short_name(self.place.name, self.trace), "value": self.value, "gradient": self.gradient,
            "loss": self.trace.loss, "rows": self.trace.rows, "step": self.trace.step, "form": self.form,
            "sensitivity": self.sensitivity, "by_sample": self.by_sample.tolist(), "zeros": self.zeros,
            "penalty": self.penalty, "factors": None if f is None else {**vars(f), "product": f.product},
            "sample": self.sample, "chain": None if self.chain is None else self.chain.to_dict(),
            "paths": [path.to_dict() for path in self.paths],
            "update": None if self.update is None else self.update.to_dict(),
            "finite_difference": self.finite_difference, "largest": [list(entry) for entry in self.largest],
            "reason": self.trace.reasons.get(self.place.name),
        }  # fmt: skip


def _wide(use: Use) -> Use:
    return Use(use.activation.astype(np.float64), use.error.astype(np.float64))


def _error_at(layer: LayerTrace, kind: str) -> np.ndarray:
    return layer.delta if kind == "z" or layer.output_delta is None else layer.output_delta


def _root_mean_square(a: np.ndarray) -> float:
    scale = float(np.abs(a).max(initial=0))
    return scale * float(np.sqrt(np.mean((a / scale) ** 2))) if scale and np.isfinite(scale) else scale


def _why_input_is_zero(trace: NetworkTrace, at: int) -> str:
    layer = trace.layers[at]
    if layer.form == "lookup":
        return "another row of the table is read"
    feeders = [k.parent for k in trace.links if k.child == at]
    above_input = [trace.layers[p].activation for p in feeders if p >= 0]
    if not above_input:
        return "input is 0"
    return "its input activation is 0: relu is off below" if "relu" in above_input else "its input activation is 0"


def _slope_at(layer: LayerTrace, place: Place, sample: int) -> np.ndarray | None:
    """The local derivatives behind the place, of one sample."""
    if layer.local_derivative is None or place.kind == "a":
        return None
    unit = place.index
    if place.kind == "parameter":
        unit = unit_of(layer, layer.parameters()[place.name], place.index)
    return layer.local_derivative[behind(unit, sample)]


# ------------------------------------------------------------------------------------------------ the doors


def explain_trace(
    trace: NetworkTrace,
    name: Any = None,
    *,
    sample: int | None = None,
    optimizer: Any = None,
    stepping: Stepping | None = None,
) -> Explanation:
    """Explain one number of a traced step; see ``explain``. Needs the trace and nothing else.

    stepping: the optimizer with its state; ``optimizer`` alone is at its first update.
    """
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, (int, np.integer))
                               or not 0 <= sample < trace.rows):  # fmt: skip
        raise ArgumentError(f"sample is a row of the batch, from 0 to {trace.rows - 1}, got {sample!r}")
    listed: tuple[tuple[str, float], ...] = ()
    top = None if name is None else re.fullmatch(r"\s*(?:(.+)\.)?top\((\d*)\)\s*", str(name))
    if name is None or top:
        count = int(top[2] or 10) if top else 10
        found = largest(trace, max(count, 1), top[1] if top else None)
        place, listed = found[0][0], tuple((str(p), g) for p, g in found)
    else:
        place = place_named(str(name), trace)
    held = stepping or (None if optimizer is None else Stepping(optimizer, step=trace.step))
    return Explanation(trace, place, held, None if sample is None else int(sample), listed)


def explain(
    net: Module,
    loss: Any,
    x: Any,
    y: Any,
    name: Any = None,
    *,
    optimizer: Optimizer | None = None,
    sample: int | None = None,
    backend: str | None = None,
) -> Explanation:
    """Why one weight, bias, input, pre-activation or activation has the derivative that it has.

    name:      of ``state_dict`` ("0.weight[7, 2]") or of the derivation ("W1[7, 2]", "b1[7]", "z1[7]", "a1[3]", "x[2]";
               layer k counts layers with parameters from 1); without an index the entry with the largest gradient. A
               pair of a module and an index. "top(5)" or "0.top(5)": the largest of the network or of a layer. None:
               the ten largest, and the first of them explained.
    optimizer: adds what its first update makes of the gradient, by term.
    sample:    the row whose chain and paths are shown; by default the chain of the one that adds most, and the paths of
               all together.

    The gradient is that of ``loss(net(x), y)`` in the mode that the network is in. Unknown names and indices out of
    range are an ArgumentError that lists what there is.
    """
    from chainrule.see.gradient import traced_step

    trace = traced_step(net, loss, x, y, "explain", backend)
    return explain_trace(trace, named_in(net, name), sample=sample, optimizer=optimizer)


def named_in(net: Module, name: Any) -> Any:
    """A pair of a module and an index as text; anything else as it is."""
    if not isinstance(name, tuple):
        return name
    module, index = name if len(name) == 2 else (None, ())
    found = next((n for n, m in net.named_modules() if m is module), None)
    if found is None:
        raise ArgumentError("explain takes a name, or a pair of one of the network's modules and an index, as "
                            f"(net[0], (7, 2)), got {name!r}")  # fmt: skip
    entries = index if isinstance(index, tuple) else (index,)
    return f"{found + '.' if found else ''}weight[{', '.join(map(str, entries))}]"
