"""Script: run somebody's training script as it is, find the PyTorch models that it trains, and watch them."""

from __future__ import annotations

import contextlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.adapters.pytorch.observer import Observer
from chainrule.adapters.pytorch.watch import Watch


class Enough(BaseException):
    """Ends a script after the updates that were asked for. No Exception, so that the script does not catch it."""


@dataclass(eq=False)
class Found:
    """The models that a script trains, each with its watch, in the order in which they were first called.

    error: what ended the script, if anything did; stopped: whether it was ended after `steps` updates.
    """

    steps: int | None = None
    watches: list[Watch] = field(default_factory=list)
    error: BaseException | None = None
    stopped: bool = False
    _depth: int = 0
    _known: set[int] = field(default_factory=set)

    @property
    def trained(self) -> list[Watch]:
        """The watches of models that an optimizer stepped; of all models, if none was."""
        return [w for w in self.watches if w.observer.steps] or self.watches

    def entering(self, module: Any, args: tuple) -> None:
        """A module is called: the outermost one that learns is a model."""
        import torch

        self._depth += 1
        if self._depth > 1 or id(module) in self._known or not torch.is_grad_enabled():
            return
        if not any(p.requires_grad for p in module.parameters()):
            return
        self._known.add(id(module))
        watch = Watch(module)
        watch.observer.on_step = self.stepped
        watch.__enter__()
        self.watches.append(watch)
        watch.observer.entering(module, args, {})  # its own hook comes too late for this call

    def leaving(self, module: Any, args: tuple, out: Any) -> None:
        """A module returns: an outermost one without weights that takes two tensors is a criterion."""
        import torch

        self._depth -= 1
        pair = len(args) == 2 and all(isinstance(a, torch.Tensor) for a in args)
        if self._depth or not pair or not isinstance(out, torch.Tensor) or out.numel() != 1 or not out.requires_grad:
            return
        for watch in self.watches:
            if watch.observer.criterion in (None, module):
                watch.observer.criterion = module
                watch.observer.judged(module, args, out)

    def stepped(self, observer: Observer) -> None:
        """An update was made: it may be the last that was asked for."""
        if self.steps is not None and observer.steps >= self.steps:
            self.stopped = True
            raise Enough


def watch_script(path: Path, arguments: Sequence[str], steps: int | None = None) -> Found:
    """Run the script as `python path arguments` would, in this process, and watch every model that it trains.

    steps: stop after so many updates of one model. What ends the script is kept in `error`, not raised.
    """
    import torch

    found = Found(steps)
    modules = torch.nn.modules.module
    with contextlib.ExitStack() as stack:
        stack.callback(modules.register_module_forward_pre_hook(found.entering).remove)
        stack.callback(modules.register_module_forward_hook(found.leaving, always_call=True).remove)
        stack.enter_context(_as_main(path, arguments))
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Enough:
            pass
        except SystemExit as end:
            found.error = end if end.code not in (None, 0) else None
        except BaseException as error:  # also Ctrl-C: the verdict comes all the same
            found.error = error
        finally:
            for watch in found.watches:
                watch.stop()
    return found


@contextlib.contextmanager
def _as_main(path: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Arguments and import path as the script would find them."""
    argv, paths = sys.argv, list(sys.path)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, paths
