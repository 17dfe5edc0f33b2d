"""The doctor's benchmark: its table names rules that exist, its runs are counted as they should, and it can go on."""

import json
import sys
from pathlib import Path

import pytest

from peers import peer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import cures, doctor
from benchmarks.faulty import OMITTED, PROGRAMS
from benchmarks.healthy import CONVERGED, HEALTHY
from chainrule.doctor.rules import all_rules
from chainrule.doctor.treat.prescribe import TRANSFORMATIONS

peer("sklearn")  # the programs' data come with it


def test_every_fault_is_the_name_of_a_rule():
    names = {rule.name for rule in all_rules()}
    assert {fault for program in PROGRAMS for fault in program.faults} <= names
    assert all(bool(program.faults) == (program.kind == "faulty") for program in PROGRAMS)


def test_every_entry_of_the_catalogue_is_rebuilt_or_left_out_with_a_reason():
    ids = [program.id for program in PROGRAMS]
    assert len(ids) == len(set(ids)) and not set(ids) & set(OMITTED)
    assert len(ids) + len(OMITTED) == 80 and all(OMITTED.values())


def test_there_are_enough_healthy_runs():
    assert len(HEALTHY) * len(doctor.SEEDS) >= 100 and len(CONVERGED) * len(doctor.SEEDS) >= 50
    assert sum("noise" in program.id for program in CONVERGED) >= 10


def test_every_program_has_rows_and_a_network_that_takes_them():
    for program in (*PROGRAMS, *HEALTHY, *CONVERGED):
        try:
            x, y = program.rows()
        except doctor.RowsMissing:
            continue
        assert len(x) == len(y) and program.net()(x[:3]).shape[0] == 3, program.id


@pytest.mark.long
@pytest.mark.parametrize("program", HEALTHY, ids=lambda program: program.id)
def test_what_is_called_healthy_learns(program):
    """Those whose targets are noisy get half of the way; a network that guesses is not healthy."""
    assert doctor.measured(program.id, 0, 0.0)["progress"] > 0.4


def result(kind: str, *flags: str, seed: int = 0, finished: bool = False) -> dict:
    return {
        "id": kind,
        "seed": seed,
        "kind": kind,
        "faults": ["dead-layer"],
        "flags": list(flags),
        "seconds": 1.0,
        "finished": finished,
        "standing": "plateau",
    }


def test_figures_count_detection_diagnosis_and_false_alarms():
    ran = [
        result("faulty", "dead-layer"),
        result("faulty", "saturated", "dead-layer"),
        result("faulty"),
        result("healthy", "saturated"),
        result("healthy"),
        result("converged", finished=True),
        result("converged", seed=max(doctor.TUNED) + 1),
    ]
    found = doctor.summary(ran)
    assert found["all"]["detected"] == {"of": 3, "is": 2, "share": pytest.approx(2 / 3)}
    assert found["all"]["diagnosed"]["is"] == 1
    assert found["all"]["healthy_flagged"] == {"of": 4, "is": 1, "share": 0.25}
    assert found["all"]["finished"]["is"] == 1 and found["held_out"]["finished"]["of"] == 1
    assert found["0"]["confusion"] == {"dead-layer": {"dead-layer": 1, "saturated": 1, "no flag": 1}}
    assert "not right: 4" in doctor.text(found, ran)


def test_every_faulty_program_has_the_fix_that_the_catalogue_names():
    faulty = {program.id for program in PROGRAMS if program.kind == "faulty"}
    assert faulty == {*cures.FIXES, *cures.NOT_REPLAYED} and not set(cures.FIXES) & set(cures.NOT_REPLAYED)
    assert all(remedy.id in TRANSFORMATIONS for fix in cures.FIXES.values() for remedy in fix)


def mended(name: str, works: bool, cured: bool, first: bool = False, why: str = "") -> dict:
    fix = {"works": works, "said": "what its fix did"}
    return result("faulty", "dead-layer") | {"id": name, "fix": fix, "treated": {
        "cured": cured, "first": first, "alternative": False, "why": why, "cure": ""}}  # fmt: skip


def test_cures_are_counted_where_the_fix_of_the_catalogue_works():
    ran = [
        mended("a", works=True, cured=True, first=True),
        mended("b", works=True, cured=True),
        mended("c", works=True, cured=False, why="no remedy helps"),
        mended("d", works=False, cured=True, first=True),
        mended("e", works=False, cured=False, why="the time was up"),
    ]
    found = doctor.summary(ran)["all"]
    assert found["curable"]["is"] == 3 and found["curable"]["of"] == 5
    assert found["cured"] == {"of": 3, "is": 2, "share": pytest.approx(2 / 3)} and found["cured_by_first"]["is"] == 1
    said = doctor.text(doctor.summary(ran), ran)
    assert "curable and not cured, no remedy helps: 1\nc 0: dead-layer; its fix: what its fix did" in said
    assert "not mended by the catalogue's fix: 2" in said and "the time was up" not in said


def test_a_program_is_measured_with_its_fix_and_its_treatment():
    found = doctor.measured("TDC-SO-IPS17", 0, 15.0)
    assert (
        found["fix"]["works"] and found["fix"]["replayed"] and "scale-learning-rate(lr=0.001)" in found["fix"]["said"]
    )
    assert found["treated"]["cured"] and found["treated"]["first"] and not found["treated"]["why"]


def test_a_run_goes_on_where_it_was_broken_off(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    given = ["--only", "DM-58572274", "--only", "TDC-regr-softmax1", "--seeds", "0", "--log", str(log)]
    doctor.main([*given, "--json", str(tmp_path / "found.json")])
    assert len(log.read_text().splitlines()) == 2
    first = json.loads((tmp_path / "found.json").read_text())
    assert first["figures"]["all"]["detected"]["is"] == 2 and first["tuned_on_seeds"] == [*doctor.TUNED]
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines()[:1]))
    capsys.readouterr()
    doctor.main(given)
    assert "TDC-regr-softmax1 0 faulty" in capsys.readouterr().out and len(log.read_text().splitlines()) == 2
