"""The configuration of a run: what `fit` was asked, typed, so that a run can be repeated and resumed."""

import difflib
import json
import re
from typing import Annotated, Any, Literal

import msgspec

from chainrule.errors import ArgumentError

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something chosen by name, with its arguments: ``Choice("Adam", {"lr": 0.001})``."""

    name: str
    arguments: dict[str, Any] = {}


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `fit` was asked. Plain data only; names come from chainrule's closed lists and are never looked up as code.

    source: where the rows came from, as the user gave it; rows: of the training
    part; target: the column that is predicted, if there is a choice.
    architecture: the network as data. validation: what was held out, and how.
    accumulate: mini-batches an update. versions: of chainrule, Python and numpy.
    """

    source: str
    architecture: dict[str, Any]
    loss: Choice
    optimizer: Choice
    epochs: Positive
    batch_size: Positive
    seed: int
    rows: int | None = None
    target: str | None = None
    learning_rate_schedule: Choice = Choice("constant")
    shuffle: bool = True
    dtype: Literal["float32", "float64"] = "float32"
    backend: str = "native"
    drop_last: bool = False
    accumulate: Positive = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    early_stopping: dict[str, Any] = {}
    on_nan: Literal["stop", "skip"] = "stop"
    validation: dict[str, Any] = {}
    versions: dict[str, str] = {}

    def to_json(self) -> str:
        """Indented JSON that `from_json` turns into an equal configuration. Tuples become lists.

        ArgumentError: NaN, infinity or something that is not plain data.
        """
        try:
            return json.dumps(msgspec.to_builtins(self), indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise ArgumentError(
                f"RunConfig: cannot be written as JSON: {error}. Use finite numbers, text, lists and dictionaries"
            ) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunConfig":
        """Read what `to_json` wrote.

        ArgumentError: not JSON, a key twice, unknown (with the nearest known one) or missing, a value out of range.
        """
        try:
            return msgspec.convert(json.loads(text, object_pairs_hook=_merged), cls)
        except msgspec.ValidationError as error:
            raise ArgumentError(f"RunConfig: {error}{_nearest(str(error))}") from error
        except RecursionError as error:
            raise ArgumentError("RunConfig: nested too deep") from error
        except ValueError as error:
            raise ArgumentError(f"RunConfig: not JSON: {error}") from error


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key in merged:
            raise ArgumentError(f"RunConfig: the key {key!r} stands there twice. Remove one")
        merged[key] = value
    return merged


def _nearest(message: str) -> str:
    unknown = re.search(r"unknown field `(.*?)`( - at)?", message)
    if unknown is None:
        return ""
    known = Choice.__struct_fields__ if unknown[2] else RunConfig.__struct_fields__
    near = difflib.get_close_matches(unknown[1], known, n=1)
    return f". Did you mean `{near[0]}`?" if near else f". Known are {', '.join(known)}"
