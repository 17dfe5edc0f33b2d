"""A derivation as a program: one training step in NumPy alone, to the bit."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Graph, Tensor, evaluator, trace
from chainrule.graph.namespace import NumpyNamespace
from chainrule.optim.layout import places
from chainrule.see.derivation.recording import Recorded, Recorder, literal
from chainrule.spec import TensorSpec
from chainrule.version import __version__

if TYPE_CHECKING:
    from chainrule.see.derivation.derive import Derivation

LONGEST = 96
"""Characters of an expression; a longer one is cut at its parts, which get names of their own."""

MAIN = """
if __name__ == "__main__":
    with np.errstate(all="ignore"):
        found = step(**data())
    print("loss", found["L"])
    for name, value in found.items():
        print(f"{name:10} {value.shape} root mean square {np.sqrt(np.mean(np.square(value))):.6g}")
"""


def as_program(derivation: Derivation) -> str:
    """Source text: ``step`` with one statement a line of the derivation, and ``data`` with its arguments."""
    if derivation.arrays is None:
        raise ArgumentError("this derivation was made from shapes, so no program can give its numbers: use "
                            "chainrule.derivation(net, loss, x, y)")  # fmt: skip
    recorder = Recorder()
    arguments, body, results = _step(derivation, recorder)
    functions = [] if derivation.update is None else _update_functions(derivation, recorder)
    body += [] if derivation.update is None else _update_calls(derivation, arguments, results)
    returned = "".join(f"        {name!r}: {variable},\n" for name, variable in results.items())
    parts = [
        f'"""One training step, derived by chainrule {__version__}: d_v is dL/dv. It needs NumPy only."""\n',
        "import math\n" if "erf" in recorder.own else "",
        "import numpy as np\n",
        *(f"\n\n{source}" for source in _own_functions(recorder.own)),
        *(f"\n\n{source}" for source in functions),
        f"\n\n{_signature(arguments)}\n",
        textwrap.indent("\n".join(body), "    ") + "\n",
        f"    return {{\n{returned}    }}\n",
        f"\n\n{_data(arguments)}",
        f"\n{MAIN}",
    ]
    return "".join(parts)


def _signature(arguments: Mapping[str, np.ndarray]) -> str:
    """The head of ``step``, on several lines where one is too short."""
    line = f"def step({', '.join(arguments)}):"
    if len(line) <= LONGEST:
        return line
    listed = textwrap.fill(", ".join(arguments) + ",", LONGEST, initial_indent="    ", subsequent_indent="    ")
    return f"def step(\n{listed}\n):"


def variable(name: str) -> str:
    """A value's name in the program: d[W1] is d_W1."""
    return name.replace("[", "_").replace("]", "").replace("'", "_new")


def _step(derivation: Derivation, recorder: Recorder) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
    """(arguments, statements, name of each result -> its variable)."""
    made, step = derivation.built, derivation.step
    called = [made.names.of[x.key] for x in step.inputs]
    arguments = dict(zip(called, derivation.given, strict=True))
    given = [recorder.named(name, array) for name, array in arguments.items()]
    names = list(made.tensors)
    found = evaluator(Graph(step.inputs, tuple(made.tensors[n] for n in names)), recorder)(*given)
    comments = {line.key: f"  # {line.number}{': ' if line.rule else ''}{line.rule}" for line in derivation.lines}
    body = statements(recorder, dict(zip(names, found, strict=True)), comments)
    for name in step.reasons:
        key = made.names.of[step.sources[name].key]
        body.append(f"d_{key} = np.zeros_like({key})  # {step.reasons[name]}")
    used = _names_in("\n".join(body))
    gradients = [f"d[{made.names.of[s.key]}]" for s in step.sources.values()]
    weights = {made.names.of[s.key] for s in step.sources.values()}
    kept = {n: a for n, a in arguments.items() if n in used or (derivation.update is not None and n in weights)}
    return kept, body, {n: variable(n) for n in ["L", *gradients]}


def _names_in(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def statements(recorder: Recorder, results: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    """Assignments for ``results`` and for what they share, in the order of evaluation."""
    wanted: dict[int, list[str]] = {}
    constants = []
    for name, value in results.items():
        if isinstance(value, Recorded):
            wanted.setdefault(value.index, []).append(name)
        else:
            constants.append(f"{variable(name)} = {literal(np.asarray(value))}{comments.get(name, '')}")
    uses = _uses(recorder.made, list(wanted))
    trees: dict[int, ast.expr] = {}
    lines, count = constants, 0
    for recorded in recorder.made:
        i = recorded.index
        if i not in uses:
            continue
        tree = _Placing(trees).visit(_copy(recorded.tree))
        text = ast.unparse(tree)
        if i in wanted:
            first, *others = wanted[i]
            lines.append(f"{variable(first)} = {text}{comments.get(first, '')}")
            lines += [f"{variable(n)} = {variable(first)}{comments.get(n, '')}" for n in others]
            trees[i] = ast.Name(variable(first), ast.Load())
        elif isinstance(tree, ast.Name) or (uses[i] == 1 and len(text) < LONGEST) or _is_view(tree):
            trees[i] = tree
        else:
            count += 1
            lines.append(f"t{count} = {text}")
            trees[i] = ast.Name(f"t{count}", ast.Load())
    return lines


def _is_view(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Attribute) and isinstance(tree.value, ast.Name)


def _uses(made: Sequence[Recorded], wanted: Sequence[int]) -> dict[int, int]:
    """How often each value that a result needs is read."""
    uses = dict.fromkeys(wanted, 1)
    for recorded in reversed(made):
        if recorded.index in uses:
            for node in ast.walk(recorded.tree):
                if isinstance(node, ast.Name) and node.id.startswith("@"):
                    i = int(node.id[1:])
                    uses[i] = uses.get(i, 0) + 1
    return uses


def _copy(tree: ast.expr) -> ast.expr:
    """A tree of its own, for a transformer to change."""
    fields = {name: _copied(value) for name, value in ast.iter_fields(tree)}
    return type(tree)(**fields)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(v) for v in value]
    return _copy(value) if isinstance(value, ast.AST) else value  # type: ignore[arg-type]


class _Placing(ast.NodeTransformer):
    """Earlier values in place of ``@3``."""

    def __init__(self, trees: Mapping[int, ast.expr]) -> None:
        self.trees = trees

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.trees[int(node.id[1:])] if node.id.startswith("@") else node


def _own_functions(names: set[str]) -> list[str]:
    """Source of what the array namespace has and NumPy lacks."""
    sources = []
    for name in sorted(names):
        source = textwrap.dedent(inspect.getsource(vars(NumpyNamespace)[name].__func__))
        tree = ast.parse(source).body[0]
        assert isinstance(tree, ast.FunctionDef)
        tree.decorator_list, tree.returns = [], None
        for argument in tree.args.args:
            argument.annotation = None
        text = ast.unparse(_Plain().visit(tree)).replace("_erf(", "np.frompyfunc(math.erf, 1, 1)(")
        sources.append(text + "\n")
    return sources


class _Plain(ast.NodeTransformer):
    """Without annotations of variables, whose types the program does not import."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assert node.value is not None
        return ast.copy_location(ast.Assign([node.target], node.value), node)


# ------------------------------------------------------------------------------------------------ update


def _update_functions(derivation: Derivation, recorder: Recorder) -> list[str]:
    """``update`` for one parameter, and ``clipped`` for all gradients laid end to end."""
    update = derivation.update
    assert update is not None
    dtype = next(s.dtype for n, s in derivation.step.sources.items() if n != "x")
    optimizer, letters = update.optimizer, update.optimizer.letters
    numbers = optimizer.scalars(update.step, update.lr)
    slots = optimizer.slots

    def one(w: Tensor, g: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory = dict(zip(slots, rest, strict=False))
        after, kept = optimizer.update(w, g, memory, dict(zip(numbers, rest[len(slots) :], strict=True)))
        return (after, *(kept[slot] for slot in slots))

    flat, scalar = TensorSpec((2,), dtype), TensorSpec((), dtype)
    graph = trace(one, *[flat] * (2 + len(slots)), *[scalar] * len(numbers)).graph
    names = ["w", "g", *(letters[s] for s in slots)]
    fresh = Recorder()
    given = [*(fresh.named(n, np.ones(2, dtype)) for n in names), *(np.asarray(v, dtype) for v in numbers.values())]
    found = evaluator(graph, fresh)(*given)
    results = {f"{n}'": r for n, r in zip([names[0], *names[2:]], found, strict=True)}
    body = statements(fresh, results, {})
    words = f'"""{type(optimizer).__name__}, update {update.step}, learning rate {update.lr:g}."""'
    returned = ", ".join(map(variable, results))
    functions = [_function("update", names, words, body, returned)]
    if update.clip.formula():
        functions.append(_clip_function(derivation, dtype))
    recorder.own |= fresh.own
    return functions


def _function(name: str, arguments: Sequence[str], words: str, body: Sequence[str], returned: str) -> str:
    inside = textwrap.indent("\n".join([words, *body, f"return {returned}"]), "    ")
    return f"def {name}({', '.join(arguments)}):\n{inside}\n"


def _clip_function(derivation: Derivation, dtype: np.dtype) -> str:
    update = derivation.update
    assert update is not None
    _, length = places([s.spec.size for n, s in derivation.step.sources.items() if n != "x"])
    graph = trace(lambda g: update.clip.clipped(g)[0], TensorSpec((length,), dtype)).graph
    fresh = Recorder()
    (after,) = evaluator(graph, fresh)(fresh.named("g", np.ones(length, dtype)))
    return _function("clipped", ["g"], '"""All gradients, limited."""', statements(fresh, {"g'": after}, {}), "g_new")


def _update_calls(derivation: Derivation, arguments: dict[str, np.ndarray], results: dict[str, str]) -> list[str]:
    """A statement a parameter; adds the memory to ``arguments`` and what is new to ``results``."""
    update, step, names = derivation.update, derivation.step, derivation.built.names.of
    assert update is not None
    sources = {label: s for label, s in step.sources.items() if label != "x"}
    lines = ["# update"]
    used = {label: f"d_{names[s.key]}" for label, s in sources.items()}
    if update.clip.formula():
        offsets, length = places([s.spec.size for s in sources.values()])
        lines.append(f"g = np.zeros({length}, np.{next(iter(sources.values())).dtype.name})")
        for offset, (label, s) in zip(offsets, sources.items(), strict=True):
            lines.append(f"g[{offset}:{offset + s.spec.size}] = {used[label]}.ravel()")
        lines.append("g = clipped(g)")
        for offset, (label, s) in zip(offsets, sources.items(), strict=True):
            used[label] = f"g[{offset}:{offset + s.spec.size}].reshape({s.shape})"
    letters = update.optimizer.letters
    for label, source in sources.items():
        name = names[source.key]
        memory = update.before(label, derivation.values[name])
        held = [f"{letters[slot]}_{name}" for slot in memory]
        if update.memory is None:
            held = [f"np.full_like({name}, {array.flat[0]})" for array in memory.values()]
        else:
            arguments.update(zip(held, memory.values(), strict=True))
        new = [f"{name}'", *(f"{letters[slot]}[{name}]'" for slot in memory)]
        results.update({n: variable(n) for n in new})
        lines.append(f"{', '.join(map(variable, new))} = update({', '.join([name, used[label], *held])})")
    return lines


def _data(arguments: Mapping[str, np.ndarray]) -> str:
    body = "".join(f"        {name!r}: {_literal(array)},\n" for name, array in arguments.items())
    return f'def data():\n    """The arguments of ``step``, exact to the bit."""\n    return {{\n{body}    }}\n'


def _literal(array: np.ndarray) -> str:
    """As ``literal``, but short for an array of one value, as memory is before the first step."""
    if array.size > 1 and (array == array.flat[0]).all() and not np.signbit(array.flat[0]):
        array = np.broadcast_to(array.reshape(-1)[0], array.shape)
    return literal(array)
