"""The options that several commands share, with their help."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on its own line, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only what was asked for: no progress, no next line.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it to this file.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run, such as runs/digits.")]
