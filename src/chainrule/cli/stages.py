"""Stages: the training step of a run as a derivation, graph, program or machine code, where it was asked to go."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chainrule.cli.escape import escaped
from chainrule.cli.explaining import WIDEST
from chainrule.cli.output import Output, line_width
from chainrule.errors import ArgumentError
from chainrule.graph import Graph
from chainrule.optim import Optimizer, from_description
from chainrule.record.durable import replace_file
from chainrule.see.derivation import Derivation
from chainrule.spec import TensorSpec
from chainrule.training import Run
from chainrule.training.derivation import shapes_of
from chainrule.training.looking import in_training, loss_of
from chainrule.training.options import checked_options
from chainrule.training.step import TrainingStep


@dataclass(frozen=True)
class Asked:
    """The options of `chainrule show`."""

    stage: str
    form: str
    weight: str | None
    every: bool
    out: Path | None
    force: bool

    def __post_init__(self) -> None:
        if self.stage != "derivation" and (self.form != "text" or self.weight is not None):
            raise ArgumentError(f"--format and --weight belong to --stage derivation, and --stage is {self.stage}")
        if self.weight is not None and self.form != "latex":
            raise ArgumentError(f"--weight is for --format latex; --format is {self.form}")
        if self.out is not None and self.out.exists() and not self.force:
            raise ArgumentError(f"--out {str(self.out)!r} is there already; give another name, or --force")


def show_stage(path: Path, asked: Asked, output: Output) -> None:
    """Work out what was asked, and print it or write it to a file."""
    run = Run.load(path)
    found: dict[str, Any] = {"schema": 1, "run": str(path), "stage": asked.stage}
    if asked.stage == "flow":
        flow = run.flow()
        text, data = flow.text(min(line_width(), WIDEST)), flow.to_dict()
    elif asked.stage == "derivation":
        derivation = run.derivation()
        # The lines that called the operations are those of the command line, which say nothing.
        derivation = replace(derivation, lines=tuple(replace(line, source="") for line in derivation.lines))
        derivation = derivation.unfold() if asked.every else derivation
        text, data = _as(derivation, asked), {"format": asked.form, **derivation.to_dict()}
    else:
        text = _compiled(_graph(run), asked.stage)
        data = {}
    _deliver(text, asked, output)
    output.next(*_next(path, asked))
    output.result({**found, **data, "text": text, "out": None if asked.out is None else str(asked.out)})


def _as(derivation: Derivation, asked: Asked) -> str:
    if asked.form == "latex":
        return derivation.latex(asked.weight)
    if asked.form == "html":
        return f'<!doctype html>\n<meta charset="utf-8">\n<title>derivation</title>\n{derivation.html()}'
    if asked.form == "text":
        return derivation.text(min(line_width(), WIDEST))
    return derivation.markdown() if asked.form == "markdown" else derivation.numpy()


def _graph(run: Run) -> Graph:
    config = run.config
    optimizer: Optimizer = from_description({"name": config.optimizer.name, "arguments": config.optimizer.arguments})
    options = checked_options(config.clip_norm, config.clip_value, config.l1, config.l2)
    loss = loss_of(run.config)
    with in_training(run.net):
        kept = run.kept.batches if run.kept else ()
        specs = tuple(TensorSpec(a.shape, a.dtype) for a in kept[0]) if kept else shapes_of(run)
        step = TrainingStep(lambda x, y: loss(run.net(x), y), run.net, optimizer, options, "reference", config.seed)
        return step.trace(specs).graph


def _compiled(graph: Graph, stage: str) -> str:
    if stage == "graph":
        return re.sub(r"    \S+\.py:\d+$", "", str(graph), flags=re.MULTILINE)
    from chainrule.compiler.compile import Compiled, compile_graph

    compiled = compile_graph(graph, "native")
    if not isinstance(compiled, Compiled):
        raise ArgumentError(f"there is no {stage} without the native backend: pip install llvmlite scipy-openblas64")
    return str(compiled.program) if stage == "program" else compiled.source


def _deliver(text: str, asked: Asked, output: Output) -> None:
    if asked.out is None:
        output.show(text)
        return
    if asked.out.is_dir():
        raise ArgumentError(f"--out {str(asked.out)!r} is a directory; give the name of a file")
    replace_file(asked.out, (text + "\n").encode())
    output.say(f"written to {escaped(asked.out)}")


def _next(path: Path, asked: Asked) -> tuple[str, ...]:
    if asked.stage == "derivation" and asked.form == "text":
        return ("show", str(path), "--format", "numpy", "--out", "step.py")
    return ("show", str(path)) if asked.stage != "derivation" else ("show", str(path), "--stage", "graph")
