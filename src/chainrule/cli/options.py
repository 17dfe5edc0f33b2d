"""The options that several commands share, with their help."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on its own line, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only what was asked for: no progress, no next line.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run, such as runs/digits.")]
