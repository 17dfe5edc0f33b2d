"""A case: a record with its standing, and the questions that rules ask of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.doctor.standing import Standing
from chainrule.record import Quantity, RunRecord
from chainrule.record.facts import Facts, LayerFacts


@dataclass(frozen=True, eq=False)
class Case:
    """What rules read."""

    record: RunRecord
    standing: Standing

    @property
    def facts(self) -> Facts:
        return self.record.facts

    @property
    def progress(self) -> float:
        """Share of the constant prediction's loss that training took away; 0 where it is not known."""
        return self.standing.progress or 0.0

    @property
    def dense(self) -> tuple[LayerFacts, ...]:
        """Layers that multiply by weights, from the input on: those with an activation that was measured."""
        return tuple(x for x in self.record.layers if len(self.record.measured(x.name, Quantity.ACTIVATION)))

    @property
    def hidden(self) -> tuple[LayerFacts, ...]:
        """The same without the last."""
        return self.dense[:-1]

    def values(self, layer: LayerFacts, quantity: Quantity) -> list[tuple[int, float]]:
        """(step, value) of the first and the latest measurement; one if there is only one, none if there is none."""
        found = self.record.measured(layer.name, quantity)
        if not len(found):
            return []
        ends = [(int(found.steps[i]), float(found.values[i])) for i in (0, -1)]
        return ends if len(found) > 1 else ends[:1]

    def last(self, layer: LayerFacts, quantity: Quantity) -> float | None:
        """The latest measurement."""
        return self.record.last(layer.name, quantity)

    def first(self, layer: LayerFacts, quantity: Quantity) -> float | None:
        """The earliest measurement."""
        return self.record.first(layer.name, quantity)

    def moments(self) -> Iterator[tuple[int, dict[str, dict[Quantity, float]]]]:
        """(step, quantities by layer) at the first and the latest step that was measured."""
        ends = [
            (int(found.steps[0]), int(found.steps[-1])) for found in self.record.measurements.values() if len(found)
        ]
        if not ends:
            return
        for step in dict.fromkeys((min(first for first, _ in ends), max(last for _, last in ends))):
            table: dict[str, dict[Quantity, float]] = {}
            for (layer, quantity), found in self.record.measurements.items():
                at = np.flatnonzero(found.steps == step)
                if len(at):
                    table.setdefault(layer, {})[Quantity(quantity)] = float(found.values[at[0]])
            yield step, table
