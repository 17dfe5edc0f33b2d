"""Faulty programs of the doctor's benchmark: facts of the catalogue, rebuilt on rows that are there offline.

Ids and faults are those of the project's catalogue of 80 programs that people asked about or that research tools were
tried on (Stack Overflow questions, and the benchmarks of DeepFD, DeepLocalize, AutoTrainer, deepmufl, TheDeepChecker).
Of each, the network, first weights, loss, optimizer, learning rate and batch are kept; epochs are cut where the symptom
stays. `faults` are the rules that name what the catalogue lists: its main fault first, then those it accepts as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from benchmarks import rows as of
from benchmarks.networks import (
    GLOROT,
    HE,
    NARROW,
    Last,
    binary_of_cut,
    binary_of_outputs,
    climbing,
    cross_entropy,
    cross_entropy_of_shares,
    dense,
    half_sum_of_squares,
    images,
    log_of_outputs,
    signals,
    sum_of_squares,
)
from chainrule import nn, optim

Kind = Literal["faulty", "control", "neutral", "healthy", "converged"]

RATE = ("learning-rate-too-low", "too-few-steps")
"""What a catalogue entry that says "too few epochs" or "rate too low" is found as."""


@dataclass(frozen=True)
class Program:
    """One training."""

    id: str
    net: Callable[[], nn.Module]
    rows: Callable[[], of.Rows]
    loss: Any
    optimizer: Any
    batch: int
    epochs: int
    faults: tuple[str, ...] = ()
    """Names of rules; the first is the catalogue's main fault, the others are those that it states as well."""
    kind: Kind = "faulty"
    options: dict[str, Any] = field(default_factory=dict)
    odds: bool = False
    """Whether the fault is one of some seeds only: then it is asked for before training, as a probability."""
    note: str = ""


def _multilabel() -> of.Rows:
    return of.several_labels(3000, 20, 3)


def _fourth_power() -> of.Rows:
    return of.line(lambda x: x**4, -100, 100, 400)


def _unscaled(columns: int, **scales: float) -> of.Rows:
    """Columns of classification rows, each blown up to the scale given for its number."""
    x, y = of.classification(1000, columns, n_informative=6)
    x = x + 3
    for name, scale in scales.items():
        x[:, int(name[1:])] *= scale
    return x, y


def _higgs() -> of.Rows:
    x, y = of.classification(3000, 30, n_informative=8)
    x = x * np.where(np.arange(30) % 3 == 0, 100, 1).astype(np.float32)
    gaps = np.random.default_rng(1).random(x.shape) < 0.2
    x[gaps & (np.arange(30) % 5 == 0)] = -999
    return x, of.column(y)


def _codes() -> of.Rows:
    x = np.random.default_rng(1).integers(65, 71, (21, 3))
    return of.typed(x, of.column(x.sum(axis=1) > 202))


def _parts_of(rows: int, classes: int) -> of.Rows:
    """One whole number, and one of `classes` names for it."""
    random = np.random.default_rng(1)
    x = random.integers(0, classes, (rows, 1))
    return of.typed(x, of.one_hot(random.permutation(classes)[x[:, 0]], classes))


def _independent() -> of.Rows:
    random = np.random.default_rng(1)
    return of.typed(random.uniform(50, 2000, (1000, 10)), random.uniform(600, 4000, 1000))


def _second_column() -> of.Rows:
    x = np.random.default_rng(1).uniform(-1, 1, (5000, 30))
    return of.typed(x, x[:, 1])


def _shuffled_bytes() -> of.Rows:
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1
    return of.typed(x, np.random.default_rng(1).permutation(x).astype(np.float32))


def _offsets() -> of.Rows:
    """Two in three rows are of class 0, and all columns of such a row are moved together by -1, 0 or 1."""
    random = np.random.default_rng(1)
    y = random.uniform(0, 3, 100) <= 1
    x = random.normal(0, 0.1, (100, 14)) + np.where(y, 0, random.integers(-1, 2, 100))[:, None]
    return of.typed(of.standardised(x), of.column(y))


def _diabetes() -> of.Rows:
    """With standardised targets, as the catalogue's runs had them: their losses begin near 1."""
    x, y = of.diabetes()
    return x, (y - y.mean()) / y.std()


def _some_random(part: float = 0.4) -> of.Rows:
    """Digits of which every label below 4 is one of 1 to 4 by chance."""
    x, y = of.digits()
    chance = np.random.default_rng(1).integers(1, 5, len(y))
    return x, np.where(y < 4, chance, y)


def _wrong_order() -> of.Rows:
    x, y = of.digits()
    return x[np.random.default_rng(99).permutation(len(x))], y


def _eleven() -> of.Rows:
    random = np.random.default_rng(1)
    return of.typed(random.integers(0, 5, (11, 3)), of.column(np.arange(11) % 4))


def _five() -> of.Rows:
    random = np.random.default_rng(1)
    return of.typed(random.integers(0, 5, (5, 5)), random.integers(0, 5, (5, 4)).astype(np.float32))


def _populations() -> of.Rows:
    random = np.random.default_rng(1)
    scales = np.exp(random.uniform(0, np.log(662_628), 16))
    return of.typed(random.uniform(0.5, 1, (9, 16)) * scales, of.one_hot(np.arange(9) % 2))


def _targets_of_two() -> of.Rows:
    random = np.random.default_rng(1)
    x = random.uniform(-1, 1, (17, 2))
    return of.typed(x, np.linspace(-1.05, 2.71, 17)[np.argsort(np.argsort(x[:, 0] + 0.5 * random.normal(size=17)))])


def _flat_images(rows: int = 100, side: int = 12) -> of.Rows:
    x, y = of.classification(rows, side * side * 3, n_informative=20)
    return x.reshape(rows, 3, side, side), of.column(y)


def _signal(rows: of.Rows) -> of.Rows:
    x, y = rows
    return x.reshape(len(x), 1, 1, -1), y


def _scaled(rows: of.Rows, factor: float) -> of.Rows:
    return rows[0] * np.float32(factor), rows[1]


def _answers(rows: of.Rows) -> of.Rows:
    return rows[0], of.column(rows[1])


def _hot(rows: of.Rows, classes: int = 10) -> of.Rows:
    return rows[0], of.one_hot(rows[1], classes)


def _sequence(rows: of.Rows) -> of.Rows:
    return rows[0][:, :, None], rows[1]


CE, MSE = "cross_entropy", "mse"
SGD, ADAM = optim.SGD, optim.Adam
TDC = (64, 512, 10)
"""The dense network on digits that stands for TheDeepChecker's convolutions on MNIST, as when the catalogue was run."""

_CIRCLES = ("binary_cross_entropy", ADAM(1e-3), 128, 150)
_BLOBS = (cross_entropy_of_shares, ADAM(1e-3), 256, 150)
_DIABETES = (10, 64, 64, 1)

AUTOTRAINER = (
    Program("AT-INIT-blob-zeros", dense([2, *[5] * 8, 3], ["tanh"] * 8 + ["sigmoid"], [HE] * 8 + [nn.Zeros()]),
            of.blobs, *_BLOBS[:3], 300, kind="control"),
    Program("AT-CTRL-circle-11tanh", dense([2, *[5] * 11, 1], ["tanh"] * 11 + ["sigmoid"], HE),
            of.circles, *_CIRCLES[:3], 300, kind="control"),
    Program("AT-CTRL-circle-17tanh", dense([2, *[5] * 17, 1], ["tanh"] * 17 + ["sigmoid"], HE),
            of.circles, *_CIRCLES[:3], 300, kind="control"),
    Program("AT-GE-circle-8", dense([2, *[5] * 8, 1], ["exp"] * 8 + ["sigmoid"], HE),
            of.circles, *_CIRCLES, ("exploding-activation", "exploding-gradient")),
    Program("AT-DR-blob-15", dense([2, *[5] * 15, 3], "relu", HE), of.blobs, CE, ADAM(1e-3), 256, 150,
            ("predicted-fault", "dead-layer"), odds=True),
    Program("AT-GE-blob-9", dense([2, *[5] * 9, 3], ["exp"] * 9 + ["sigmoid"], HE), of.blobs, *_BLOBS,
            ("exploding-activation", "exploding-gradient")),
    Program("AT-GV-mnist-lenet", images(1, 28, [(6, 5), (16, 5)], [120, *[84] * 7, 10], "sigmoid",
            init=nn.Kaiming(distribution="normal")), lambda: _scaled(of.mnist(600), 1 / 255), CE, ADAM(1e-3), 128, 5,
            ("vanishing-gradient",)),
    Program("AT-GV-blob-11", dense([2, *[5] * 11, 3], ["sigmoid"] * 12, HE), of.blobs, *_BLOBS,
            ("vanishing-gradient",)),
    Program("AT-GV-demo-8", dense([2, *[5] * 8, 1], ["sigmoid"] * 9, HE), of.circles, *_CIRCLES,
            ("vanishing-gradient",)),
    Program("AT-DR-blob-8-init", dense([2, *[5] * 8, 3], "relu", NARROW), of.blobs, CE, ADAM(1e-3), 256, 100,
            ("small-initialisation",)),
    Program("AT-DR-mnist-lenet16", images(1, 28, [(32, 3), (64, 3)], [*[64] * 16, 32, 10], "relu", init=NARROW),
            lambda: _scaled(of.mnist(200), 1 / 255), CE, ADAM(1e-3), 50, 6, ("small-initialisation",)),
    Program("AT-OPT-blob-adagrad", dense([2, *[50] * 4, 3], "relu"), of.blobs, CE, optim.Adagrad(1.0), 256, 150,
            ("learning-rate-too-high",)),
)  # fmt: skip

QUESTIONS = (
    Program("SO-38648195", dense([20, 20, 20, 3], ["relu", "relu", "softmax"], drop=0.5), _multilabel, MSE, SGD(0.01),
            20, 8, ("softmax-for-several-labels",)),
    Program("DM-70650848", lambda: nn.Sequential(nn.Linear(4, 4, init=GLOROT), nn.ReLU(), nn.Linear(4, 4, init=GLOROT),
            nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4, init=GLOROT), nn.BatchNorm1d(4), nn.ReLU(),
            nn.Linear(4, 1, init=GLOROT), nn.Sigmoid()), lambda: _answers(of.iris()), cross_entropy_of_shares,
            SGD(0.01), 16, 20, ("cross-entropy-of-one",)),
    Program("SO-34311586", dense([2, 2, 3, 1], ["sigmoid", "sigmoid", "softmax"], NARROW),
            lambda: of.typed([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [1, 1]], of.column([0, 1, 1, 0, 0, 0])), MSE,
            SGD(1e-3, momentum=0.9, nesterov=True), 32, 20,
            ("softmax-of-one", "learning-rate-too-low", "too-few-steps", "small-initialisation")),
    Program("DM-58572274", dense([2, 2, 2, 1], ["relu"] * 3),
            lambda: of.typed(of.xor()[0], of.column([1, 0, 0, 1])), binary_of_cut, ADAM(1e-3), 32, 10,
            ("probability-loss-on-logits", "too-few-steps", "learning-rate-too-low")),
    Program("DM-41596619", dense([3, 3, 1], ["relu", "sigmoid"], NARROW), _eleven, binary_of_cut, SGD(1e-3), 32, 150,
            ("targets-out-of-range", "learning-rate-too-low")),
    Program("SO-50306988", dense([2, 2, 2], "sigmoid"), of.squares, CE, ADAM(1e-3), 32, 5, RATE),
    Program("DM-59078187", dense([1, 128, 10], ["relu", "softmax"], drop=0.2),
            lambda: of.line(lambda x: np.repeat(x[:, None] ** 2, 10, axis=1), 0, 10, 1000), MSE, ADAM(1e-3), 32, 5,
            ("targets-out-of-range", "shapes-broadcast"), note="the label, broadcast to ten outputs, is given tenfold"),
    Program("FL-56380303", dense([20, 20, 20, 20], ["relu", "relu", "linear"]), of.bits, CE, SGD(0.01), 50, 10,
            ("learning-rate-too-low", "too-few-steps", "stalled-loss", "overfit-fails"),
            note="not a gradient problem: parities; the published label is optimizer and rate"),
    Program("DM-54282951", images(3, 12, [(32, 1)], [64, 1], "linear", pools=False), _flat_images, binary_of_cut,
            optim.RMSprop(1e-3), 32, 20, ("probability-loss-on-logits",)),
    Program("DM-46247619", signals(50, [(30, 3), (40, 3), (120, 3)], [256, 64, 32, 1], "relu"),
            lambda: _signal(of.regression(500, 50)), MSE, ADAM(1e-3), 32, 4, ("targets-out-of-range",),
            note="the first dense layer has 256 units for 1024"),
    Program("DM-66407123", dense([5, 32, 32, 1], ["relu", "relu", "softmax"]),
            lambda: _answers(of.classification(1000, 5)), binary_of_cut, SGD(0.01), 64, 20, ("softmax-of-one",)),
    Program("DM-56452176", dense([1, 1, 9, 1], ["relu"] * 3),
            lambda: of.typed([[5], [10], [15], [20], [25]], np.array([2.5, 5, 7.5, 10, 12.5])), MSE, ADAM(0.01), 32, 10,
            ("predicted-fault", "dead-layer", "input-scale-large"), odds=True),
    Program("SO-52800582", dense([1, 50, 50, 1], ["sigmoid", "elu", "linear"]), _fourth_power, MSE, ADAM(1e-3), 400,
            1000, ("target-scale", "input-scale-large")),
    Program("SO-58609115", dense([1, 69, 69, 69], ["sigmoid"] * 3, nn.Normal(0, 0.05)), lambda: _parts_of(2209, 69),
            binary_of_cut, ADAM(1e-3), 50, 1,
            ("binary-loss-for-classes", "input-scale-large", "too-few-steps")),
    Program("SO-47724077", dense([14, 21, 2], "relu"), lambda: _unscaled(14, c2=1e5, c5=500, c9=40), CE, ADAM(1e-3),
            100, 20, ("input-scale-uneven", "input-scale-large", "learning-rate-too-low", "too-few-steps")),
    Program("DM-50338865", lambda: nn.Sequential(Last(1, 10, every=True), Last(10, 10), nn.Linear(10, 2, init=GLOROT)),
            lambda: of.typed(of.xor()[0][:, :, None], of.one_hot(of.xor()[1][:, 0].astype(int)).reshape(4, 2)), "mae",
            ADAM(1e-3), 4, 50, (*RATE, "cancelling-samples"),
            note="each input is a sequence of its two bits, for one of one step has no time"),
    Program("DM-68938619", lambda: nn.Sequential(Last(1, 80), nn.Linear(80, 1, init=GLOROT), nn.Softmax()),
            lambda: _sequence(_answers(of.classification(300, 10))), MSE, optim.RMSprop(1e-3), 32, 4,
            ("softmax-of-one",)),
    Program("DM-59758722", dense([4, 30, 30, 1], ["relu"] * 3), lambda: of.regression(1000, 4), MSE,
            optim.RMSprop(1e-3), 128, 13, ("targets-out-of-range", "target-scale", "too-few-steps")),
    Program("SO-31556268", dense([2, 4, 1], ["sigmoid"] * 2), of.xor, "mae",
            SGD(0.05, momentum=0.11, nesterov=True), 4, 1000,
            ("cancelling-samples", "learning-rate-too-low", "too-few-steps")),
    Program("DM-68458462", dense([5, 2, 2, 4], ["relu", "relu", "sigmoid"]), _five, MSE, ADAM(1e-3), 16, 100,
            ("targets-out-of-range", *RATE)),
    Program("DM-65777704", dense([64, 8, 16, 32, 64, 128, 10], "sigmoid"), of.digits, CE, ADAM(1e-3), 500, 20,
            ("vanishing-gradient",)),
    Program("SO-39525358", dense([3, 12, 3, 1], ["relu", "relu", "sigmoid"], NARROW), _codes, "binary_cross_entropy",
            ADAM(1e-3), 1, 150, ("input-uncentred", "input-scale-large"),
            note="21 rows of letters' codes drawn anew; the published rows are not among the catalogue's facts"),
    Program("FL-41600519", dense([30, 600, 400, 100, 1], ["relu"] * 3 + ["sigmoid"], drop=0.5), _higgs,
            "binary_cross_entropy", optim.RMSprop(1e-3), 1, 1, ("input-scale-uneven", "input-scale-large")),
    Program("DM-69901379", dense([10, *[10] * 5, 1], "relu"), _independent, MSE, ADAM(1e-4), 32, 60,
            ("input-scale-large", "target-scale", "uninformative-labels")),
    Program("DM-44758894", dense([7, 16, 1], ["relu"] * 2), lambda: _answers(of.classification(1000, 7)), MSE,
            SGD(0.01), 32, 5, ("relu-for-labels",)),
    Program("FL-46995209", dense([1, 10, 90, *[10] * 9, 1], ["tanh"] * 12),
            lambda: of.line(lambda t: np.sin(3.5 * np.pi * t / 1000), 0, 999, 1000), MSE, ADAM(1e-3), 10, 20,
            ("input-scale-large", "saturated")),
    Program("DM-58333926", images(1, 28, [(32, 3), (32, 3)], [400, 10], "relu", "sigmoid"),
            lambda: _hot(_scaled(of.mnist(600), 1 / 255)), "binary_cross_entropy", ADAM(1e-3), 32, 2,
            ("binary-loss-for-classes",), note="nothing is wrong with its gradients: the metric misleads"),
    Program("FL-44998910", dense([1, 200, 45, 1], "relu"), lambda: of.line(lambda x: x**4 + x**3 - x, 0, 1, 9000), MSE,
            SGD(0.01), 50, 20, RATE),
    Program("SO-48934338", dense([1, 50, 30, 1], "relu"),
            lambda: of.line(lambda x: 5 * x**2 + np.random.default_rng(1).normal(size=len(x)) ** 3, 0, 4.9, 50), MSE,
            SGD(0.1), 32, 1000, ("learning-rate-too-high",)),
    Program("SO-47352366", images(1, 28, [(32, 5), (64, 5)], [256, 10], "relu", "relu", drop=0.5),
            lambda: _hot(of.mnist()), cross_entropy_of_shares, ADAM(1e-3), 50, 3,
            ("probability-loss-on-logits", "bounded-logits", "input-scale-large"),
            note="the dense layer has 256 units for 1024"),
    Program("SO-48251943", dense([2, 4, 1], ["relu"] * 2), _targets_of_two, MSE, SGD(0.01), 10, 50,
            ("targets-out-of-range",)),
    Program("SO-55328966", dense([64, 64, 50, 10], ["linear", "relu", "sigmoid"]),
            lambda: _hot(_scaled(of.digits(), 255)), cross_entropy_of_shares, SGD(1e-4), 32, 10,
            ("input-scale-large", "saturated", "learning-rate-too-low")),
    Program("SO-39217567", dense([8, 8, 8, 8], ["sigmoid"] * 3, nn.Normal(0, 0.05)), _shuffled_bytes, MSE, SGD(0.01),
            50, 300, ("uninformative-labels", "vanishing-gradient", "small-initialisation", "learning-rate-too-low")),
    Program("DM-53700537", signals(300, [(20, 20), (20, 20), (20, 20)], [3], "relu", 2, mean=True, bias=False),
            lambda: _signal(_hot(of.classification(1000, 300, n_classes=3, n_informative=10), 3)),
            cross_entropy_of_shares, ADAM(1e-3), 32, 1, ("probability-loss-on-logits", "bounded-logits")),
    Program("DM-62313327", dense([30, 1, 1], ["relu", "sigmoid"]), _second_column, MSE, ADAM(0.01), 32, 20,
            ("targets-out-of-range",)),
    Program("DM-68101077", dense([784, 128, 10], "relu"),
            lambda: (of.mnist(2000)[0].reshape(-1, 784) / 255, of.one_hot(of.mnist(2000)[1])), cross_entropy_of_shares,
            ADAM(1e-3), 32, 5, ("probability-loss-on-logits",)),
    Program("FL-37213388", dense([64, 100, 200, 200, 10], "relu"), _some_random, CE, ADAM(1e-3), 32, 2,
            ("indistinct-classes", *RATE), note="two in five labels are chance by design"),
)  # fmt: skip

CHECKER = (
    Program("TDC-SO-IPS15", dense([2, 1], ["linear"], nn.Zeros()),
            lambda: of.typed(np.stack([np.arange(100), np.ones(100)], axis=1),
                             2 * np.arange(100) + 4 + np.random.default_rng(1).normal(size=100)),
            half_sum_of_squares, SGD(0.5), 100, 40, ("learning-rate-too-high", "input-scale-large")),
    Program("TDC-SO-IPS17", dense([2, 1], ["linear"], nn.Zeros()),
            lambda: of.typed([[0, 0], [1, 1], [4, 2], [9, 3]], np.array([0.0, 1, 4, 9])), sum_of_squares, SGD(0.01), 4,
            300, ("learning-rate-too-high",)),
    Program("TDC-SO-IPS7", dense([64, 512, 10], "sigmoid", nn.Normal(0, 1)), lambda: _hot(of.digits()),
            binary_of_outputs, SGD(0.05), 64, 5, ("probability-loss-on-logits",)),
    Program("TDC-SO-IPS13", dense([9, 2], ["linear"], nn.TruncatedNormal(0, 1)),
            lambda: _unscaled(9, c0=40, c4=30, c7=10), CE, ADAM(1e-3), 32, 10,
            ("large-initialisation", "input-scale-large", "input-scale-uneven"), options={"l2": 1e-4}),
    Program("TDC-SO-IPS12", dense([14, 20, 20, 15, 1], "relu", [nn.TruncatedNormal(0, (2 / 14) ** 0.5),
            *[nn.TruncatedNormal(0, 0.5)] * 3], drop=0.5), _offsets, "binary_cross_entropy_with_logits", ADAM(5e-3), 10,
            20, ("large-initialisation",)),
    Program("TDC-cnn-over-reg", dense(TDC, "relu", HE), of.digits, CE, SGD(0.1), 64, 15, ("decay-too-strong",),
            options={"l2": 0.1}),
    Program("TDC-regr-flip-sign", dense(_DIABETES, "relu", HE), _diabetes, climbing, ADAM(1e-3), 32, 30,
            ("climbing-loss",)),
    Program("TDC-regr-high-lr", dense(_DIABETES, "relu", HE), _diabetes, MSE, ADAM(0.1), 32, 100,
            ("learning-rate-too-high", "dead-units"), options={"l2": 1e-5}),
    Program("TDC-deepcnn-miss-bn", images(1, 28, [(32, 3), (32, 3), (64, 3)], [128, 10], "relu", init=HE),
            lambda: _scaled(of.mnist(600), 1 / 255), CE, SGD(1e-3, momentum=0.9), 64, 3, RATE,
            note="three convolutions for six"),
    Program("TDC-regr-miss-norm", dense(_DIABETES, "relu", HE), lambda: of.diabetes(False), MSE, ADAM(1e-3), 32, 100,
            ("input-scale-large", "input-scale-uneven", "input-uncentred")),
    Program("TDC-cnn-dbl-norm", dense(TDC, "relu", HE), lambda: _scaled(of.digits(), 1 / 255), CE, SGD(0.1), 64, 10,
            ("input-scale-small",)),
    Program("TDC-regr-miss-reg", dense(_DIABETES, "relu", HE), _diabetes, MSE, ADAM(1e-3), 32, 200, ("overfitting",),
            options={"l2": 1e-12, "validation": 0.3}),
    Program("TDC-cnn-red-softmax", dense(TDC, ["relu", "softmax"], HE), of.digits, cross_entropy, SGD(0.1), 64, 10,
            ("softmax-twice",)),
    Program("TDC-regr-dbl-norm", dense(_DIABETES, "relu", HE), lambda: _scaled(_diabetes(), 0.01), MSE, ADAM(1e-3),
            32, 100, ("input-scale-small",)),
    Program("TDC-cnn-miss-softmax", dense(TDC, "relu", HE), lambda: _hot(of.digits()), log_of_outputs, SGD(0.1), 64, 5,
            ("probability-loss-on-logits",)),
    Program("TDC-cnn-high-lr", dense(TDC, "relu", HE), of.digits, CE, SGD(5.0), 64, 10, ("learning-rate-too-high",),
            options={"l2": 1e-5}),
    Program("TDC-regr-low-eps", dense(_DIABETES, "relu", HE), _diabetes, MSE, ADAM(1e-3, eps=1e-16), 32, 100,
            ("adam-epsilon",)),
    Program("TDC-cnn-wrong-labels", dense(TDC, "relu", HE), _wrong_order, CE, SGD(0.1), 64, 5,
            ("uninformative-labels",)),
    Program("TDC-cnn-const-init", dense(TDC, "relu", nn.Constant(0.01)), of.digits, CE, SGD(0.1), 64, 10,
            ("symmetric-initialisation",)),
    Program("TDC-regr-softmax1", dense(_DIABETES, ["relu", "relu", "softmax"], HE), _diabetes, MSE, ADAM(1e-3), 32,
            20, ("softmax-of-one",)),
    Program("TDC-regr-over-reg", dense(_DIABETES, "relu", HE), _diabetes, MSE, ADAM(1e-3), 32, 100,
            ("decay-too-strong",), options={"l2": 0.1}),
    Program("TDC-cnn-miss-norm", dense(TDC, "relu", HE), lambda: _scaled(of.digits(), 255), CE, SGD(0.1), 64, 10,
            ("input-scale-large",)),
    Program("X-saturated-init", dense([64, 64, 64, 10], "sigmoid", nn.Normal(0, 5)), of.digits, CE, SGD(0.1), 32, 20,
            ("large-initialisation", "saturated")),
)  # fmt: skip

NEUTRAL = (
    Program("SO-50481178", dense([4, 10, 20, 30, 40, 50, 1], ["relu"] * 5 + ["sigmoid"]),
            lambda: of.several_labels(1000, 4, 1), "binary_cross_entropy", ADAM(1e-3), 10, 10, kind="neutral"),
    Program("FL-39810655", dense([4, 16, 3], "sigmoid"), of.iris, CE, ADAM(1e-3), 1, 50, kind="neutral"),
    Program("SO-34673164", dense([16, 64, 64, 2], ["tanh", "tanh", "softmax"], NARROW, drop=0.5), _populations, MSE,
            SGD(0.1, momentum=0.9, nesterov=True), 16, 20, kind="neutral"),
    Program("DM-55198221", images(1, 28, [(16, 3), (16, 3), (32, 3)], [128, 10], "relu", "sigmoid"),
            lambda: _hot(_scaled(of.mnist(600), 1 / 255)), cross_entropy_of_shares, ADAM(1e-4), 32, 50, kind="neutral"),
)  # fmt: skip

PROGRAMS: tuple[Program, ...] = (*AUTOTRAINER, *QUESTIONS, *CHECKER, *NEUTRAL)

OMITTED = {
    "FL-41977498": "the catalogue holds neither its network nor its rows",
    "FL-47932589": "the catalogue holds neither its network nor its optimizer",
    "FL-58237726": "three-dimensional convolution, and a batch axis inside a sample, cannot be written here",
    "DM-57516678": "an LSTM cell with ReLU and Nadam are not among the layers and optimizers here",
}
"""Catalogue entries that cannot be rebuilt, with the reason."""
