"""Story: what a run's directory tells: settings, status, history and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from chainrule.cli.escape import escaped
from chainrule.cli.output import Output
from chainrule.cli.settings import kept_settings
from chainrule.errors import CheckpointError
from chainrule.record import Choice, Epoch, RunConfig, RunDirectory

_EPOCHS_SHOWN = 10


def show_run(path: Path, output: Output) -> None:
    """Read a run, also while it goes on. Damaged checkpoints are named; with none left whole, CheckpointError."""
    with RunDirectory.open(path) as run:
        config, status, history = run.config, run.status, run.record.history()
        steps = run.checkpoints()
        checkpoints = [_checkpoint(run, step) for step in steps]
        if steps and not any(c["whole"] for c in checkpoints):
            run.latest()  # raises, and says of each what is wrong
    reason = f" ({escaped(status.reason, 200)})" if status.reason else ""
    output.show(f"{escaped(path)}: {status.state}{reason}")
    output.table(("", ""), _settings(config))
    if history:
        _show_history(history, output)
    else:
        output.show("no whole epoch yet")
    for checkpoint in checkpoints:
        whole = "" if checkpoint["whole"] else f", DAMAGED: {escaped(checkpoint['damage'])}"
        output.show(f"checkpoint of step {checkpoint['step']:,}, {checkpoint['bytes'] / 1e6:.2f} MB{whole}")
    _next(path, status.state, config, output)
    output.result({
        "schema": 1, "run": str(path), "status": status.state, "reason": status.reason,
        "config": msgspec.to_builtins(config),
        "history": [{"epoch": e.epoch, "step": e.step, "train": e.train, "validation": e.validation} for e in history],
        "checkpoints": checkpoints,
    })  # fmt: skip


def _checkpoint(run: RunDirectory, step: int) -> dict[str, Any]:
    size = (run.path / "checkpoints" / f"step-{step:09d}.safetensors").stat().st_size
    try:
        run.load(step)
    except CheckpointError as error:
        return {"step": step, "bytes": size, "whole": False, "damage": str(error)}
    return {"step": step, "bytes": size, "whole": True}


def _settings(config: RunConfig) -> list[tuple[str, str]]:
    layers = config.architecture.get("layers") or [config.architecture.get("class", "a network of your own")]
    found = [
        ("source", config.source),
        ("target", config.target or ""),
        ("network", " > ".join(map(_layer, layers)) if isinstance(layers, list) else str(layers)),
        ("loss", config.loss.name),
        ("optimizer", _choice(config.optimizer)),
        ("learning-rate schedule", _choice(config.learning_rate_schedule)),
        ("epochs", str(config.epochs)),
        ("batch size", str(config.batch_size)),
        ("seed", str(config.seed)),
        ("held out", f"{config.validation.get('rows', 0):,} rows"),
        ("versions", ", ".join(f"{name} {version}" for name, version in config.versions.items())),
    ]
    return [(name, value) for name, value in found if value]


def _layer(described: Any) -> str:
    """One layer of an architecture in the form of the code that makes it."""
    if not isinstance(described, dict):
        return str(described)
    numbers = [
        v for v in described.get("options", {}).values() if isinstance(v, (int, float)) and not isinstance(v, bool)
    ]
    return f"{described.get('layer')}({', '.join(map(str, numbers))})"


def _choice(choice: Choice) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in choice.arguments.items())
    return f"{choice.name}({arguments})" if arguments else choice.name


def _show_history(history: tuple[Epoch, ...], output: Output) -> None:
    varied = len({epoch.train.get("learning_rate") for epoch in history}) > 1
    train = [name for name in history[-1].train if varied or name != "learning_rate"]
    names = train, list(history[-1].validation)
    header = ("epoch", *(n.replace("_", " ") for n in names[0]), *(f"validation {n}" for n in names[1]))
    shown = history if len(history) <= _EPOCHS_SHOWN else (*history[:2], *history[2 - _EPOCHS_SHOWN :])
    rows = [
        (e.epoch, *(f"{e.train.get(n, float('nan')):.4g}" for n in names[0]),
         *(f"{e.validation.get(n, float('nan')):.4g}" for n in names[1]))
        for e in shown
    ]  # fmt: skip
    output.table(header, rows, right=tuple(range(len(header))))
    if len(shown) < len(history):
        output.show(f"({len(history) - len(shown):,} epochs in between are left out)")


def _next(path: Path, state: str, config: RunConfig, output: Output) -> None:
    settings = kept_settings(path)
    if settings is None or state == "running":
        output.next("info", str(path))
    elif state == "finished":
        output.next("predict", str(path))
    else:
        output.next("train", settings.source, "--run", str(path), "--resume")
