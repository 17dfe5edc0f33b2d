"""Rows from settings: the data set that a run learns from, prepared the same way each time."""

from __future__ import annotations

from chainrule import data
from chainrule.cli.network import task_named_by
from chainrule.cli.settings import Settings
from chainrule.errors import ArgumentError


def rows_of(settings: Settings) -> data.Dataset:
    """Read the source and prepare it: names, classes, the split by seed, the treatment of missing values."""
    task = task_named_by(settings.loss)
    table = data.read(settings.source, target=settings.target, ignore=settings.ignore)
    held = _validation(settings)
    return data.prepare(
        table,
        target=settings.target if table.target is None else table.target,
        validation=held,
        seed=settings.seed,
        missing=settings.missing,
        task=task,
    )


def _validation(settings: Settings) -> float | str | data.Table | None:
    """The part to hold out: the source's own or a fifth, a share, none, or another file."""
    asked = settings.validation
    if asked == "auto":
        return "auto"
    if asked in ("none", "0"):
        return None
    try:
        share = float(asked)
    except ValueError:
        return data.read(asked, target=settings.target, ignore=settings.ignore)
    if not 0 < share < 1:
        raise ArgumentError(f"--validation is {asked}; give a share of the rows between 0 and 1, a file, or none")
    return share
