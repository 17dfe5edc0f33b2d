"""The derivation of a step: its lines, their rules and values, and how it is written."""

import ast
import html.parser
import io
import json
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError
from chainrule.graph import PRIMITIVES, Draw
from chainrule.ops import as_tensor
from chainrule.optim import OPTIMIZERS
from chainrule.see.derivation import expression
from chainrule.see.derivation.latex import formula
from chainrule.spec import TensorSpec
from peers import peer

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(6, 4)), RANDOM.integers(0, 3, size=6)
DIFFERENTIABLE = sorted(name for name, p in PRIMITIVES.items() if p.draw is not None)


def three_layers():
    layers = (nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Sigmoid(), nn.Linear(5, 3))
    return nn.Sequential(*layers).to("float64").initialise(0)


def line(derivation, name):
    (found,) = (entry for entry in derivation.lines if entry.name == name)
    return found


# ------------------------------------------------------------------------------------------------ rules


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_differentiable_operation_states_its_rule_in_words_and_in_symbols(name):
    primitive = PRIMITIVES[name]
    assert primitive.rule and any(primitive.rule), "declare rule="
    assert primitive.why and any(primitive.why), "declare why="
    for rule in filter(None, primitive.rule):
        assert re.search(r"\{dys?\}", rule), "a rule says what becomes of the error that comes in"


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_rule_can_be_written_as_python_and_as_latex(name):
    primitive = PRIMITIVES[name]
    arrays, parameters = primitive.draw(Draw(0))
    words = {**parameters, "i": 0}
    if primitive.terms is not None:
        words |= primitive.terms(*(TensorSpec(np.shape(a), np.asarray(a).dtype) for a in arrays), **parameters)
    values = {str(i): expression.name(f"x{i}") for i in range(len(arrays))}
    values |= {"dy": expression.derivative(expression.name("z")), "y": expression.name("z")}
    values["inputs"] = ast.Tuple([expression.name("x1"), expression.name("x2")], ast.Load())
    values["dys"] = ast.Tuple([values["dy"], values["dy"]], ast.Load())
    mathtext = peer("matplotlib.mathtext").MathTextParser("path")
    for template in filter(None, (*primitive.rule, primitive.written)):
        written = expression.text(expression.filled(template, values, words))
        assert "{" not in written and "_dy_" not in written
        mathtext.parse(f"${formula(written)}$")


def test_rules_of_elementwise_operations_are_those_of_the_pullback():
    """Read as arithmetic, a declared rule gives the number that the pullback gives."""
    functions = {
        "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "cos": np.cos, "sin": np.sin, "sign": np.sign, "abs": np.abs,
        "pi": np.pi, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "where": np.where,
        "inside": lambda x, low, high: (x > low) & (x < high),
        "clip": np.clip,
    }  # fmt: skip
    checked = []
    for name in DIFFERENTIABLE:
        primitive = PRIMITIVES[name]
        point = Draw(1)
        arrays, parameters = primitive.draw(point)
        if not (primitive.elementwise or name in ("mse", "mae", "huber", "binary_cross_entropy")):
            continue
        if any(np.asarray(a).dtype.kind != "f" or np.shape(a) != np.shape(arrays[0]) for a in arrays):
            continue
        tensors = [as_tensor(np.asarray(a, np.float64)) for a in arrays]
        y = primitive(*tensors, **parameters)
        error = as_tensor(np.full(y.shape, 1.7))
        pulled = primitive.pullback(error, y, *tensors, **parameters)
        words = dict(parameters)
        if primitive.terms is not None:
            words |= primitive.terms(*(t.spec for t in tensors), **parameters)
        names = {"dy": error.numpy(), "y": y.numpy(), **{str(i): t.numpy() for i, t in enumerate(tensors)}}
        trees = {key: expression.name(f"v_{key}") for key in names}
        for template, expected in zip(primitive.rule, pulled, strict=True):
            written = expression.text(expression.filled(template, trees, words))
            if not set(re.findall(r"\b([a-z_]+)\(", written)) <= functions.keys() or expected is None:
                continue
            number = arithmetic(
                ast.parse(written, mode="eval").body, functions | {f"v_{k}": v for k, v in names.items()}
            )
            np.testing.assert_allclose(
                number * np.ones(expected.shape), expected.numpy(), rtol=5e-4, atol=1e-6, err_msg=name
            )
            checked.append(name)
    assert len(set(checked)) > 25, checked


def arithmetic(tree, values):
    """A NumPy reading of an expression, for the test above alone."""
    import operator

    signs = {
        ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
        ast.Pow: operator.pow, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Gt: operator.gt,
        ast.Lt: operator.lt, ast.GtE: operator.ge, ast.LtE: operator.le,
    }  # fmt: skip
    if isinstance(tree, ast.Constant):
        return tree.value
    if isinstance(tree, ast.Name):
        return values[tree.id]
    if isinstance(tree, ast.UnaryOp):
        return -arithmetic(tree.operand, values)
    if isinstance(tree, ast.Call):
        return values[tree.func.id](*(arithmetic(a, values) for a in tree.args))
    if isinstance(tree, ast.Compare):
        return signs[type(tree.ops[0])](arithmetic(tree.left, values), arithmetic(tree.comparators[0], values))
    return signs[type(tree.op)](arithmetic(tree.left, values), arithmetic(tree.right, values))


OPTIONS = [
    ("sgd", {}), ("sgd", {"momentum": 0.9, "weight_decay": 0.1, "dampening": 0.3}), ("sgd", {"maximize": True}),
    ("sgd", {"momentum": 0.9, "nesterov": True}), ("adagrad", {"lr_decay": 0.3, "weight_decay": 0.1}),
    ("rmsprop", {"momentum": 0.4, "centered": True, "weight_decay": 0.1}), ("rmsprop", {}),
    ("adam", {"weight_decay": 0.1, "amsgrad": True}), ("adam", {}), ("adamw", {"weight_decay": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_the_formula_of_every_optimizer_gives_its_update_at_every_step(name, options):
    optimizer = OPTIMIZERS[name](lr=0.1, **options)
    weight, memory = np.array([0.7]), None
    values = {letter: optimizer.initial(weight)[slot][0] for slot, letter in optimizer.letters.items()}
    for step, gradient in enumerate((0.5, -0.2, 0.3), 1):
        values |= {"w": weight[0], "g": gradient}
        for assignment in optimizer.formula(step, 0.1):
            letter, _, formula = assignment.partition(" = ")
            values[letter] = expression.calculated(expression.parsed(formula), values)
        weight, memory = optimizer.stepped(weight, np.array([gradient]), memory, step)
        assert values["w"] == pytest.approx(weight[0], rel=1e-9)
        for slot, letter in optimizer.letters.items():
            assert values[letter] == pytest.approx(memory[slot][0], rel=1e-9)


# ------------------------------------------------------------------------------------------------ lines


def test_a_three_layer_network_takes_about_25_lines():
    d = cr.derivation(three_layers(), "cross_entropy", X, Y, optim.SGD(0.1))
    assert len(d.lines) == 18
    assert len(str(d).splitlines()) <= 30
    assert max(map(len, str(d).splitlines())) <= 100
    assert [entry.number for entry in d.lines] == list(range(1, 19))


def test_lines_carry_names_rules_citations_and_the_numbers_of_nielsen():
    d = cr.derivation(three_layers(), "cross_entropy", X, Y)
    assert line(d, "z2").expression == "a1 @ W2.T + b2"
    assert line(d, "z2").source.startswith("test_derivation.py:")
    assert line(d, "z2").layer == "2"
    error = line(d, "d[z3]")
    assert (error.expression, error.equation) == ("(softmax(z3) - onehot(y)) / 6", "BP1")
    assert "prediction - truth" in error.rule and error.note == "n = 6, the rows"
    weights = line(d, "d[W2]")
    assert (weights.expression, weights.equation) == ("d[z2].T @ a1", "BP4")
    assert weights.cites == (line(d, "z2").number,)
    assert weights.source == line(d, "z2").source
    assert line(d, "d[b2]").equation == "BP3"
    assert [line(d, f"d[{n}]").equation for n in ("a1", "z1")] == ["BP2", "BP2"]
    assert line(d, "d[z1]").expression == "d[a1] * (z1 > 0)"
    assert "0 at x = 0" in line(d, "d[z1]").note
    assert d.names["W2"] == "2.weight" and d.names["b3"] == "4.bias"


def test_a_mean_of_all_elements_says_so_and_a_sum_too():
    d = cr.derivation(three_layers(), "mse", X, np.ones((6, 3)))
    assert line(d, "d[z3]").expression == "2 * (z3 - y) / 18"
    assert line(d, "d[z3]").note == "n = 18, every element"
    d = cr.derivation(three_layers(), nn.MSELoss(reduction="sum"), X, np.ones((6, 3)))
    assert line(d, "d[z3]").expression == "2 * (z3 - y)"


def test_values_of_lines_are_those_of_torch():
    torch = peer("torch")
    ours = three_layers()
    d = cr.derivation(ours, "cross_entropy", X, Y, inputs=True)
    t = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 5), torch.nn.Sigmoid(), torch.nn.Linear(5, 3)
    ).double()
    t.load_state_dict({n: torch.tensor(a) for n, a in ours.state_dict().items()})
    x = torch.tensor(X, requires_grad=True)
    seen = [x]
    for layer in t:
        seen.append(layer(seen[-1]))
        seen[-1].retain_grad()
    torch.nn.functional.cross_entropy(seen[-1], torch.tensor(Y)).backward()
    for name, value in zip(("x", "z1", "a1", "z2", "a2", "z3"), seen, strict=True):
        np.testing.assert_allclose(d.values[name], value.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(d.values[f"d[{name}]"], value.grad.numpy(), rtol=1e-10, atol=1e-14)
    for name, label in d.names.items():
        np.testing.assert_allclose(d.values[f"d[{name}]"], dict(t.named_parameters())[label].grad.numpy(), rtol=1e-10)


def test_paths_that_meet_are_said_to_add_up():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            h = self.a(x).tanh()
            return self.b(h + self.a(h))

    d = cr.derivation(Skip().initialise(0), "mse", X, np.ones((6, 3)))
    both = line(d, "d[a1]")
    assert "2 paths add up" in both.rule and len(both.cites) == 2
    assert " + " in line(d, "d[W1]").expression and len(line(d, "d[W1]").cites) == 2


def test_a_weight_without_a_path_to_the_loss_says_why_its_gradient_is_zero():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x) + cr.stop_gradient(self.b(x))

    d = cr.derivation(Cut().initialise(0), "mse", X, np.ones((6, 3)))
    cut = line(d, "d[W2]")
    assert cut.expression == "0" and "stop_gradient" in cut.rule
    assert not d.values["d[W2]"].any()


def test_a_deep_network_is_folded_and_can_be_unfolded():
    layers = [layer for _ in range(50) for layer in (nn.Linear(4, 4), nn.Tanh())]
    d = cr.derivation(nn.Sequential(*layers, nn.Linear(4, 3)).initialise(0), "mse", X, np.ones((6, 3)), optim.Adam(0.1))
    assert len(d.lines) > 300
    assert len(str(d).splitlines()) < 40
    assert "times more" in str(d)
    whole = str(d.unfold())
    assert all(re.search(rf"^ *{entry.number} ", whole, re.M) for entry in d.lines)
    assert d.html().count("<tr>") >= len(d.lines), "a notebook folds, and leaves nothing out"


# ------------------------------------------------------------------------------------------------ update


def test_the_update_of_the_weight_with_the_largest_gradient_is_shown_in_numbers():
    net = nn.Sequential(nn.Linear(1, 1)).to("float64")
    net.load_state_dict({"0.weight": np.array([[0.3121]]), "0.bias": np.array([0.0])})
    d = cr.derivation(net, lambda p, t: cr.ops.sum(p * t), np.array([[1.0]]), np.array([[-0.018]]), optim.SGD(0.1))
    assert d.change.steps == ("w 0.3121 -> 0.3139 = 0.3121 - 0.1 * (-0.018)",)
    assert d.change.name == "0.weight[0, 0]" and d.change.after == pytest.approx(0.3139)
    assert "w 0.3121 -> 0.3139" in str(d)
    assert d.lines[-1].note == "and so for b1"


def test_new_parameters_and_memory_are_those_of_the_optimizer():
    net, adam = three_layers(), optim.Adam(0.1, amsgrad=True)
    d = cr.derivation(net, "cross_entropy", X, Y, adam)
    weight, memory = adam.stepped(net.state_dict()["2.weight"], d.values["d[W2]"])
    np.testing.assert_array_equal(d.values["W2'"], weight)
    np.testing.assert_array_equal(d.values["v[W2]'"], memory["exp_avg_sq"])


def test_looking_changes_nothing_and_later_training_changes_not_what_was_seen():
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).initialise(0)
    before = {n: a.copy() for n, a in net.state_dict().items()}
    d = cr.derivation(net, "mse", X, np.ones((6, 3)), optim.SGD(0.1))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    net.load_state_dict({n: a + 1 for n, a in before.items()})
    np.testing.assert_array_equal(d.values["W1"], before["0.weight"])


# ------------------------------------------------------------------------------------------------ renderings


def derivations():
    yield cr.derivation(three_layers(), "cross_entropy", X, Y, optim.Adam(0.1))
    norms = (nn.LayerNorm(5), nn.GELU(), nn.Dropout(0.3), nn.BatchNorm1d(5), nn.LeakyReLU())
    yield cr.derivation(
        nn.Sequential(nn.Linear(4, 5), *norms, nn.Linear(5, 3)).initialise(0), "huber", X, np.ones((6, 3))
    )
    images = nn.Sequential(nn.Conv2d(1, 2, 2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)).initialise(0)
    yield cr.derivation(images, "cross_entropy", RANDOM.normal(size=(6, 1, 3, 3)), Y, optim.RMSprop(0.1))


def test_every_row_of_latex_can_be_typeset():
    mathtext = peer("matplotlib.mathtext").MathTextParser("path")
    for d in derivations():
        for source in (d.latex(), d.latex("0.weight"), d.latex("b1")):
            assert source.startswith("\\begin{align*}") and source.endswith("\\end{align*}")
            for row in source.splitlines()[1:-1]:
                text = row.removesuffix(r" \\").replace("&", "").replace(r"\text{", r"\mathrm{")
                mathtext.parse(f"${text}$")


def test_the_chain_of_one_weight_is_a_product_of_local_derivatives():
    chain = cr.derivation(three_layers(), "cross_entropy", X, Y).latex("0.weight[2, 3]")
    first, by_sample, *factors = chain.splitlines()[1:-1]
    assert first.count(r"\cdot") == 5 and first.startswith(r"\frac{\partial L}{\partial W_{1}[2, 3]}")
    assert r"\frac{\partial L}{\partial z_{3}} \cdot \frac{\partial z_{3}}{\partial a_{2}}" in first
    assert r"\frac{\partial L}{\partial z_{1}[n, 2]} \cdot x[n, 3]" in by_sample
    assert r"\frac{\partial a_{2}}{\partial z_{2}} &= a_{2} \odot \left(1 - a_{2}\right) \\" in factors


def test_names_that_are_not_there_are_answered_with_those_that_are():
    d = cr.derivation(three_layers(), "cross_entropy", X, Y)
    with pytest.raises(ArgumentError, match=r"did you mean '0\.weight'"):
        d.latex("0.weigth")
    with pytest.raises(ArgumentError, match=r"shape \[5, 4\]"):
        d.latex("W1[7, 2]")
    with pytest.raises(ArgumentError, match="no loss is called 'crossentropy'"):
        cr.derivation(three_layers(), "crossentropy", X, Y)
    with pytest.raises(ArgumentError, match=r"the class Adam"):
        cr.derivation(three_layers(), "mse", X, Y, optim.Adam)


class Balance(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_balanced_folds_without_script_and_escapes_what_it_shows():
    for d in derivations():
        parser = Balance()
        parser.feed(d._repr_html_())
        assert not parser.open
        assert "details" in parser.seen and "script" not in parser.seen
        assert "(z1 &gt; 0)" in d.html() or "z1 > 0" not in str(d)


def test_markdown_has_three_columns_in_every_row():
    for d in derivations():
        rows = [row for row in d.markdown().splitlines() if row.startswith("|")]
        assert len(rows) > 10
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_a_terminal_shows_what_plain_text_says():
    rich = peer("rich.console")
    for d in derivations():
        console = rich.Console(width=100, record=True, file=io.StringIO())
        console.print(d)
        shown = [row.rstrip() for row in console.export_text().splitlines()]
        assert shown == d.text(100).splitlines()


def test_plain_data_survives_json():
    for d in derivations():
        data = json.loads(json.dumps(d.to_dict()))
        assert [entry["number"] for entry in data["lines"]] == [entry.number for entry in d.lines]
        assert data["loss"] == pytest.approx(d.loss)
