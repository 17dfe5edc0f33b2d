"""Cures of the faulty programs: the fix that the catalogue names for each, and what its own re-run of it showed.

A fix is written as remedies, so that a replay can measure it on the rebuilt program, beside the program as it was. A
program counts as curable where that is proven; what cannot be replayed counts by the catalogue's re-run.
"""

from __future__ import annotations

from typing import Any

from chainrule.doctor import Remedy
from chainrule.doctor.treat.compare import MARGIN
from chainrule.errors import ChainruleError


def _fix(**remedies: Any) -> tuple[Remedy, ...]:
    """Remedies by their ids with _ for -, each with its parameters, applied in this order."""
    return tuple(Remedy(name.replace("_", "-"), "", given) for name, given in remedies.items())


_LINEAR = {"activation": None}
_SIGMOID = {"activation": "sigmoid"}
_LOGIT = {"activation": None, "loss": "binary_cross_entropy_with_logits"}
_CLASSES = {"activation": None, "loss": "cross_entropy"}
_SELU, _RELU, _TANH = ({"activation": name} for name in ("SELU", "ReLU", "Tanh"))

FIXES: dict[str, tuple[Remedy, ...]] = {
    "AT-GE-circle-8": _fix(change_activation=_SELU),
    "AT-DR-blob-15": _fix(change_activation={"activation": "LeakyReLU"}),
    "AT-GE-blob-9": _fix(change_activation=_SELU),
    "AT-GV-mnist-lenet": _fix(change_activation=_RELU),
    "AT-GV-blob-11": _fix(change_activation=_SELU),
    "AT-GV-demo-8": _fix(change_activation=_SELU),
    "AT-DR-blob-8-init": _fix(change_initialiser={"init": "kaiming_uniform"}),
    "AT-DR-mnist-lenet16": _fix(change_initialiser={"init": "kaiming_uniform"}),
    "AT-OPT-blob-adagrad": _fix(change_optimizer={"optimizer": "Adam", "lr": 1e-3}),
    "SO-38648195": _fix(change_output=_LOGIT),
    "DM-70650848": _fix(change_output={"outputs": "classes"}, change_optimizer={"optimizer": "Adam", "lr": 0.01}),
    "SO-34311586": _fix(
        change_output=_SIGMOID, scale_learning_rate={"lr": 0.1}, batch_size={"batch_size": 4},
        train_longer={"factor": 500},
    ),
    "DM-58572274": _fix(change_activation=_TANH, widen_layer={"factor": 4}, change_output=_SIGMOID,
                        change_optimizer={"optimizer": "Adam", "lr": 0.01}, train_longer={"factor": 50}),
    "DM-41596619": _fix(change_output={"outputs": "classes"}, change_optimizer={"optimizer": "Adam", "lr": 0.01},
                        train_longer={"factor": 10}),
    "SO-50306988": _fix(scale_learning_rate={"lr": 0.01}, train_longer={"factor": 10}),
    "DM-59078187": _fix(change_output=_LINEAR, standardise_inputs={}, standardise_targets={}),
    "FL-56380303": _fix(change_optimizer={"optimizer": "Adam", "lr": 1e-4}),
    "DM-54282951": _fix(change_output=_SIGMOID),
    "DM-46247619": _fix(change_output=_LINEAR),
    "DM-66407123": _fix(change_output=_SIGMOID),
    "DM-56452176": _fix(change_output=_LINEAR, standardise_inputs={}, train_longer={"factor": 100}),
    "SO-52800582": _fix(standardise_inputs={}, standardise_targets={}),
    "SO-58609115": _fix(change_activation=_RELU, change_output=_CLASSES, train_longer={"factor": 10}),
    "SO-47724077": _fix(standardise_inputs={}),
    "DM-50338865": _fix(train_longer={"factor": 10}),
    "DM-68938619": _fix(change_output=_SIGMOID),
    "DM-59758722": _fix(change_output=_LINEAR, standardise_targets={}, train_longer={"factor": 10}),
    "SO-31556268": _fix(change_loss={"loss": "mse"}, change_optimizer={"optimizer": "Adam", "lr": 1e-3},
                        train_longer={"factor": 10}),
    "DM-68458462": _fix(change_output=_LINEAR, widen_layer={"factor": 8}, scale_learning_rate={"lr": 0.01}),
    "DM-65777704": _fix(change_activation=_RELU),
    "SO-39525358": _fix(standardise_inputs={}, batch_size={"batch_size": 10}),
    "FL-41600519": _fix(standardise_inputs={}, change_optimizer={"optimizer": "Adam", "lr": 1e-3},
                        batch_size={"batch_size": 100}, train_longer={"factor": 100}),
    "DM-69901379": _fix(standardise_inputs={}, standardise_targets={}),
    "DM-44758894": _fix(change_output=_LOGIT),
    "FL-46995209": _fix(standardise_inputs={}),
    "DM-58333926": _fix(change_output=_CLASSES),
    "FL-44998910": _fix(scale_learning_rate={"lr": 0.03}, train_longer={"factor": 2}),
    "SO-48934338": _fix(scale_learning_rate={"lr": 1e-3}),
    "SO-47352366": _fix(change_output=_CLASSES, standardise_inputs={}),
    "SO-48251943": _fix(change_output=_LINEAR, train_longer={"factor": 10}),
    "SO-55328966": _fix(standardise_inputs={}, change_output=_CLASSES,
                        change_optimizer={"optimizer": "Adam", "lr": 1e-3}),
    "DM-53700537": _fix(change_output={"activation": "softmax"}),
    "DM-62313327": _fix(change_output=_LINEAR, change_activation={"activation": "Identity"}),
    "DM-68101077": _fix(change_loss={"loss": "with_logits"}),
    "FL-37213388": _fix(train_longer={"factor": 5}),
    "TDC-SO-IPS15": _fix(scale_learning_rate={"lr": 1e-4}),
    "TDC-SO-IPS17": _fix(scale_learning_rate={"lr": 1e-3}),
    "TDC-SO-IPS7": _fix(change_output=_CLASSES),
    "TDC-SO-IPS13": _fix(change_initialiser={"init": "xavier_uniform"}, standardise_inputs={}),
    "TDC-SO-IPS12": _fix(change_initialiser={"init": "kaiming_normal"}),
    "TDC-cnn-over-reg": _fix(decay={"factor": 1e-4}),
    "TDC-regr-flip-sign": _fix(restore_sign={}),
    "TDC-regr-high-lr": _fix(scale_learning_rate={"lr": 1e-3}),
    "TDC-regr-miss-norm": _fix(standardise_inputs={}),
    "TDC-cnn-dbl-norm": _fix(standardise_inputs={}),
    "TDC-regr-miss-reg": _fix(decay={"factor": 1e7}),
    "TDC-cnn-red-softmax": _fix(change_output=_LINEAR),
    "TDC-regr-dbl-norm": _fix(standardise_inputs={}),
    "TDC-cnn-miss-softmax": _fix(change_output=_CLASSES),
    "TDC-cnn-high-lr": _fix(scale_learning_rate={"lr": 0.1}),
    "TDC-regr-low-eps": _fix(epsilon={"eps": 1e-8}),
    "TDC-cnn-const-init": _fix(change_initialiser={"init": "kaiming_normal"}),
    "TDC-regr-softmax1": _fix(change_output=_LINEAR),
    "TDC-regr-over-reg": _fix(decay={"factor": 1e-4}),
    "TDC-cnn-miss-norm": _fix(standardise_inputs={}),
    "X-saturated-init": _fix(change_initialiser={"init": "xavier_uniform"}, scale_learning_rate={"lr": 0.5}),
}  # fmt: skip
"""As the catalogue has it, where its words allow; "scaling" is by mean and deviation, "longer" as far as it says."""

NOT_REPLAYED: dict[str, tuple[bool, str]] = {
    "SO-39217567": (True, "other targets (y = x), which only the author has; the catalogue's re-run of it works"),
    "TDC-cnn-wrong-labels": (True, "the labels in their own order, which only the author has"),
    "TDC-deepcnn-miss-bn": (False, "normalisation behind convolutions, which is not among the layers here"),
}
"""Fixes that no remedy stands for: whether the program counts as curable all the same, and why."""

# ------------------------------------------------------------------------------------------------ measured


def fixed(name: str, report: Any, budget: float) -> dict[str, Any]:
    """Whether the catalogue's fix mends the program, by replays of both over seeds within `budget` seconds."""
    if name in NOT_REPLAYED:
        works, said = NOT_REPLAYED[name]
        return {"works": works, "said": said, "replayed": False}
    try:
        found = report.treat(budget, lambda trial: None, workers=0, remedies=FIXES[name])
    except ChainruleError as error:
        return {"works": False, "said": f"{type(error).__name__}: {str(error)[:200]}", "replayed": False}
    said = str(found.trials[-1]) if found.trials else str(found)
    return {"works": found.cure is not None, "said": said, "replayed": True}


def treated(report: Any, budget: float) -> dict[str, Any]:
    """What treatments prove within `budget` seconds: the cure, and whether it is the first finding's own remedy."""
    if not report.flags:
        return {"cured": False, "first": False, "cure": "", "why": "nothing is flagged", "seconds": 0.0}
    try:
        found = report.treat(budget, lambda trial: None, workers=0)
    except ChainruleError as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        return {"cured": False, "first": False, "cure": "", "why": "an error", "said": said, "seconds": 0.0}
    cure = found.cure
    own = {(r.id, str(r.parameters)) for r in report.flags[0].remedy}
    return {
        "cured": cure is not None,
        "first": cure is not None and any((r.id, str(r.parameters)) in own for r in cure.remedies),
        "cure": "" if cure is None else str(cure),
        "alternative": any(trial.name == report.flags[0].name for trial in found.proven),
        "why": "" if cure is not None else reason_of(found),
        "trials": [str(trial) for trial in found],
        "seconds": round(found.seconds, 2),
    }


def reason_of(found: Any) -> str:
    """Why there is no proven cure."""
    if any(trial.proven and sum(trial.after) >= MARGIN * trial.seeds for trial in found):
        return "more updates do as much by themselves"
    if any(trial.proven for trial in found):
        return "what helps does not yet beat a constant prediction"
    if found.untried or any(trial.verdict == "unsettled" for trial in found):
        return "the time was up"
    if not found.trials:
        return "its author must act" if found.by_hand else "no remedy applies"
    if any(trial.effect >= MARGIN for trial in found):
        return "what helps is within the spread over seeds"
    return "no remedy helps"


def curable(result: dict[str, Any]) -> bool:
    """Whether the catalogue's fix mends the program."""
    return bool(result.get("fix", {}).get("works"))


def line_of_cure(result: dict[str, Any]) -> str:
    """A curable program that was not cured: what was flagged, and what the catalogue's fix does."""
    flagged = ", ".join(result["flags"]) or "no flag"
    return f"{result['id']} {result['seed']}: {flagged}; its fix: {result['fix']['said']}"
