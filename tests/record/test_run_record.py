"""The record that the doctor reads: measured from a trace, written to SQLite and read back."""

import math

import numpy as np
import pytest

from chainrule.errors import ArgumentError, CheckpointError
from chainrule.record import (
    Facts,
    LayerTrace,
    NetworkTrace,
    Quantity,
    Record,
    RunRecord,
    Series,
    Step,
    measurements_of,
    read_record,
    series,
    write_record,
)
from chainrule.record.facts import (
    ColumnFacts,
    DataFacts,
    Head,
    LayerFacts,
    NotFinite,
    SweepPoint,
    TargetFacts,
    TrainingFacts,
    TrialFacts,
)


def layer(name: str, rng: np.random.Generator, positions: int = 0, **fields) -> LayerTrace:
    middle = (positions,) if positions else ()
    a, z = rng.normal(size=(8, *middle, 5)), rng.normal(size=(8, *middle, 3))
    return LayerTrace(name, "Linear", a, z, rng.normal(size=z.shape), rng.normal(size=(3, 5)), **fields)


def by_quantity(trace: NetworkTrace, name: str) -> dict[str, float]:
    return {str(m.quantity): m.value for m in measurements_of(trace) if m.layer == name}


@pytest.mark.parametrize("positions", [0, 4])
def test_the_gradient_is_the_product_of_uses_activation_error_and_agreement(positions):
    traced = layer("0", np.random.default_rng(0), positions)
    found = by_quantity(NetworkTrace((traced,), 1.0, 8), "0")
    rows = [np.atleast_2d(d).T @ np.atleast_2d(a) for a, d in zip(traced.a, traced.delta, strict=True)]
    gradient = np.sqrt(np.mean(np.mean(rows, axis=0) ** 2))
    assert found["gradient"] == pytest.approx(gradient)
    assert found["uses"] * found["activation"] * found["error"] * found["agreement"] == pytest.approx(gradient)
    assert found["agreement"] <= 1


def test_the_noise_of_a_gradient_is_its_standard_error_over_rows():
    traced = layer("0", np.random.default_rng(1))
    each = np.einsum("nj,ni->nji", traced.delta, traced.a)
    standard_error = each.std(axis=0, ddof=1) / np.sqrt(len(each))
    found = by_quantity(NetworkTrace((traced,), 1.0, 8), "0")
    assert found["noise"] == pytest.approx(np.sqrt(np.mean(standard_error**2)))


def test_dead_and_saturated_units_and_twins_are_counted():
    rng = np.random.default_rng(2)
    slope = np.ones((8, 3))
    slope[:, 1] = 0
    assert by_quantity(NetworkTrace((layer("0", rng, local_derivative=slope),), 1.0, 8), "0")["dead"] == pytest.approx(
        1 / 3
    )
    slope = np.full((8, 3), 0.25)
    slope[:4] = 0.001
    saturated = layer("0", rng, local_derivative=slope, activation="sigmoid")
    assert by_quantity(NetworkTrace((saturated,), 1.0, 8), "0")["saturated"] == pytest.approx(0.5)
    weight = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])
    twins = LayerTrace("0", "Linear", rng.normal(size=(8, 2)), np.ones((8, 3)), np.ones((8, 3)), weight)
    assert by_quantity(NetworkTrace((twins,), 1.0, 8), "0")["twins"] == pytest.approx(2 / 3)


def test_the_gains_of_a_link_multiply_to_the_ratio_of_the_errors():
    rng = np.random.default_rng(3)
    upper = LayerTrace("2", "Linear", rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), rng.normal(size=(8, 2)),
                       rng.normal(size=(2, 3)))  # fmt: skip
    slope = rng.uniform(size=(8, 3))
    delta = upper.delta @ upper.weight * slope
    lower = LayerTrace("0", "Linear", rng.normal(size=(8, 5)), rng.normal(size=(8, 3)), delta,
                       rng.normal(size=(3, 5)), None, "tanh", slope)  # fmt: skip
    found = by_quantity(NetworkTrace((lower, upper), 1.0, 8), "0")
    ratio = np.linalg.norm(lower.delta) / np.linalg.norm(upper.delta) * np.sqrt(16 / 24)
    assert found["derivative gain"] * found["weight gain"] == pytest.approx(ratio)
    assert found["weight gain"] == pytest.approx(
        np.sqrt(np.mean((upper.delta @ upper.weight) ** 2) / np.mean(upper.delta**2))
    )


def test_values_that_are_not_finite_are_counted_and_make_no_noise():
    traced = layer("0", np.random.default_rng(4))
    traced.z[0, 0] = math.inf
    found = by_quantity(NetworkTrace((traced,), math.nan, 8), "0")
    assert found["not finite"] == pytest.approx(1 / (40 + 24 + 24))
    assert "gradient" not in found


FACTS = Facts(
    layers=(
        LayerFacts(name="0", kind="Linear", inputs=5, outputs=3, activation="relu", unreachable={"0.bias": "cut"}),
    ),
    head=Head(loss="cross_entropy", outputs=3, activation="softmax", output_range=(0.0, math.inf)),
    training=TrainingFacts(optimizer="Adam", arguments={"lr": 0.01, "betas": [0.9, 0.999]}, clip_norm=1.0),
    data=DataFacts(
        rows=10,
        columns=ColumnFacts(mean=(0.0,), std=(1.0,), low=(-1.0,), high=(1.0,), duplicated=((0, 1),)),
        target=TargetFacts(kind="classes", counts=(5, 5, 0)),
    ),
    not_finite=NotFinite(step=3, operation="exp"),
    trials=TrialFacts(sweep=(SweepPoint(lr=0.1, loss=math.inf),), probability={"dead layer": 0.25}),
)


def test_facts_and_measurements_survive_the_file(tmp_path):
    run = RunRecord(facts=FACTS, measurements={("0", "gradient"): series([1.0, 0.5], [10, 20])})
    with Record.create(tmp_path / "record.sqlite") as store:
        store.append_steps([Step(1, 1, 2.0, 0.01, 8, 0.1), Step(2, 1, 1.0, 0.01, 8, 0.1)])
        store.append_epoch(1, 2, "validation", {"loss": 1.5})
        write_record(run, store)
        write_record(run, store)  # what is there is kept
    found = read_record(tmp_path / "record.sqlite")
    assert found.facts == FACTS
    assert found.loss.values.tolist() == [2.0, 1.0] and found.steps == 2
    assert found.validation["loss"].values.tolist() == [1.5]
    assert found.measured("0", Quantity.GRADIENT).values.tolist() == [1.0, 0.5]
    assert found.last("0", Quantity.ERROR) is None
    assert [entry.name for entry in found.layers] == ["0"]


def test_damaged_foreign_and_newer_facts_are_named(tmp_path):
    path = tmp_path / "record.sqlite"
    with Record.create(path) as store:
        assert read_record(store).facts == Facts()
        damaged = ("no json", '{"schema": 1, "layers": 3}', "[]")
        for text, message in (*((t, "damaged") for t in damaged), ('{"schema": 9}', "newer")):
            store.set_meta("facts", text)
            with pytest.raises(CheckpointError, match=message):
                read_record(store)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(CheckpointError, match="empty"):
        read_record(tmp_path / "empty.sqlite")


def test_a_series_needs_as_many_steps_as_values():
    with pytest.raises(ArgumentError, match="same length"):
        Series(np.zeros(2, np.int64), np.zeros(3))
