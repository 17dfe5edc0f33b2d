"""Doors to other people's frameworks: a live PyTorch model is watched, and diagnosed, by the same records and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainrule.errors import ArgumentError

if TYPE_CHECKING:
    from chainrule.adapters.pytorch.watch import Watch
    from chainrule.doctor.report import Report


def is_pytorch(model: Any) -> bool:
    """Whether it is a torch.nn.Module, found without importing PyTorch."""
    return any(c.__module__.startswith("torch.nn.") and c.__name__ == "Module" for c in type(model).__mro__)


def watch(model: Any, optimizer: Any = None, loss: Any = None, every: int | None = None, run_dir: Any = None) -> Watch:
    """Watch a PyTorch model learn, in a ``with`` block around the training loop; its end prints the verdict.

    optimizer: one or several; None: those that step the model's parameters in the block are found.
    loss:      the criterion; None: what `backward` is called on is read from its autograd graph.
    every:     a full measurement every so many updates; None: often at the beginning, then every hundredth.
    run_dir:   a new directory that gets the record as ``record.sqlite``.

    Nothing of the training changes: not a bit of weights, gradients, random numbers, modes or hooks, also when
    the block
    is left by an exception, which passes through. ArgumentError: not a PyTorch model or optimizer.
    """
    if not is_pytorch(model):
        found = type(model)
        raise ArgumentError(
            f"watch takes a torch.nn.Module, got {found.__module__}.{found.__qualname__}. A network of "
            f"chainrule needs no "
            "watching: cr.fit(...) returns a run, and run.examine() judges it"
        )
    from chainrule.adapters.pytorch.watch import Watch

    return Watch(model, optimizer, loss, every, run_dir)


def diagnose(model: Any, data: Any, *, loss: Any, optimizer: Any = None, **options: Any) -> Report:
    """Examine a network before any long run; it is left as it was. Of this package, or a torch.nn.Module.

    data:    of this package: as `cr.fit` takes it; of PyTorch: a batch ``(x, y)``, or a loader of such batches.
    loss:    of this package: its name or a function; of PyTorch: a criterion.
    options: of a network of this package, see `chainrule.doctor.diagnose`; budget: seconds for trials, of both.

    ArgumentError, DataError or ShapeError where data, network and loss do not fit together at all.
    """
    if is_pytorch(model):
        from chainrule.adapters.pytorch.diagnose import diagnose

        return diagnose(model, data, loss, optimizer, **options)
    from chainrule.doctor.diagnosis import diagnose as diagnose_own

    return diagnose_own(model, data, loss=loss, optimizer=optimizer, **options)
