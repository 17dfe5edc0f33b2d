"""Plans that a later process takes over: only where it would have made the same one."""

import copy
import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.backends.native import cache, plan
from chainrule.compiler import kept
from chainrule.compiler import key as keys
from chainrule.compiler.key import MOST_CONSTANTS, key_of
from chainrule.compiler.link import _planned, link
from chainrule.compiler.parts import Part, Stop
from chainrule.graph import OPERATIONS, PRIMITIVES, primitive, trace
from chainrule.spec import TensorSpec

FLOAT, DOUBLE = np.dtype("float32"), np.dtype("float64")
A, B = TensorSpec((4, 3), FLOAT), TensorSpec((4, 3), FLOAT)


def part(function, *specs, inputs=("a", "b"), outputs=("y",), doomed=()):
    specs = specs or (A, B)
    return Part(trace(function, *specs, names=inputs).graph, inputs, outputs, doomed)


def summed(factor):
    def function(a, b):
        def body(state, x):
            return state * factor + x, state

        return [cr.scan(body, a[0], b)[0]]

    return function


DIFFERENT = {
    "as it is": lambda: (part(lambda a, b: [a - b]),),
    "other way round": lambda: (part(lambda a, b: [b - a]),),
    "names changed places": lambda: (part(lambda a, b: [a - b], inputs=("b", "a")),),
    "another name": lambda: (part(lambda a, b: [a - b], inputs=("a", "c")),),
    "another output": lambda: (part(lambda a, b: [a - b], outputs=("z",)),),
    "doomed": lambda: (part(lambda a, b: [a - b], doomed=(("y", "a"),)),),
    "stopped": lambda: (part(lambda a, b: [a - b]), Stop("b")),
    "twice": lambda: (part(lambda a, b: [a - b]), part(lambda a, b: [a - b])),
    "another operation": lambda: (part(lambda a, b: [a + b]),),
    "another dtype": lambda: (part(lambda a, b: [a - b], TensorSpec((4, 3), DOUBLE), TensorSpec((4, 3), DOUBLE)),),
    "another shape": lambda: (part(lambda a, b: [a - b], TensorSpec((3, 4), FLOAT), TensorSpec((3, 4), FLOAT)),),
    "zero": lambda: (part(lambda a, b: [a - b + np.float32(0.0)]),),
    "negative zero": lambda: (part(lambda a, b: [a - b + np.float32(-0.0)]),),
    "an array": lambda: (part(lambda a, b: [a - b + np.arange(3, dtype="f")]),),
    "the same bytes": lambda: (part(lambda a, b: [a - b + np.arange(3, dtype="f")[None]]),),
    "axis 0": lambda: (part(lambda a, b: [ops.sum(a - b, axis=0)]),),
    "axis 1": lambda: (part(lambda a, b: [ops.sum(a - b, axis=1)]),),
    "axis 1 kept": lambda: (part(lambda a, b: [ops.sum(a - b, axis=1, keepdims=True)]),),
    "clip to 1": lambda: (part(lambda a, b: [ops.clip(a, 0.0, 1.0)]),),
    "clip to 2": lambda: (part(lambda a, b: [ops.clip(a, 0.0, 2.0)]),),
    "two outputs": lambda: (part(lambda a, b: [a - b, a], outputs=("y", "z")),),
    "two outputs exchanged": lambda: (part(lambda a, b: [a, a - b], outputs=("y", "z")),),
    "scan": lambda: (part(summed(2.0)),),
    "scan with another body": lambda: (part(summed(3.0)),),
    "read twice": lambda: (part(lambda a, b: [ops.exp(a) + ops.exp(a)]),),
    "one of two": lambda: (part(lambda a, b: [(lambda e: e + e)(ops.exp(a))]),),
}


def test_a_key_is_that_of_equal_parts_and_of_no_others():
    found = {name: key_of(make()) for name, make in DIFFERENT.items()}
    assert {name: key_of(make()) for name, make in DIFFERENT.items()} == found
    assert all(len(bytes.fromhex(key)) == 32 for key in found.values())
    for one, other in combinations(found, 2):
        assert found[one] != found[other], (one, other)


def test_a_key_follows_from_the_files_numpy_and_the_processor(monkeypatch):
    from chainrule.backends.native import build

    parts = DIFFERENT["as it is"]()
    found = [key_of(parts)]
    assert keys.files() == keys.FILES
    with monkeypatch.context() as patch:
        patch.setattr(keys, "FILES", keys.FILES + " ")
        found.append(key_of(parts))
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "0.0")
        found.append(key_of(parts))
    with monkeypatch.context() as patch:
        patch.setattr(build, "identity", lambda: ("another processor",))
        found.append(key_of(parts))
    assert len(set(found)) == 4
    assert key_of(parts) == found[0]
    monkeypatch.setattr(keys, "FILES", "")
    assert key_of(parts) is None


def test_files_are_told_apart_by_content_time_and_number(tmp_path, monkeypatch):
    for folder in keys.FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(keys, "__file__", str(tmp_path / "compiler" / "key.py"))
    path = tmp_path / "lowering" / "fusion.py"
    seen = [keys.files()]
    path.write_text("a = 1")
    seen.append(keys.files())
    assert keys.files() == seen[-1]
    path.write_text("a = 12")
    seen.append(keys.files())
    os.utime(path, ns=(1, 1))
    seen.append(keys.files())
    (tmp_path / "ops" / "more.py").write_text("")
    seen.append(keys.files())
    assert len(set(seen)) == 5
    (tmp_path / "ops" / "more.py").unlink()
    (tmp_path / "ops").rmdir()
    assert keys.files() == ""


def test_what_is_made_after_a_change_of_files_is_not_kept(own_cache, monkeypatch):
    parts = parts_with_everything()
    monkeypatch.setattr(kept, "files", lambda: keys.FILES + "changed since")
    run(link(parts, "native"))
    assert kept.kept(key_of(parts)) is None


def test_what_is_not_chainrules_own_has_no_key(monkeypatch):
    monkeypatch.setattr(primitive, "PRIMITIVES", dict(PRIMITIVES))
    own = cr.elementwise("twice_as_much", "2 x", evaluate=lambda xp, x: x + x, pullback=lambda dy, y, x: (dy + dy,))
    OPERATIONS.pop("twice_as_much")
    copied = copy.copy(PRIMITIVES["exp"])
    large = np.arange(MOST_CONSTANTS // 4 + 1, dtype=np.float32)
    assert key_of((part(lambda a, b: [own(a)]),)) is None
    assert key_of((part(lambda a, b: [copied(a)]),)) is None
    assert key_of((part(lambda a, b: [a[0, 0] + large]),)) is None
    assert key_of((part(lambda a, b: [a[0, 0] + large[1:]]),)) is not None


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def parts_with_everything():
    """Products of two dtypes, a scan, constants, a stop, an output that overwrites an input that is still read."""

    def first(a, b, w):
        h = ops.tanh(a @ w)
        wide = ops.cast(h, "float64") @ np.linspace(0, 1, 8).reshape(4, 2)
        total = ops.sum(h)
        return [total > -1e9, wide, summed(0.5)(h, ops.exp(h))[0]]

    def second(a, wide):
        return [a / 2, wide * 2, ops.sum(a @ ops.matrix_transpose(a), axis=0)[:4]]

    specs = TensorSpec((40, 30), FLOAT), A, TensorSpec((30, 4), FLOAT)
    whole = Part(trace(first, *specs, names=("a", "b", "w")).graph, ("a", "b", "w"), ("sound", "wide", "state"))
    more = trace(second, specs[0], TensorSpec((40, 2), DOUBLE), names=("a", "wide")).graph
    return whole, Stop("sound"), Part(more, ("a", "wide"), ("a", "wide", "state"))


def run(linked):
    draw = np.random.default_rng(0)
    memory = {
        "a": draw.standard_normal((40, 30)).astype("f"), "b": np.zeros((4, 3), "f"),
        "w": draw.standard_normal((30, 4)).astype("f"), "sound": np.zeros((), bool), "wide": np.zeros((40, 2)),
        "state": np.zeros(4, "f"),
    }  # fmt: skip
    bound = linked.bind(memory, {})
    assert bound.run(2) == 2
    return {name: array.tobytes() for name, array in memory.items()}


def test_what_is_read_is_what_was_written(own_cache):
    planned = _planned(parts_with_everything())
    read = kept._read(kept._written(planned))
    assert read.staged == planned.staged and planned.staged
    for name, value in planned.plan._asdict().items():
        other = getattr(read.plan, name)
        if name == "table":
            for field, array in value._asdict().items():
                np.testing.assert_array_equal(getattr(other, field), array)
                assert field == "shared" or getattr(other, field).dtype == array.dtype
        elif name in ("products", "constants"):
            assert [k for k, _ in other] == [k for k, _ in value]
            for (_, a), (_, b) in zip(other, value, strict=True):
                assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        else:
            assert other == value
    assert {d for d, _ in planned.plan.products} == {"float32", "float64"} and planned.plan.constants


def test_a_plan_is_made_once(own_cache, monkeypatch):
    made = []
    real = plan.plan
    monkeypatch.setattr(plan, "plan", lambda programs: made.append(1) or real(programs))
    fresh = run(link(parts_with_everything(), "native"))
    again = run(link(parts_with_everything(), "native"))
    assert len(made) == 1 and fresh == again
    expected = run(link(parts_with_everything(), "reference"))
    for name in ("a", "wide", "state"):
        kind = "d" if name == "wide" else "f"
        np.testing.assert_allclose(
            np.frombuffer(again[name], kind), np.frombuffer(expected[name], kind), rtol=1e-4, atol=1e-4
        )


def test_a_damaged_plan_is_made_again(own_cache, monkeypatch):
    parts = parts_with_everything()
    first = run(link(parts, "native"))
    path = own_cache / f"{key_of(parts)}{cache.SUFFIX}"
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"x" * 20)
    assert kept.kept(key_of(parts)) is None
    assert run(link(parts, "native")) == first
    assert path.read_bytes() == content


TRAINING = """
import hashlib, sys
import numpy as np
import chainrule as cr
from chainrule import nn

cr.manual_seed(1)
net = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 40),
    nn.Dropout(0.3), nn.Tanh(), nn.Linear(40, 3))
draw = np.random.default_rng(0)
x, y = draw.standard_normal((150, 1, 8, 8)).astype("f"), draw.integers(0, 3, 150)
cr.fit(net, (x, y), loss="cross_entropy", epochs=2, batch_size=64, validation=0.2, seed=3, progress=False)
lowers = any(name in sys.modules for name in ("chainrule.backends.native.emit", "chainrule.backends.native.plan"))
print(hashlib.sha256(b"".join(a.tobytes() for a in net.state_dict().values())).hexdigest(), lowers)
"""


def test_a_later_process_trains_to_the_same_bits_without_lowering(tmp_path):
    outputs = []
    for folder in ("cache", "cache", "off"):
        where = folder if folder == "off" else str(tmp_path / folder)
        result = subprocess.run(
            [sys.executable, "-c", TRAINING], capture_output=True, text=True, timeout=120, cwd=tmp_path,
            env={**os.environ, "CHAINRULE_CACHE": where},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout.split()[-2:])
    (first, lowered), (second, lowered_again), (alone, _) = outputs
    assert first == second == alone
    assert (lowered, lowered_again) == ("True", "False")


def test_lost_code_is_made_again(tmp_path):
    """The plan is there, one of its modules is not."""
    environment = {**os.environ, "CHAINRULE_CACHE": str(tmp_path / "cache")}
    outputs = []
    for turn in range(3):
        result = subprocess.run(
            [sys.executable, "-c", TRAINING], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
        )
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout.split()[-2:])
        if turn == 0:
            files = sorted(p for p in (tmp_path / "cache").iterdir() if p.suffix == cache.SUFFIX)
            codes = [p for p in files if b"chainrule_run" not in p.read_bytes() and b"\x7fELF" in p.read_bytes()]
            for path in codes[::2]:
                path.unlink()
    assert len({weights for weights, _ in outputs}) == 1
    assert [lowered for _, lowered in outputs] == ["True", "True", "False"]
