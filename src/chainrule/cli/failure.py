"""Failures: the one line and the exit code that an exception becomes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from chainrule import errors
from chainrule.cli.escape import escaped

FINE, FAILED, USAGE, DAMAGED, ENVIRONMENT, BROKEN_PIPE = 0, 1, 2, 3, 4, 141
INTERRUPTED, TERMINATED = 130, 143

# Messages speak Python; on the command line `missing='mean'` is `--missing mean`.
_ARGUMENT = re.compile(
    r"(?<![\w.-])(target|missing|ignore|validation|epochs|batch_size|clip_norm|seed|resume)="
    r"(?:\[?'([^'\]]*)'\]?|(True)|([\w.]+))?"
)


@dataclass(frozen=True)
class Failure:
    """What is said about an exception. kind: the name of its class."""

    kind: str
    message: str
    code: int

    @property
    def line(self) -> str:
        return f"error: {self.message}"

    def to_dict(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return {"schema": 1, "error": {"kind": self.kind, "message": self.message, "exit": self.code}}


def failure_of(error: Exception) -> Failure:
    """The failure that an exception is to the person at the terminal."""
    code = _code(error)
    message = str(error)
    if isinstance(error, errors.ChainruleError):
        message = _ARGUMENT.sub(_as_option, message)
    elif isinstance(error, OSError):
        message = f"{error.filename or 'the system'}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        message = "not enough memory; take fewer rows, narrower layers or a smaller --batch-size"
    else:
        message = f"this is a fault in chainrule ({type(error).__name__}: {error}); CHAINRULE_TRACEBACK=1 shows where"
    return Failure(type(error).__name__, " ".join(escaped(line) for line in message.splitlines()), code)


def _code(error: Exception) -> int:
    if isinstance(error, (errors.CheckpointError, errors.ArgumentError)) and isinstance(error.__cause__, OSError):
        return ENVIRONMENT  # a full disk, a folder that may not be written: neither input nor checkpoint is to blame
    if isinstance(error, errors.NonFiniteError):
        return FAILED
    if isinstance(error, errors.CheckpointError):
        return DAMAGED
    if isinstance(error, (errors.BusyError, errors.MissingDependencyError, OSError, MemoryError)):
        return ENVIRONMENT
    return USAGE if isinstance(error, errors.ChainruleError) else FAILED


def _as_option(found: re.Match[str]) -> str:
    option = f"--{found[1].replace('_', '-')}"
    value = found[2] or found[4]
    return f"{option} {shlex.quote(value)}" if value else option
