"""The pipeline: metrics, early stopping, callbacks, history, runs and what a network keeps from fit to fit."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import recipes
from chainrule import data, nn, optim
from chainrule.errors import ArgumentError, CheckpointError, NotFittedError, UnreachableWarning
from peers import peer

GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(60, 4)).astype(np.float32)
CLASSES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
BITS = (X[:, 0] + X[:, 1] > 0).astype(np.int64)
NUMBERS = (X @ np.array([[1.0], [2.0], [0.0], [-1.0]], np.float32)).astype(np.float32)


def net(outputs: int = 3, *last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs), *last)


def trained(made: nn.Module | None = None, y: Any = CLASSES, loss: Any = "cross_entropy", **options: Any) -> cr.Run:
    options = {"optimizer": optim.Adam(0.02), "batch_size": 16, "epochs": 3, **options}
    return cr.fit(net() if made is None else made, (X, y), loss=loss, **options)


# ---- learning --------------------------------------------------------------------------------------------------------


def test_digits_are_learned_with_the_defaults():
    (x, y), held = data.load("digits")
    wide = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    run = cr.fit(wide, (x, y), loss="cross_entropy", epochs=30, validation=held)
    assert run.metrics["validation_accuracy"] >= 0.97


@pytest.mark.parametrize(
    "loss, made, y",
    [
        ("cross_entropy", net(3), CLASSES),
        (nn.CrossEntropyLoss(label_smoothing=0.1), net(3), CLASSES),
        ("cross_entropy", net(3), np.eye(3)[CLASSES]),
        ("binary_cross_entropy", net(1, nn.Sigmoid()), BITS),
        ("binary_cross_entropy_with_logits", net(1), BITS),
        ("binary_cross_entropy_with_logits", net(1), BITS.astype(np.float32)),
        ("binary_cross_entropy_with_logits", net(2), np.stack([BITS, 1 - BITS], axis=1)),
        (nn.BCEWithLogitsLoss(), net(1), np.array(["no", "yes"])[BITS]),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_every_way_to_tell_classes_apart_learns_and_is_measured(loss, made, y):
    run = trained(made, y, loss, epochs=60, validation=(X, y))
    assert run.metrics["validation_accuracy"] > 0.9
    assert run.history["loss"][-1] < run.history["loss"][0] / 2 or loss.__class__ is nn.CrossEntropyLoss


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", lambda p, t: cr.ops.mean((p - t) ** 2)])
def test_numbers_are_learned(loss):
    run = trained(net(1), NUMBERS, loss, epochs=120, validation=(X, NUMBERS), metrics=["r2", "mae"])
    assert run.metrics["validation_r2"] > 0.95


@pytest.mark.parametrize("loss", ["mse", nn.MSELoss(), lambda p, t: cr.ops.mean((p - t) ** 2), "mae", "huber"])
def test_every_kind_of_loss_can_be_written_down_and_resumed(loss, tmp_path):
    options: dict[str, Any] = {"y": NUMBERS, "loss": loss, "run_dir": tmp_path / "run"}
    with pytest.raises(RuntimeError):
        trained(net(1), callbacks=recipes.Raising(5), **options)
    assert trained(net(1), resume=True, **options).losses == trained(net(1), y=NUMBERS, loss=loss).losses


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_scikit_learns():
    sklearn = peer("sklearn.metrics")
    logits = GENERATOR.normal(size=(60, 3))
    found = {}

    class Given(nn.Module):
        """Gives the same outputs whatever it learns."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return cr.constant(cr.tensor(logits[: x.shape[0]].astype(np.float32))) + 0 * self.layer(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = trained(Given(), validation=(X, CLASSES), metrics=["accuracy", "f1", "top2", "mae"][:3], epochs=1)
    found = {name.removeprefix("validation_"): value for name, value in run.metrics.items()}
    guess = logits.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(CLASSES, guess))
    assert found["f1"] == pytest.approx(sklearn.f1_score(CLASSES, guess, average="macro"))
    assert found["top2"] == pytest.approx(sklearn.top_k_accuracy_score(CLASSES, logits, k=2))
    assert found["loss"] == pytest.approx(
        sklearn.log_loss(CLASSES, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)), rel=1e-5
    )


def test_metrics_of_numbers_are_scikit_learns():
    sklearn = peer("sklearn.metrics")
    run = trained(made := net(1), NUMBERS, "mse", validation=(X, NUMBERS), metrics=["rmse", "mae", "r2"])
    prediction = made.predict(X)
    assert run.metrics["validation_rmse"] == pytest.approx(
        sklearn.root_mean_squared_error(NUMBERS, prediction), rel=1e-6
    )
    assert run.metrics["validation_mae"] == pytest.approx(sklearn.mean_absolute_error(NUMBERS, prediction), rel=1e-6)
    assert run.metrics["validation_r2"] == pytest.approx(sklearn.r2_score(NUMBERS, prediction), rel=1e-6)


@pytest.mark.parametrize(
    "loss, last", [("binary_cross_entropy", [nn.Sigmoid()]), ("binary_cross_entropy_with_logits", [])]
)
def test_accuracy_and_f1_of_a_binary_network_are_scikit_learns(loss, last):
    sklearn = peer("sklearn.metrics")
    made = net(1, *last)
    run = trained(made, BITS, loss, validation=(X, BITS), metrics=["accuracy", "f1"], epochs=1)
    yes = made.predict(X)[:, 0] > (0.5 if last else 0.0)
    assert run.metrics["validation_accuracy"] == pytest.approx(sklearn.accuracy_score(BITS, yes))
    assert run.metrics["validation_f1"] == pytest.approx(sklearn.f1_score(BITS, yes, average="macro"))
    assert run.predict_classes(X) == [str(int(v)) for v in yes]


def test_a_function_can_be_a_metric():
    def worst(prediction, truth):
        return np.abs(prediction - truth).max()

    run = trained(made := net(1), NUMBERS, "mse", validation=(X, NUMBERS), metrics=worst)
    assert run.metrics["validation_worst"] == pytest.approx(float(np.abs(made.predict(X) - NUMBERS).max()), rel=1e-6)


# ---- early stopping, history, callbacks ------------------------------------------------------------------------------


@pytest.mark.parametrize("monitor, larger", [(None, False), ("validation_accuracy", True), ("loss", False)])
def test_early_stopping_puts_the_best_weights_back(monitor, larger):
    weights: list[bytes] = []
    made = net()
    x, y = X[:20], GENERATOR.permutation(CLASSES)[:20]  # nothing to learn that would hold elsewhere
    run = cr.fit(made, (x, y), loss="cross_entropy", optimizer=optim.Adam(0.3), epochs=60, batch_size=8,
                 validation=(X[20:], CLASSES[20:]), early_stopping=cr.EarlyStopping(4, monitor=monitor),
                 callbacks=lambda run, epoch, metrics: weights.append(state(run.net)["0.weight"]) and None)  # fmt: skip
    watched = run.history[monitor or "validation_loss"]
    best = int(np.argmax(watched) if larger else np.argmin(watched)) + 1
    assert run.best_epoch == best
    assert made.state_dict()["0.weight"].tobytes() == weights[best - 1]
    assert run.epoch == len(watched) == len(weights)
    if run.epoch < 60:
        assert run.epoch == best + 4


def test_without_early_stopping_the_last_weights_stay():
    weights: list[bytes] = []
    made = net()
    trained(made, callbacks=lambda run, epoch, m: weights.append(made.state_dict()["0.weight"].tobytes()) and None)
    assert made.state_dict()["0.weight"].tobytes() == weights[-1]


def test_callbacks_see_every_update_and_epoch_in_order():
    seen: list[Any] = []

    class Watching(cr.Callback):
        def on_start(self, run):
            seen.append(("start", run.step))

        def on_step(self, run, step, loss):
            assert (run.step, run.losses[-1]) == (step, loss)
            seen.append(step)

        def on_epoch(self, run, epoch, metrics):
            assert {name: values[-1] for name, values in run.history.items()} == metrics
            seen.append(f"epoch {epoch}")

        def on_end(self, run):
            seen.append(("end", run.step))

    trained(callbacks=[Watching(), lambda run, epoch, metrics: None], epochs=2)
    assert seen == [("start", 0), 1, 2, 3, 4, "epoch 1", 5, 6, 7, 8, "epoch 2", ("end", 8)]


def test_a_callback_can_stop_training_and_the_others_are_asked_too():
    asked = []
    run = trained(epochs=9, callbacks=[lambda r, e, m: e == 2, lambda r, e, m: asked.append(e)])
    assert (run.epoch, asked) == (2, [1, 2])


def test_history_has_a_value_an_epoch_and_losses_one_an_update():
    run = trained(validation=(X, CLASSES), learning_rate_schedule=optim.StepLR(1, gamma=0.5))
    assert list(run.history) == ["loss", "learning_rate", "validation_loss", "validation_accuracy"]
    assert run.history["learning_rate"] == [0.02, 0.01, 0.005]
    assert {len(values) for values in run.history.values()} == {3}
    assert len(run.losses) == run.step == 12


# ---- what a network keeps --------------------------------------------------------------------------------------------


def state(made: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in made.state_dict().items()}


def test_two_fits_of_the_same_seed_are_the_same_in_bits_and_other_seeds_are_not():
    first, second, other = (recipes.network("plain") for _ in range(3))
    for made, seed in ((first, 1), (second, 1), (other, 2)):
        trained(made, seed=seed)
    assert state(first) == state(second) != state(other)


def test_a_second_fit_goes_on_with_weights_and_running_statistics():
    made = recipes.network("plain")
    trained(made)
    after = state(made)

    class Looking(cr.Callback):
        def on_start(self, run):
            assert state(run.net) == after

    trained(made, seed=9, callbacks=Looking())
    assert state(made) != after


def test_weights_that_were_loaded_are_kept():
    source, made = net(), net()
    trained(source)
    made.load_state_dict(source.state_dict())

    class Looking(cr.Callback):
        def on_start(self, run):
            assert state(run.net) == state(source)

    trained(made, seed=4, callbacks=Looking())


def test_a_fit_after_a_step_goes_on_with_its_weights():
    made = net()
    step = cr.step(made, optim.SGD(0.1))(lambda x, y: cr.cross_entropy(made(x), y))
    step(X, CLASSES)
    after = state(made)
    with pytest.raises(RuntimeError):
        trained(made, callbacks=recipes.Raising(1), optimizer=optim.SGD(1e-30), seed=7)
    assert state(made) == after
    loss = step(X, CLASSES)  # and the step takes the network back
    assert loss == pytest.approx(cr.gradients(made, "cross_entropy", X, CLASSES)[0], abs=0.1)


def test_a_fit_that_was_refused_has_not_chosen_the_first_weights():
    made = net()
    with pytest.raises(ArgumentError):
        trained(made, seed=1, early_stopping=cr.EarlyStopping(1, monitor="nothing"))
    trained(made, seed=2)
    other = net()
    trained(other, seed=2)
    assert state(made) == state(other)


def test_frozen_layers_stay_as_they_are():
    made = net()
    made[0].requires_grad_(False)
    before = made.state_dict()
    trained(made)
    after = made.state_dict()
    assert np.array_equal(after["0.weight"], before["0.weight"]) == bool(before["0.weight"].any())
    assert not np.array_equal(after["2.weight"], before["2.weight"])


def test_a_parameter_that_cannot_learn_is_named_and_stays():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    made = Half()
    with pytest.warns(UnreachableWarning, match=r"spare\.(weight|bias) will not learn") as said:
        trained(made)
    assert len(said) == 2
    fresh = Half().initialise(0)
    np.testing.assert_array_equal(made.state_dict()["spare.weight"], fresh.state_dict()["spare.weight"])


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_loaded_as_it_was(tmp_path):
    run = trained(recipes.network("plain"), run_dir=tmp_path / "run", validation=0.2, early_stopping=1)
    found = cr.Run.load(tmp_path / "run")
    assert list(found.history.items()) == list(run.history.items())
    assert (found.losses, found.step, found.epoch, found.best_epoch) == (
        run.losses,
        run.step,
        run.epoch,
        run.best_epoch,
    )
    assert state(found.net) == state(run.net)
    np.testing.assert_array_equal(found.predict(X), run.predict(X))
    assert found.predict_classes(X) == run.predict_classes(X)
    assert found.config == run.config
    assert found.summary() == run.summary()
    assert found.methods() == run.methods()
    assert found.layers == ["0", "1", "4", "6"]


def test_a_network_of_own_code_is_loaded_into_one_that_is_given(tmp_path):
    class Own(nn.Module):
        def __init__(self, width=3):
            super().__init__()
            self.layer = nn.Linear(4, width)

        def forward(self, x):
            return self.layer(x)

    run = trained(Own(), run_dir=tmp_path / "run")
    with pytest.raises(ArgumentError, match=r"Own of your own code.*pass it as net="):
        cr.Run.load(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"layer\.weight"):
        cr.Run.load(tmp_path / "run", net=Own(5))
    np.testing.assert_array_equal(cr.Run.load(tmp_path / "run", net=Own()).predict(X), run.predict(X))


def test_a_run_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(ArgumentError, match="is no run"):
        cr.Run.load(tmp_path)


def test_predict_gives_the_same_whatever_the_batch_size():
    run = trained(recipes.network("plain"))
    np.testing.assert_allclose(run.predict(X, batch_size=7), run.predict(X), rtol=1e-5, atol=1e-6)


def test_names_of_classes_are_those_of_the_targets():
    words = np.array(["cat", "dog", "eel"])[CLASSES]
    run = trained(y=words, epochs=60)
    assert np.mean([a == b for a, b in zip(run.predict_classes(X), words, strict=True)]) > 0.9
    assert run.examples[0].truth in ("cat", "dog", "eel")
    with pytest.raises(NotFittedError, match=r"use predict\(\)"):
        trained(net(1), NUMBERS, "mse").predict_classes(X)


def test_examples_are_the_worst_the_middle_and_the_best_row():
    run = trained(made := net(), validation=(X, CLASSES))
    losses = -np.log((p := np.exp(made.predict(X))) / p.sum(axis=1, keepdims=True))[np.arange(60), CLASSES]
    assert run.examples[0].row == int(losses.argmax())
    assert run.examples[-1].row == int(losses.argmin())
    assert [e.loss for e in run.examples] == sorted((e.loss for e in run.examples), reverse=True)
    assert "%" in run.examples[0].prediction
    assert str(run.examples[0]).startswith(f"row {run.examples[0].row}: predicted ")


def test_methods_is_a_paragraph_that_a_paper_can_use():
    text = trained(epochs=2, clip_norm=1.0, accumulate=2, l2=0.01, early_stopping=5).methods()
    parts = ["67 parameters", "arrays (60 rows)", "2 epochs", "cross_entropy", "Adam (lr=0.02", "float32", "seed 0"]
    for part in [*parts, "numpy", "clipped to the norm 1", "l2=0.01", "accumulated over 2", "patience of 5"]:
        assert part in text, part


def test_the_summary_is_what_json_prints():
    run = trained(validation=(X, CLASSES))
    summary = run.summary()
    assert list(summary) == ["schema", "run", "epochs", "steps", "loss", "validation"]
    assert (summary["schema"], summary["run"], summary["epochs"], summary["steps"]) == (1, None, 3, 12)
    assert summary["validation"] == {
        "loss": run.metrics["validation_loss"],
        "accuracy": run.metrics["validation_accuracy"],
    }
    assert trained().summary()["validation"] is None


def test_a_loss_that_is_not_finite_only_in_validation_does_not_end_training():
    run = trained(net(1), NUMBERS, "mse", validation=(X, NUMBERS), metrics=[lambda p, t: math.nan][:0])
    assert math.isfinite(run.metrics["validation_loss"])


# ---- dataframes and files --------------------------------------------------------------------------------------------


def flats(rows: int = 80) -> dict[str, list[Any]]:
    """Flats: size, town and whether there is a lift; the price follows from them. With gaps."""
    size = GENERATOR.uniform(20, 150, rows)
    town = GENERATOR.choice(["Bari", "Lecce", "Turin"], rows)
    price = 2000 * size + 50_000 * (town == "Turin") + 1000 * GENERATOR.normal(size=rows)
    gaps: list[Any] = size.round(1).tolist()
    gaps[3] = gaps[17] = None
    towns: list[Any] = town.tolist()
    towns[5] = None
    return {"size": gaps, "town": towns, "price": price.round(0).tolist()}


@pytest.mark.parametrize("kind", ["pandas", "polars", "csv"])
def test_tables_with_gaps_and_words_train_and_predict_in_the_targets_units(kind, tmp_path):
    columns = flats()
    if kind == "csv":
        names = list(columns)
        lines = [",".join(names)]
        lines += [",".join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)]
        (tmp_path / "flats.csv").write_text("\n".join(lines) + "\n")
        source: Any = str(tmp_path / "flats.csv")
    else:
        source = peer(kind).DataFrame(columns)
    made = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    run = cr.fit(made, source, target="price", missing="mean", loss="mse", optimizer=optim.Adam(0.01), epochs=60,
                 validation=0.25, run_dir=tmp_path / "run")  # fmt: skip
    assert run.metrics["validation_r2"] > 0.8
    assert run.metrics["validation_rmse"] > 500  # in the price's units, not in deviations
    again = cr.Run.load(tmp_path / "run")
    new = {"size": [100.0, None], "town": ["Turin", "Bari"]}
    rows = peer("polars" if kind == "polars" else "pandas").DataFrame(new)
    predicted = again.predict(rows)
    assert predicted.shape == (2, 1)
    assert 150_000 < predicted[0, 0] < 350_000
    assert [float(e.truth) > 10_000 for e in run.examples] == [True] * 3


def test_a_table_with_gaps_and_no_word_about_them_is_refused():
    pandas = peer("pandas")
    with pytest.raises(cr.errors.DataError, match="missing='mean'"):
        cr.fit(nn.Linear(4, 1), pandas.DataFrame(flats()), target="price", loss="mse")
