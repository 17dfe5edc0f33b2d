"""A small training, declared once: built and run here, and printed as a program in chainrule and in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from chainrule.nn import Module
    from chainrule.training.run import Run

Rows = tuple["np.ndarray", "np.ndarray"]


@dataclass(frozen=True)
class Init:
    """How the weights of every layer are drawn: ``auto`` (by the activation that follows), or a name and its values."""

    name: str = "auto"
    values: tuple[float, ...] = ()

    def build(self) -> Any:
        """What ``nn.Linear(init=...)`` takes."""
        from chainrule import nn

        return "auto" if self.name == "auto" else getattr(nn, self.name)(*self.values)

    @property
    def expression(self) -> str:
        """Its call in chainrule."""
        return f"nn.{self.name}({', '.join(map(str, self.values))})"

    def torch_call(self, activation: str) -> str:
        """The call that draws ``layer.weight`` alike in PyTorch."""
        if self.name == "auto":
            relu = 'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")'
            return relu if activation == "ReLU" else "nn.init.xavier_normal_(layer.weight)"
        given = {"Normal": "normal_", "Uniform": "uniform_", "Zeros": "zeros_"}[self.name]
        return f"nn.init.{given}({', '.join(['layer.weight', *map(str, self.values)])})"


@dataclass(frozen=True)
class Program:
    """A training of ``depth`` hidden layers of ``width`` units on the digits, or on XOR."""

    width: int = 64
    depth: int = 1
    activation: str = "ReLU"
    init: Init = Init()
    last: str = ""
    """The activation behind the last layer; none for logits."""
    loss: str = "cross_entropy"
    own_loss: bool = False
    """The loss is handed over as a function, whose meaning chainrule cannot check."""
    optimizer: str = "SGD"
    lr: float = 0.1
    epochs: int = 10
    data: str = "digits"
    inputs_times: float = 1.0
    on_nan: str = "stop"

    @property
    def widths(self) -> list[int]:
        """Units of every layer, the inputs first."""
        inputs, outputs = (2, 1) if self.data == "xor" else (64, 10)
        return [inputs, *[self.width] * self.depth, outputs]

    @property
    def batch_size(self) -> int:
        """XOR has four rows."""
        return 4 if self.data == "xor" else 32

    def rows(self) -> tuple[Rows, Rows]:
        """(the rows to train on, the rows held out); all four of XOR are both."""
        import numpy as np

        from chainrule import data

        if self.data == "xor":
            every = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
            truth = np.array([[0], [1], [1], [0]], np.float32)
            return (every, truth), (every, truth)
        (x, y), (held_x, held_y) = data.load("digits")
        factor = np.float32(self.inputs_times)
        return (x * factor, y), (held_x * factor, held_y)

    def network(self) -> Module:
        """The network, with no weights drawn."""
        from chainrule import nn

        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            layers.append(nn.Linear(inputs, outputs, init=self.init.build()))
            if i < self.depth:
                layers.append(getattr(nn, self.activation)())
        return nn.Sequential(*layers, *([getattr(nn, self.last)()] if self.last else []))

    def fit(self, seed: int = 0, **options: Any) -> Run:
        """Train it; options are those of ``cr.fit``."""
        import chainrule as cr
        from chainrule import optim

        loss: Any = (lambda output, truth: cr.cross_entropy(output, truth)) if self.own_loss else self.loss
        return cr.fit(
            self.network(), self.rows()[0], loss=loss, optimizer=getattr(optim, self.optimizer)(self.lr),
            epochs=self.epochs, batch_size=self.batch_size, seed=seed, on_nan=self.on_nan, progress=False, **options,
        )  # fmt: skip

    def score(self, net: Module) -> tuple[float, float]:
        """(loss over the training rows, share of the held rows that are told right)."""
        import numpy as np

        import chainrule as cr

        (x, y), (held_x, held_y) = self.rows()
        output = net.predict(held_x)
        right = (output > 0.5) == held_y if self.data == "xor" else output.argmax(1) == held_y
        return getattr(cr, self.loss)(cr.tensor(net.predict(x)), y).item(), float(np.mean(right))

    @property
    def description(self) -> str:
        """The network and how it is trained, in a line."""
        units = f"{self.widths[0]} inputs, {self.depth} x {self.width} {self.activation.lower()}, {self.widths[-1]} out"
        last = f" {self.last.lower()}" if self.last else ""
        rows = (
            "XOR"
            if self.data == "xor"
            else f"{self.data}" + (f" x {self.inputs_times:g}" if self.inputs_times != 1 else "")
        )
        first = f", weights {self.init.expression}" if self.init.name != "auto" else ""
        how = f"{self.loss}, {self.optimizer}({self.lr:g}), {self.epochs} epochs"
        return f"{rows}: {units}{last}{first}; {how}"
