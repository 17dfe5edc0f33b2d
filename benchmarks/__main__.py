"""The command: python -m benchmarks MEASURE [workload ...], or doctor; --help lists the measures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.contenders import PEERS, Contender, ours
from benchmarks.machine import machine
from benchmarks.measures import MEASURES, Choice
from benchmarks.workloads import EPOCH_ROWS, USUAL, WORKLOADS


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    described = "; ".join(f"{name}: {(function.__doc__ or '').strip()}" for name, function in MEASURES.items())
    parser.add_argument("measure", choices=MEASURES, help=described)
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; default: all but the last"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--peers", help=f"of {', '.join(p.name for p in PEERS)}; default: all installed; none: no peer")
    parser.add_argument("--backends", help="of chainrule; default: all")
    parser.add_argument("--seconds", type=float, default=2.0, help="of work for each contender on each workload")
    parser.add_argument("--rounds", type=int, default=7, help="turns in which the contenders are timed")
    parser.add_argument("--rows", type=int, default=EPOCH_ROWS, help="of an epoch")
    return parser


def contenders(peers: str | None, backends: str | None) -> tuple[Contender, ...]:
    """Those asked for; SystemExit with the choices for a name that is none."""
    # torch.compile takes minutes on some of them, so it has to be asked for.
    wanted = [p.name for p in PEERS if p.installed and p.name != "torch-compile"] if peers is None else _names(peers)
    chosen = [_one(name, PEERS) for name in wanted]
    for peer in chosen:
        if not peer.installed:
            sys.exit(f"benchmarks: {peer.name} needs {' and '.join(peer.needs)}: pip install -e '.[peers]'")
    own = ours()
    picked = own if backends is None else tuple(_one(f"chainrule-{name}", own) for name in _names(backends))
    return (*picked, *chosen)


def _names(listed: str) -> list[str]:
    return [name for name in listed.split(",") if name and name != "none"]


def _one(name: str, known: tuple[Contender, ...]) -> Contender:
    found = [c for c in known if c.name == name]
    if not found:
        sys.exit(f"benchmarks: no contender {name!r}: there are {', '.join(c.name for c in known)}")
    return found[0]


def main() -> None:
    if sys.argv[1:2] == ["doctor"]:
        from benchmarks import doctor

        doctor.main(sys.argv[2:])
        return
    given = arguments().parse_args()
    names = given.workloads or (["mlp-mnist"] if given.measure in ("epoch", "probes") else list(USUAL))
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        sys.exit(f"benchmarks: no workload {unknown[0]!r}: there are {', '.join(WORKLOADS)}")
    chosen = Choice(
        tuple(WORKLOADS[name] for name in names),
        contenders(given.peers, given.backends),
        given.seconds,
        given.rounds,
        given.rows,
    )
    found = machine()
    print(f"{found['cpu']}, {found['processors']} processors, {found['system']}, Python {found['python']}", flush=True)
    if found["load"] is not None:
        print(f"load before: {found['load']:.2f} (figures are good where it is near 0)\n", flush=True)
    figures = MEASURES[given.measure](chosen)
    print(figures.text)
    for name, reason in figures.failures.items():
        print(f"\n{name} failed: {reason}", file=sys.stderr)
    versions = {k: v for row in figures.rows for k, v in row.get("versions", {}).items()}
    if versions:
        print("\n" + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    if given.json:
        whole = {
            "schema": 1,
            "measure": given.measure,
            "machine": found,
            "results": figures.rows,
            "failures": figures.failures,
        }
        given.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if figures.failures else 0)


if __name__ == "__main__":
    main()
