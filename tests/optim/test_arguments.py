"""Arguments: a table of every hyper-parameter, walked by one script, and the messages for what people get wrong."""

import inspect
import json
import math
import re
import typing
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest

from chainrule import optim
from chainrule.errors import ArgumentError, ChainruleWarning
from chainrule.graph import tensor
from chainrule.optim.arguments import Choice, Number, Numbers, Truth, declared, kinds
from peers import peer

NEEDED = {
    optim.StepLR: {"step_size": 3},
    optim.MultiStepLR: {"milestones": [2, 4]},
    optim.ExponentialLR: {"gamma": 0.9},
    optim.CosineAnnealingLR: {"T_max": 10},
    optim.OneCycleLR: {"max_lr": 0.1, "total_steps": 10},
    optim.SequentialLR: {"schedules": [optim.LinearLR(), optim.ExponentialLR(0.9)], "milestones": [5]},
}
CLASSES = [*optim.OPTIMIZERS.values(), *optim.SCHEDULES.values(), optim.Clip]
TABLE = [(cls, name, kind) for cls in CLASSES for name, kind in kinds(cls).items()]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
each_argument = pytest.mark.parametrize(
    ("cls", "name", "kind"), TABLE, ids=[f"{cls.__name__}-{name}" for cls, name, _ in TABLE]
)
NEVER = ["0.1", b"1", math.nan, math.inf, -math.inf, 1j, {}, np.array([0.5, 0.5]), object(), 10**400]


def built(cls, **arguments):
    return cls(**{**NEEDED.get(cls, {}), **arguments})


def outside(kind):
    """Numbers just outside the bounds of a kind."""
    step = 1 if kind.whole else 1e-9
    found = [bound - step for bound in (kind.at_least,) if bound is not None]
    found += [bound + step for bound in (kind.at_most,) if bound is not None]
    found += [kind.below] if kind.below is not None else []
    found += [kind.above] if kind.above is not None and not kind.zero_warning else []
    found += [-1.0, 1.5] if kind.whole else [-1.0]
    return found


def inside(kind):
    """Numbers at the edges of a kind."""
    low = kind.at_least if kind.at_least is not None else kind.above + 1e-9
    high = kind.at_most if kind.at_most is not None else kind.below - 1e-9 if kind.below is not None else 1e6
    return [int(low), np.int32(high)] if kind.whole else [low, high, np.float32((low + high) / 2), np.float64(low)]


def refused_values(kind):
    if isinstance(kind, Number):
        return [*NEVER, True, False, np.True_, [], *outside(kind), *([] if kind.optional else [None])]
    if isinstance(kind, Numbers):
        good = list(inside(kind.each)[:1]) * (kind.length or 1)
        bad_member = [[*good[:-1], value] for value in [*NEVER, None, True, *outside(kind.each)]]
        order = [[*good, *good]] if kind.length is None else [[*good, *good], good[:-1]]
        return [*NEVER, None, True, 0.5, [], *bad_member, *order]
    if isinstance(kind, Truth):
        return [*NEVER, None, 0, 1, 1.0, "True"]
    if isinstance(kind, Choice):
        return [*NEVER, None, True, "", kind.words[0].upper(), list(kind.words)]
    return [*NEVER, None, True, [], [optim.ReduceLROnPlateau()], [optim.Adam()], optim.LinearLR()]


@each_argument
def test_every_argument_refuses_what_lies_outside_its_range_by_name(cls, name, kind):
    refused = refused_values(kind)
    assert len(refused) >= 10
    for value in refused:
        with pytest.raises(ArgumentError) as caught:
            built(cls, **{name: value})
        message = str(caught.value)
        assert message.startswith(f"{cls.__name__}: {name} must be {kind.wanted}, got "), message
        assert len(message) < 250 and "\n" not in message


@pytest.mark.parametrize(("cls", "name", "kind"), [row for row in TABLE if isinstance(row[2], Number)])
def test_every_number_accepts_the_edges_of_its_range_and_keeps_plain_numbers(cls, name, kind):
    for value in inside(kind):
        kept = getattr(built(cls, **{name: value}), name)
        assert type(kept) is (int if kind.whole else float)
        assert kept == value


@pytest.mark.parametrize("cls", optim.OPTIMIZERS.values(), ids=lambda cls: cls.__name__)
def test_a_learning_rate_of_zero_is_allowed_with_a_warning_at_the_users_line(cls):
    with pytest.warns(ChainruleWarning, match=f"{cls.__name__}: lr is 0: nothing will be learned") as caught:
        assert cls(lr=0).lr == 0
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (math.nan, "nan"),
        (np.float64("nan"), "nan"),
        ("0.1", "'0.1' (str)"),
        (None, "None"),
        (True, "True"),
        (-1, "-1"),
        (-math.inf, "-inf"),
    ],
)
def test_the_message_names_optimizer_argument_range_and_value(value, found):
    with pytest.raises(ArgumentError) as caught:
        optim.Adam(lr=value)
    assert str(caught.value) == f"Adam: lr must be a finite number above 0, got {found}"


@pytest.mark.parametrize(
    ("keyword", "nearest"),
    [("learing_rate", "lr"), ("learning_rate", "lr"), ("weight_deacy", "weight_decay"), ("beta1", "betas")],
)
def test_an_unknown_keyword_is_refused_with_the_nearest_name(keyword, nearest):
    with pytest.raises(ArgumentError, match=f"Adam: there is no argument '{keyword}': did you mean '{nearest}'?"):
        optim.Adam(**{keyword: 0.1})


def test_a_keyword_like_none_is_refused_with_all_names():
    with pytest.raises(
        ArgumentError, match="'zzz': the names are lr, momentum, dampening, weight_decay, nesterov, max"
    ):
        optim.SGD(zzz=1)


@each_class
def test_too_many_arguments_and_one_given_twice_are_refused(cls):
    positional = [field.name for field in fields(cls) if not field.kw_only]
    with pytest.raises(ArgumentError, match=f"^{cls.__name__}: at most {len(positional)} arguments"):
        cls(*[0.5] * (len(positional) + 1))
    with pytest.raises(ArgumentError, match=f"^{cls.__name__}: {positional[0]} is given twice, as 0.5 and as 0.25"):
        cls(0.5, **{positional[0]: 0.25})


@pytest.mark.parametrize(("cls", "needed"), NEEDED.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_a_missing_argument_is_named_with_what_it_should_be(cls, needed):
    for name in needed:
        with pytest.raises(ArgumentError, match=f"^{cls.__name__}: {name} is missing: give "):
            cls(**{k: v for k, v in needed.items() if k != name})


class Net:
    def parameters(self):
        return iter([])


@pytest.mark.parametrize(
    "parameters",
    [Net().parameters(), Net(), [tensor(1.0)], (x for x in ()), {"lr": 1}, [], np.ones(3), tensor([1.0]), Net],
    ids=lambda p: type(p).__name__,
)
def test_parameters_are_refused_with_the_line_that_was_meant(parameters):
    for line, call in [
        ("optim.Adam(lr=0.001)", lambda: optim.Adam(parameters, lr=1e-3)),
        ("optim.Adam(lr=0.001)", lambda: optim.Adam(parameters)),
        ("optim.Adam(lr=0.001)", lambda: optim.Adam(params=parameters)),
        ("optim.SGD(lr=0.1, momentum=0.9)", lambda: optim.SGD(parameters, 0.1, momentum=0.9)),
        ("optim.AdamW(lr=0.3, betas=(0.8, 0.9))", lambda: optim.AdamW(parameters, betas=(0.8, 0.9), lr=0.3)),
    ]:
        with pytest.raises(ArgumentError, match=re.escape(f"Write {line}")):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: optim.SGD(nesterov=True),
        lambda: optim.SGD(momentum=0.9, dampening=0.1, nesterov=True),
        lambda: optim.OneCycleLR(0.1, 10, pct_start=0.6, three_phase=True),
        lambda: optim.SequentialLR([optim.LinearLR()], [3]),
        lambda: optim.SequentialLR([optim.LinearLR(), optim.OneCycleLR(0.1, 10)], [3]),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(call):
    with pytest.raises(ArgumentError, match=r"^(SGD|OneCycleLR|SequentialLR): .* must .*, got "):
        call()


@each_class
def test_replacing_an_argument_is_checked_too(cls):
    made = built(cls)
    assert replace(made) == made
    name, kind = next(iter(kinds(cls).items()))
    with pytest.raises(ArgumentError, match=f"{name} must be"):
        replace(made, **{name: refused_values(kind)[2]})


@each_class
def test_names_order_and_defaults_are_pytorchs(cls):
    if cls in (optim.Clip, optim.SequentialLR):
        return  # PyTorch has no class Clip, and calls the members of a SequentialLR schedulers
    torch = peer("torch")
    theirs = getattr(torch.optim, cls.__name__, None) or getattr(torch.optim.lr_scheduler, cls.__name__)
    wanted = inspect.signature(theirs).parameters
    ours = [field for field in fields(cls) if field.name != "every"]
    assert [f.name for f in ours] == [name for name in wanted if name in {f.name for f in ours}]
    for field in ours:
        if cls in NEEDED and field.name in NEEDED[cls]:
            continue
        assert field.default == wanted[field.name].default, field.name


@each_class
def test_a_description_is_plain_data_and_builds_the_same_again(cls):
    made = built(cls)
    data = json.loads(json.dumps(optim.describe(made), allow_nan=False))
    kind = next(k for k in (optim.Optimizer, optim.LearningRateSchedule, optim.Clip) if issubclass(cls, k))
    assert optim.from_description(data, kind) == made


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "must be a dict of 'name' and 'arguments', got None"),
        ({"name": "Adam"}, "must be a dict of 'name' and 'arguments'"),
        ({"name": "Adma", "arguments": {}}, "there is no Optimizer 'Adma': did you mean 'Adam'?"),
        ({"name": "StepLR", "arguments": {"step_size": 1}}, "there is no Optimizer 'StepLR'"),
        ({"name": ["os"], "arguments": {}}, "there is no Optimizer"),
        ({"name": "Adam", "arguments": [1]}, "Adam: the described arguments must be a dict"),
        ({"name": "Adam", "arguments": {1: 1}}, "Adam: the described arguments must be a dict"),
        ({"name": "Adam", "arguments": {"lr": "x"}}, "Adam: lr must be"),
        ({"name": "Adam", "arguments": {"rate": 1.0}}, "Adam: there is no argument 'rate'"),
    ],
)
def test_a_damaged_description_is_refused(description, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        optim.from_description(description)


def test_names_for_the_command_line_are_complete():
    assert set(optim.OPTIMIZERS) == {"sgd", "adagrad", "rmsprop", "adam", "adamw"}
    assert {"constant", "step", "exponential", "cosine", "warmup", "one-cycle", "plateau"} <= set(optim.SCHEDULES)


def test_optimizers_are_values():
    assert optim.Adam(1e-3) == optim.Adam() and hash(optim.Adam(1e-3)) == hash(optim.Adam())
    assert optim.Adam(betas=[0.5, 0.9]).betas == (0.5, 0.9)
    with pytest.raises(AttributeError):
        optim.Adam().lr = 1.0


def test_an_argument_without_a_declared_range_cannot_be_defined():
    class Loose:
        rate: float = 0.1

    with pytest.raises(AttributeError, match="__metadata__"):
        declared(Loose)


@each_class
def test_every_argument_is_explained(cls):
    shared = {"lr", "betas", "eps", "amsgrad"} if cls is optim.AdamW else set()
    for name in kinds(cls).keys() - shared - {"every"}:
        assert re.search(rf"\b{name}\b", cls.__doc__), f"{cls.__name__} does not explain {name}"


def test_defaults_are_within_their_own_ranges_and_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in CLASSES:
            assert built(cls) == built(cls, **{f.name: getattr(built(cls), f.name) for f in fields(cls)})
    assert typing.get_type_hints(optim.Adam)["lr"] is float
