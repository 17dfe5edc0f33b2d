"""python -m benchmarks doctor: the doctor against faulty programs with known faults, and against healthy runs.

Each program is trained with `cr.fit` and examined; where training cannot start or a value stops being finite, and where
only some seeds are faulty, `cr.diagnose` looks before training instead. Results go to a file of JSON lines, one a
program and seed, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.cures import curable, fixed, line_of_cure, treated
from benchmarks.faulty import OMITTED, PROGRAMS, Program
from benchmarks.healthy import CONVERGED, HEALTHY
from benchmarks.rows import RowsMissing
from benchmarks.table import table

SEEDS = (0, 1, 2, 3, 4, 5, 6)
TUNED = (0, 1, 2, 3, 4)
"""The seeds on which the rules were made, or mended when they had missed. The others were looked at only after that."""

FIELD = (
    ("UMLAUT", "50 of 52", "14 of 52", "all 35 of 35"),
    ("DEFault", "48 of 52", "33 of 52", "-"),
    ("DeepFD", "47 of 52", "27 of 52", "-"),
    ("DeepLocalize", "36 of 52", "7 of 52", "133 of 186 (72 %)"),
    ("AutoTrainer", "12 of 52", "10 of 52", "-"),
    ("DeepDiagnosis", "-", "-", "68 of 188 (36 %)"),
)
"""Detected and diagnosed of 52 real programs, and healthy models flagged, from the result files that the tools' authors
and those who compared them published (Benchmark/Evaluation.xlsx of DeepFD, EvaluationDEFault.xlsx, the tables of
DeepDiagnosis and UMLAUT's outputs). They were not measured here, and not on these rebuilt programs."""


def programs() -> tuple[Program, ...]:
    return (*PROGRAMS, *HEALTHY, *CONVERGED)


# ------------------------------------------------------------------------------------------------ one program


def measured(name: str, seed: int, treat: float) -> dict[str, Any]:
    """What the doctor says of one program with one seed; `left out` with the reason where it cannot be run."""
    program = next(p for p in programs() if p.id == name)
    began = time.perf_counter()
    result: dict[str, Any] = {"id": name, "seed": seed, "kind": program.kind, "faults": program.faults}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result |= _judged(program, seed, treat)
    except RowsMissing as missing:
        result["left_out"] = f"needs {missing}"
    return result | {"seconds": round(time.perf_counter() - began, 2)}


def _judged(program: Program, seed: int, treat: float) -> dict[str, Any]:
    import chainrule as cr
    from chainrule.errors import ChainruleError

    x, y = program.rows()
    net, options = program.net(), program.options
    run, refused = None, ""
    common = {"loss": program.loss, "optimizer": program.optimizer, "batch_size": program.batch, "seed": seed}
    if not program.odds:
        try:
            run = cr.fit(net, (x, y), epochs=program.epochs, progress=False, **common, **options)
        except ChainruleError as error:
            refused = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    try:
        if run is not None:
            report = run.examine()
        else:
            report = cr.diagnose(program.net(), (x, y), epochs=program.epochs, l2=options.get("l2", 0.0), **common)
    except ChainruleError as error:
        nothing = {"standing": "refused", "finished": False, "flags": [], "findings": []}
        return nothing | {"refused": refused, "evidence": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    result = {
        "refused": refused,
        "standing": report.standing.name,
        "sentence": report.standing.sentence,
        "progress": report.standing.progress,
        "finished": report.standing.finished,
        "flags": [f.name for f in report.flags],
        "findings": [f.name for f in report.findings],
        "evidence": report.flags[0].evidence if report.flags else "",
        "examined": round(report.seconds, 4),
    }
    if treat and program.kind == "faulty":
        result |= {"fix": fixed(program.id, report, treat), "treated": treated(report, treat)}
    return result


# ------------------------------------------------------------------------------------------------ all of them


def main(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks doctor", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", action="append", metavar="ID", help="programs whose id contains this; may be repeated"
    )
    parser.add_argument("--kind", action="append", choices=("faulty", "control", "neutral", "healthy", "converged"))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of the runs, with commas between")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--treat", type=float, default=0.0, metavar="SECONDS", help="prove a cure within so many seconds each"
    )
    parser.add_argument(
        "--log", type=Path, default=Path("doctor.jsonl"), help="a line for each result; those in it are not run again"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and results there too")
    options = parser.parse_args(given)
    seeds = [int(s) for s in options.seeds.split(",")]
    wanted = [p for p in programs() if (not options.kind or p.kind in options.kind)
              and (not options.only or any(part in p.id for part in options.only))]  # fmt: skip
    if not wanted:
        sys.exit(f"benchmarks: no program is called {options.only}: there are {', '.join(p.id for p in programs())}")
    pairs = [(p.id, seed) for seed in seeds for p in wanted]
    results = _run(pairs, options.log, options.jobs, options.treat)
    figures = summary(results)
    print(text(figures, results))
    if options.json:
        whole = {"schema": 1, "measure": "doctor", "tuned_on_seeds": TUNED, "figures": figures, "results": results,
                 "omitted": OMITTED}  # fmt: skip
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _run(pairs: list[tuple[str, int]], log: Path, jobs: int, treat: float) -> list[dict[str, Any]]:
    """The results of all pairs, those from the log among them."""
    known = {}
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            known[found["id"], found["seed"]] = found
    left = [pair for pair in pairs if pair not in known]
    with log.open("a", encoding="utf-8") as file:
        for result in _results(left, jobs, treat):
            known[result["id"], result["seed"]] = result
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"{len(known):4d}  {line_of(result)}", flush=True)
    return [known[pair] for pair in pairs]


def _results(left: list[tuple[str, int]], jobs: int, treat: float) -> Iterable[dict[str, Any]]:
    if jobs < 2:
        yield from (measured(name, seed, treat) for name, seed in left)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(measured, name, seed, treat) for name, seed in left]):
            yield done.result()


def line_of(result: dict[str, Any]) -> str:
    if "left_out" in result:
        return f"{result['id']} {result['seed']}: left out, {result['left_out']}"
    verdict = {True: "right", False: "WRONG"}[right(result)]
    return (f"{result['id']} {result['seed']} {result['kind']} {verdict}: {result['standing']}, "
            f"{', '.join(result['flags']) or 'no flag'} ({result['seconds']:.1f} s)")  # fmt: skip


def right(result: dict[str, Any]) -> bool:
    """Of a faulty program: the first finding names its fault. Of a healthy one: no flag, and finished if it is."""
    if result["kind"] == "faulty":
        return bool(result["flags"]) and result["flags"][0] in result["faults"]
    return not result["flags"] and (result["kind"] != "converged" or result["finished"])


def _proven(result: dict[str, Any]) -> bool:
    """Whether the first finding's own remedy was proven: an alternative to what the catalogue names."""
    return bool(result.get("treated", {}).get("alternative"))


def share(part: int, whole: int) -> dict[str, Any]:
    return {"of": whole, "is": part, "share": part / whole if whole else None}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures for each seed and for all of them; `held_out` are the seeds on which no rule was made."""
    ran = [r for r in results if "left_out" not in r]
    by = {str(seed): [r for r in ran if r["seed"] == seed] for seed in sorted({r["seed"] for r in ran})}
    by["held_out"] = [r for r in ran if r["seed"] not in TUNED]
    by["all"] = ran
    return {name: _figures(found) for name, found in by.items() if found}


def _figures(ran: list[dict[str, Any]]) -> dict[str, Any]:
    of = {
        kind: [r for r in ran if r["kind"] == kind] for kind in ("faulty", "control", "neutral", "healthy", "converged")
    }
    healthy = of["healthy"] + of["control"] + of["converged"]
    cures = [r for r in of["faulty"] if curable(r)]
    causes: dict[str, Counter[str]] = {}
    for r in of["faulty"]:
        causes.setdefault(r["faults"][0], Counter())[r["flags"][0] if r["flags"] else "no flag"] += 1
    return {
        "detected": share(sum(bool(r["flags"]) for r in of["faulty"]), len(of["faulty"])),
        "diagnosed": share(sum(right(r) for r in of["faulty"]), len(of["faulty"])),
        "diagnosed_or_proven": share(sum(right(r) or _proven(r) for r in of["faulty"]), len(of["faulty"])),
        "curable": share(len(cures), sum("fix" in r for r in of["faulty"])),
        "cured": share(sum(r["treated"]["cured"] for r in cures), len(cures)),
        "cured_by_first": share(sum(r["treated"]["first"] for r in cures), len(cures)),
        "healthy_flagged": share(sum(bool(r["flags"]) for r in healthy), len(healthy)),
        "neutral_flagged": share(sum(bool(r["flags"]) for r in of["neutral"]), len(of["neutral"])),
        "finished": share(sum(r["finished"] for r in of["converged"]), len(of["converged"])),
        "seconds": round(sum(r["seconds"] for r in ran), 1),
        "confusion": {cause: dict(found.most_common()) for cause, found in sorted(causes.items())},
    }


def text(figures: dict[str, Any], results: list[dict[str, Any]]) -> str:
    names = ("detected", "diagnosed", "curable", "cured", "cured_by_first", "healthy_flagged", "neutral_flagged",
             "finished")  # fmt: skip
    header = ["seeds", *(n.replace("_", " ") for n in names), "seconds"]
    lines = [[group, *map(_shown, (found[n] for n in names)), found["seconds"]] for group, found in figures.items()]
    parts = [table(header, lines)]
    parts.append(table(["published (detected, diagnosed of 52 programs; healthy)", "", "", ""], FIELD))
    confused = figures.get("all", {}).get("confusion", {})
    listed = [[cause, ", ".join(f"{n} {name}" for name, n in found.items())] for cause, found in confused.items()]
    if listed:
        parts.append(table(["the catalogue's fault", "first finding"], listed))
    missed = [line_of(r) for r in results if "left_out" in r or (not right(r) and r["kind"] != "neutral")]
    parts.append("\n".join([f"not right: {len(missed)}", *missed]))
    parts += cures_of(results)
    parts.append("\n".join(["not rebuilt:", *(f"{name}: {reason}" for name, reason in OMITTED.items())]))
    return "\n\n".join(parts)


def cures_of(results: list[dict[str, Any]]) -> list[str]:
    """Programs that a fix mends and the doctor does not, by reason, and those that their fix does not mend."""
    asked = [r for r in results if "fix" in r]
    missed = [r for r in asked if curable(r) and not r["treated"]["cured"]]
    beyond = [r for r in asked if not curable(r)]
    reasons = Counter(r["treated"]["why"] for r in missed)
    parts = []
    for reason, count in reasons.most_common():
        listed = [line_of_cure(r) for r in missed if r["treated"]["why"] == reason]
        parts.append("\n".join([f"curable and not cured, {reason}: {count}", *listed]))
    if beyond:
        listed = [f"{r['id']} {r['seed']}: {r['fix']['said']}" for r in beyond]
        parts.append("\n".join([f"not mended by the catalogue's fix: {len(beyond)}", *listed]))
    return parts


def _shown(part: dict[str, Any]) -> str:
    return f"{part['is']}/{part['of']} {part['share']:.1%}" if part["of"] else "-"
