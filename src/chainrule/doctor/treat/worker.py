"""A worker: a process that reads jobs from its standard input, a JSON line each, and answers with a line each.

python -m chainrule.doctor.treat.worker FOLDER THREADS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO


def serve(folder: Path, threads: int, given: TextIO, answers: TextIO) -> None:
    """Replay what is asked for until the input ends."""
    from chainrule.backends.native.runtime import set_threads
    from chainrule.doctor.treat.job import job_of, perform
    from chainrule.doctor.treat.luggage import unpack
    from chainrule.doctor.treat.replay import Replays, as_dict

    set_threads(threads)
    base, replays = unpack(folder), Replays()
    for line in given:
        asked: dict[str, Any] = json.loads(line)
        outcome, _, _ = perform(base, job_of(asked["job"]), replays, asked["seconds"])
        answers.write(json.dumps({"id": asked["id"], "outcome": as_dict(outcome)}) + "\n")
        answers.flush()


def main() -> None:
    """Answers go to the descriptor of standard output; whatever prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin, answers)


if __name__ == "__main__":
    main()
