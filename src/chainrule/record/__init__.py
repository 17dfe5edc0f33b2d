"""What a run leaves behind: its directory, configuration, checkpoints and measurements, as plain numbers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.record.checkpoint import load_checkpoint, load_header, save_checkpoint
    from chainrule.record.compare import Difference, first_difference
    from chainrule.record.config import Choice, RunConfig
    from chainrule.record.facts import Facts
    from chainrule.record.measure import measurements_of
    from chainrule.record.quantities import NETWORK, Quantity
    from chainrule.record.run_directory import (
        Checkpoint,
        RunDirectory,
        Status,
        claim_directory,
        run_name,
        unfinished_runs,
    )
    from chainrule.record.run_record import RunRecord, Series, read_record, series, set_not_finite, write_record
    from chainrule.record.store import Epoch, Measurement, Note, Record, Step
    from chainrule.record.trace import LayerTrace, NetworkTrace

__all__ = [
    "NETWORK",
    "Checkpoint",
    "Choice",
    "Difference",
    "Epoch",
    "Facts",
    "LayerTrace",
    "Measurement",
    "NetworkTrace",
    "Note",
    "Quantity",
    "Record",
    "RunConfig",
    "RunDirectory",
    "RunRecord",
    "Series",
    "Status",
    "Step",
    "claim_directory",
    "first_difference",
    "load_checkpoint",
    "load_header",
    "measurements_of",
    "read_record",
    "run_name",
    "save_checkpoint",
    "series",
    "set_not_finite",
    "unfinished_runs",
    "write_record",
]

# numpy, sqlite3, msgspec and safetensors load with the first name that needs them, so that importing chainrule is fast.
HOMES = {
    "checkpoint": ("load_checkpoint", "load_header", "save_checkpoint"),
    "compare": ("Difference", "first_difference"),
    "config": ("Choice", "RunConfig"),
    "facts": ("Facts",),
    "measure": ("measurements_of",),
    "quantities": ("NETWORK", "Quantity"),
    "run_record": ("RunRecord", "Series", "read_record", "series", "set_not_finite", "write_record"),
    "run_directory": ("Checkpoint", "RunDirectory", "Status", "claim_directory", "run_name", "unfinished_runs"),
    "store": ("Epoch", "Measurement", "Note", "Record", "Step"),
    "trace": ("LayerTrace", "NetworkTrace"),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"chainrule.record.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
