"""Luggage: a plan as files that carry no code, so that another process can replay it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.doctor.treat.plan import Plan, Start, Truth
from chainrule.nn import description_of, sequential_of
from chainrule.nn.module import State
from chainrule.ops import LOSSES
from chainrule.optim import LearningRateSchedule, describe, from_description
from chainrule.training.head import LOSS_CLASSES
from chainrule.training.options import StepOptions, checked_options
from chainrule.training.settings import loss_choice

SPEC, ARRAYS = "plan.json", "plan.safetensors"


def portable(plan: Plan) -> bool:
    """Whether network and loss are this package's own, so that they can be described without code."""
    known = plan.loss in LOSSES.values() or type(plan.loss) in LOSS_CLASSES
    return known and description_of(plan.net) is not None


def pack(plan: Plan, folder: Path) -> None:
    """Write a portable plan into a folder."""
    from safetensors.numpy import save_file

    states = dict(plan.net._named_states(State))
    spec = {
        "layers": description_of(plan.net),
        "dtype": plan.net.dtype.name,
        "streams": {n: s.stream for n, s in states.items()},
        "drawing": {n: m.stream for n, m in plan.net.named_modules() if m.draws},
        "frozen": [n for n, p in plan.net.named_parameters() if not p.requires_grad],
        "loss": _loss_entry(plan),
        "optimizer": describe(plan.optimizer),
        "schedule": None if plan.schedule is None else describe(plan.schedule),
        "truth": asdict(plan.truth),
        "options": {"norm": plan.options.clip.norm, "value": plan.options.clip.value, "l1": plan.options.l1,
                    "l2": plan.options.l2},
        "start": None if plan.start is None else {n: getattr(plan.start, n) for n in POSITION},
        **{name: getattr(plan, name) for name in PLAIN},
    }  # fmt: skip
    arrays = {"x": plan.x, "y": plan.y}
    if plan.held is not None:
        arrays |= {"held_x": plan.held[0], "held_y": plan.held[1]}
    if not plan.drawn:
        arrays |= {f"net.{n}": s.array for n, s in states.items()}
    if plan.start is not None:
        arrays |= {f"start.{n}": a for n, a in plan.start.arrays.items()}
    folder.joinpath(SPEC).write_text(json.dumps(spec), encoding="utf-8")
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / ARRAYS)


PLAIN = ("loss_name", "steps", "batch_size", "shuffle", "drop_last", "skip_bad", "seed", "patience", "drawn", "backend")
"""Fields of a plan that JSON holds as they are."""


POSITION = ("step", "epoch", "batch", "schedule")
"""Fields of a start that JSON holds as they are."""


def unpack(folder: Path) -> Plan:
    """The plan in a folder."""
    from safetensors.numpy import load_file

    spec: dict[str, Any] = json.loads(folder.joinpath(SPEC).read_text(encoding="utf-8"))
    arrays = load_file(folder / ARRAYS)
    net = sequential_of(spec["layers"]).to(spec["dtype"]).train()
    for name, state in net._named_states(State):
        state.stream = spec["streams"][name]
    for name, module in net.named_modules():
        if name in spec["drawing"]:
            module.stream = spec["drawing"][name]
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name not in spec["frozen"]
    values = {n.removeprefix("net."): a for n, a in arrays.items() if n.startswith("net.")}
    if values:
        net.load_state_dict(values, strict=False)
    begun = {n.removeprefix("start."): a for n, a in arrays.items() if n.startswith("start.")}
    options = spec["options"]
    return Plan(
        net=net, loss=_loss_of(spec["loss"]), x=arrays["x"], y=arrays["y"],
        held=(arrays["held_x"], arrays["held_y"]) if "held_x" in arrays else None, truth=Truth(**spec["truth"]),
        optimizer=from_description(spec["optimizer"]),
        schedule=None if spec["schedule"] is None else from_description(spec["schedule"], LearningRateSchedule),
        options=StepOptions() if not any(options.values()) else checked_options(**_named(options)),
        start=None if spec["start"] is None else Start(arrays=begun, **spec["start"]),
        **{name: spec[name] for name in PLAIN},
    )  # fmt: skip


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"clip_norm": options["norm"], "clip_value": options["value"], "l1": options["l1"], "l2": options["l2"]}


def _loss_entry(plan: Plan) -> dict[str, Any]:
    named = next((n for n, f in LOSSES.items() if f is plan.loss), None)
    if named is not None:
        return {"name": named, "arguments": None}
    choice = loss_choice(LOSS_CLASSES[type(plan.loss)], plan.loss)
    return {"name": choice.name, "arguments": choice.arguments}


def _loss_of(entry: dict[str, Any]) -> Any:
    if entry["arguments"] is None:
        return LOSSES[entry["name"]]
    kind = next(made for made, known in LOSS_CLASSES.items() if known == entry["name"])
    return kind(**{k: np.array(v) if isinstance(v, list) else v for k, v in entry["arguments"].items()})
