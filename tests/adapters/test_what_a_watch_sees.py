"""What a watch records of a live PyTorch model: factors, head, layers, and the faults of the user's own loop."""

import numpy as np
import pytest

import chainrule
from chainrule.adapters import watch
from chainrule.errors import ArgumentError
from chainrule.record import Quantity, measurements_of, read_record
from peers import peer

torch = peer("torch")
nn, F = torch.nn, torch.nn.functional

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] + X[:, 1] > 0).long()


def loop(model, optimizer=None, steps=8, loss=F.cross_entropy, y=Y, each=None, x=X, **options):
    """Train and watch; the watch, whose hooks are gone. each: in place of the usual body of the loop."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    seen = watch(model, **{"optimizer": optimizer, "every": 1, **options})
    seen.__enter__()
    try:
        for i in range(steps):
            if each is not None:
                each(i, optimizer)
                continue
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    finally:
        seen.stop()
    assert seen.observer.faults == {}
    return seen


def dense(*last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 2), *last)


def test_the_factors_multiply_to_the_gradient_of_the_step():
    """The oracle is the gradient that PyTorch computed."""
    model = dense()
    twin = dense()
    F.cross_entropy(twin(X), Y).backward()
    seen = loop(model, steps=1).record()
    for name in ("0", "2", "4"):
        take = {q: seen.first(name, q) for q in Quantity}
        truth = float(twin.get_submodule(name).weight.grad.pow(2).mean().sqrt())
        assert take[Quantity.GRADIENT] == pytest.approx(truth, rel=1e-5)
        product = take[Quantity.ACTIVATION] * take[Quantity.ERROR] * take[Quantity.AGREEMENT] * take[Quantity.USES]
        assert product == pytest.approx(truth, rel=1e-5)
        assert take[Quantity.UPDATE] == pytest.approx(0.1 * truth, rel=1e-3)


CONVOLUTIONS = {
    "zeros": nn.Conv2d(1, 5, 2, padding=1),
    "strided": nn.Conv2d(1, 5, (2, 1), stride=2),
    "same": nn.Conv2d(1, 5, (1, 3), padding="same"),
    "circular": nn.Conv2d(1, 5, 2, padding=1, padding_mode="circular"),
    "dilated": nn.Conv2d(1, 5, 2, dilation=(1, 2)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_is_taken_apart_like_its_patches_in_a_dense_layer(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (1, 2, 4)), CONVOLUTIONS[kind], nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    model(X)
    seen = loop(model, steps=1)
    record, trace = seen.record(), seen.trace()
    layer = trace.layers[0]
    positions = layer.a.shape[1] * layer.a.shape[2]
    windows, errors = layer.a.reshape(96 * positions, -1), layer.delta.reshape(96 * positions, -1)
    product = errors.T @ windows / trace.rows
    assert product == pytest.approx(model[1].weight.grad.flatten(1).numpy(), abs=2e-6)
    assert record.first("1", Quantity.USES) == positions
    assert record.first("1", Quantity.GRADIENT) == pytest.approx(np.sqrt(np.mean(product**2)), rel=1e-4)


def test_the_numbers_equal_those_measured_on_the_trace():
    """Two ways to the same numbers: tensors in PyTorch, and the plain arrays that a run of chainrule is measured by."""
    seen = loop(dense(), steps=3)
    kept = {(m.layer, m.quantity): m.value for m in seen.observer.measurements if m.step == 2}
    for m in measurements_of(seen.trace()):
        assert kept[m.layer, m.quantity] == pytest.approx(m.value, rel=1e-4, abs=1e-12), (m.layer, m.quantity)


def test_accumulated_batches_are_one_batch():
    whole = loop(dense(), steps=1).record()

    def halves(i, optimizer):
        optimizer.zero_grad()
        for part in (slice(0, 48), slice(48, 96)):
            (F.cross_entropy(model(X[part]), Y[part]) / 2).backward()
        optimizer.step()

    model = dense()
    parts = loop(model, steps=1, each=halves).record()
    for quantity in (Quantity.ACTIVATION, Quantity.ERROR, Quantity.AGREEMENT, Quantity.GRADIENT, Quantity.UPDATE):
        assert parts.first("2", quantity) == pytest.approx(whole.first("2", quantity), rel=1e-4)
    assert parts.loss.first == pytest.approx(whole.loss.first, rel=1e-6)


def test_loss_scaling_is_divided_out():
    plain = loop(dense(), steps=1).record()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def scaled(i, optimizer):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(X), Y)).backward()
        scaler.step(optimizer)
        scaler.update()

    model = dense()
    found = loop(model, steps=1, each=scaled).record()
    assert found.loss.first == pytest.approx(plain.loss.first)
    for quantity in (Quantity.ERROR, Quantity.GRADIENT, Quantity.AGREEMENT):
        assert found.first("0", quantity) == pytest.approx(plain.first("0", quantity), rel=1e-4)


HEADS = {
    "cross_entropy": (dense, F.cross_entropy, Y, ("cross_entropy", None)),
    "softmax twice": (lambda: dense(nn.Softmax(1)), F.cross_entropy, Y, ("cross_entropy", "softmax")),
    "log probabilities": (lambda: dense(nn.LogSoftmax(1)), F.nll_loss, Y, ("cross_entropy", None)),
    "probabilities": (lambda: dense(nn.Softmax(1)), F.nll_loss, Y, ("nll", "softmax")),
    "probabilities as targets": (dense, F.cross_entropy, F.one_hot(Y).float(), ("cross_entropy", None)),
    "label smoothing": (dense, nn.CrossEntropyLoss(label_smoothing=0.1), Y, ("cross_entropy", None)),
    "sigmoid before logits": (
        lambda: dense(nn.Sigmoid()), F.binary_cross_entropy_with_logits, F.one_hot(Y).float(),
        ("binary_cross_entropy_with_logits", "sigmoid"),
    ),
    "sigmoid": (
        lambda: dense(nn.Sigmoid()), F.binary_cross_entropy, F.one_hot(Y).float(), ("binary_cross_entropy", "sigmoid"),
    ),
    "squares": (lambda: dense(nn.ReLU()), F.mse_loss, F.one_hot(Y).float(), ("mse", "relu")),
    "squares by hand": (dense, lambda p, y: ((p - y) ** 2).mean(), F.one_hot(Y).float(), ("mse", None)),
    "absolute": (lambda: dense(nn.Tanh()), F.l1_loss, F.one_hot(Y).float(), ("mae", "tanh")),
    "with a penalty": (
        dense, lambda p, y: F.cross_entropy(p, y) + 1e-3 * p.pow(2).sum(), Y, ("cross_entropy", None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_the_head_of_the_loss_is_read_from_its_graph(case):
    build, loss, y, expected = HEADS[case]
    head = loop(build(), steps=2, loss=loss, y=y).record().facts.head
    assert (head.loss, head.activation) == expected


def test_the_function_after_each_layer_is_found_where_modules_do_not_tell():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.a, self.b = nn.Linear(6, 2), nn.Linear(8, 7), nn.Linear(7, 6)

        def forward(self, x):
            return self.c(torch.tanh(self.b(F.relu(self.a(x), inplace=True))))

    layers = loop(Net(), steps=1).record().facts.layers
    assert [(y.name, y.activation) for y in layers] == [("a", "relu"), ("b", "tanh"), ("c", None)]


def test_a_loop_without_a_fault_has_none():
    scheduled = dense(nn.Dropout(0.1))
    optimizer = torch.optim.Adam(scheduled.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)

    def each(i, optimizer):
        scheduled.train()
        optimizer.zero_grad()
        F.cross_entropy(scheduled(X), Y).backward()
        nn.utils.clip_grad_norm_(scheduled.parameters(), 0.01)
        optimizer.step()
        schedule.step()
        scheduled.eval()
        with torch.no_grad():
            scheduled(X)

    facts = loop(scheduled, optimizer, 30, each=each).record().facts.loop
    assert (facts.steps, facts.foreign, facts.not_held, facts.detached, facts.scaler_skipped) == (30, 0, (), (), 0)
    for name in ("never_zeroed", "zeroed_before_step", "step_without_backward", "evaluation_mode", "loss_without_graph",
                 "schedule_before_optimizer", "schedule_by_step"):  # fmt: skip
        assert getattr(facts, name) is False, name


def test_gradients_that_are_never_zeroed_are_noticed():
    model = dense()

    def each(i, optimizer):
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()

    assert loop(model, each=each).record().facts.loop.never_zeroed is True


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_zeroed_between_backward_and_step_are_noticed(to_none):
    model = dense()

    def each(i, optimizer):
        F.cross_entropy(model(X), Y).backward()
        optimizer.zero_grad(set_to_none=to_none)
        optimizer.step()

    facts = loop(model, each=each).record().facts.loop
    assert facts.zeroed_before_step is True
    assert facts.never_zeroed is False


def test_old_style_zeroing_counts_as_zeroing():
    model = dense()

    def each(i, optimizer):
        for p in model.parameters():
            if p.grad is not None:
                p.grad.data.zero_()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()

    assert loop(model, each=each).record().facts.loop.never_zeroed is False


def test_evaluation_mode_left_on_is_noticed():
    model = dense(nn.Dropout(0.5)).eval()
    assert loop(model).record().facts.loop.evaluation_mode is True
    assert loop(dense().eval()).record().facts.loop.evaluation_mode is False  # no layer acts on it


class Cut(nn.Module):
    """Its first layer is cut off in one of the ways in which people do it."""

    def __init__(self, way):
        super().__init__()
        self.way, self.first, self.last, self.idle = way, nn.Linear(8, 16), nn.Linear(16, 2), nn.Linear(3, 3)

    def forward(self, x):
        if self.way == "no_grad":
            with torch.no_grad():
                h = self.first(x)
        else:
            h = self.first(x)
            h = h.detach() if self.way == "detach" else h.data if self.way == "data" else torch.tensor(h.tolist())
        return self.last(torch.relu(h))


@pytest.mark.parametrize("way", ["detach", "data", "tolist", "no_grad"])
def test_a_path_that_is_cut_is_noticed_and_told_from_a_layer_that_never_runs(way):
    facts = loop(Cut(way)).record().facts
    assert facts.loop.detached == ("first.weight", "first.bias")
    layers = {y.name: y for y in facts.layers}
    assert "cut" in layers["first"].unreachable["first.weight"]
    assert "never uses" in layers["idle"].unreachable["idle.weight"]
    assert layers["last"].unreachable == {}


def test_parameters_that_no_optimizer_holds_and_foreign_ones_are_noticed():
    model, other = dense(), dense()
    facts = loop(model, torch.optim.SGD([*model[0].parameters(), *model[2].parameters()], lr=0.1)).record().facts.loop
    assert facts.not_held == ("4.weight", "4.bias")
    facts = loop(model, torch.optim.SGD(other.parameters(), lr=0.1)).record().facts.loop
    assert facts.foreign == 6 and len(facts.not_held) == 6


def test_the_optimizer_is_found_where_it_was_not_given():
    model = dense()
    other = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    other.param_groups[0]["params"][0].grad = torch.ones(1)

    def each(i, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        other.step()

    seen = loop(model, each=each, optimizer=None)
    model_optimizers = seen.observer.optimizers
    assert [type(o).__name__ for o in model_optimizers] == ["SGD"] and other not in model_optimizers
    assert seen.observer.steps == 8


def test_a_schedule_stepped_at_every_update_until_nothing_is_left_is_noticed():
    model = dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)

    def each(i, optimizer):
        schedule.step()
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()

    with pytest.warns(UserWarning, match="lr_scheduler.step"):
        facts = loop(model, optimizer, 30, each=each).record().facts
    assert facts.loop.schedule_by_step is True
    assert facts.loop.schedule_before_optimizer is True
    assert facts.training.schedule == "ExponentialLR"


def test_updates_that_loss_scaling_leaves_out_are_counted():
    model = dense()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=10**6, backoff_factor=0.999)

    def each(i, optimizer):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(X) * 1e3, Y)).backward()
        scaler.step(optimizer)
        scaler.update()

    seen = loop(model, each=each)
    assert seen.observer.steps == 0
    assert seen.observer.loop.skipped == 8
    assert "CR609" in seen.verdict()


def loader(shuffle):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), 16, shuffle=shuffle)


@pytest.mark.parametrize("shuffle", [True, False])
def test_whether_batches_are_shuffled_shows_in_the_second_round(shuffle):
    torch.manual_seed(0)
    model = dense()
    rows = loader(shuffle)

    def each(i, optimizer):
        for x, y in rows:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    facts = loop(model, steps=3, each=each).record().facts
    assert facts.training.shuffle is shuffle
    assert facts.loop.same_batch is False
    assert (facts.data.rows, facts.training.batch_size) == (96, 16)


def test_the_same_batch_every_time_is_noticed_where_there_are_more():
    model = dense()
    rows = loader(False)

    def each(i, optimizer):
        x, y = next(iter(rows))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    assert loop(model, each=each).record().facts.loop.same_batch is True
    assert loop(dense()).record().facts.loop.same_batch is None  # all there is, at every step


def test_predictions_and_targets_of_other_shapes_are_noticed():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    with pytest.warns(UserWarning, match="target size"):
        head = loop(model, loss=F.mse_loss, y=Y.float(), steps=2).record().facts.head
    assert head.broadcast == ((96, 1), (96,))


def test_the_first_value_that_is_not_finite_is_placed():
    model = dense()

    def each(i, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        if i == 2:
            with torch.no_grad():
                model[2].weight[0, 0] = float("inf")

    found = loop(model, each=each).record().facts.not_finite
    assert (found.step, found.layer) == (3, "2")


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
def test_a_compiled_or_scripted_model_says_what_cannot_be_seen():
    model = dense()
    scripted = torch.jit.trace(model, X)
    seen = loop(scripted, steps=3)
    assert "scripted" in seen.observer.hidden
    record = seen.record()
    assert len(record.loss) == 3 and record.measured("0", Quantity.UPDATE).first > 0
    compiled = torch.compile(dense(), backend="eager")
    seen = loop(compiled, steps=3)
    assert "compiled" in seen.observer.hidden
    assert seen.record().measured("0", Quantity.GRADIENT).first > 0
    with pytest.raises(ArgumentError, match="compiled"):
        seen.trace()


def test_evaluation_inside_the_block_is_not_taken_for_training():
    model = dense()

    def each(i, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        with torch.no_grad():
            F.cross_entropy(model(100 * X), Y)
        F.cross_entropy(model(100 * X), Y)  # forgot no_grad; nothing comes back

    record = loop(model, each=each).record()
    assert max(record.measured("0", Quantity.ACTIVATION).values) < 2
    assert len(record.loss) == 8


def test_a_model_without_parameters_and_a_block_without_steps_are_said_plainly():
    assert "no parameters" in watch(nn.ReLU()).verdict()
    assert "no optimizer made an update" in watch(nn.Linear(2, 2)).verdict()


def test_what_is_no_model_or_optimizer_is_refused_by_name():
    with pytest.raises(ArgumentError, match=r"torch\.nn\.Module, got chainrule\.nn"):
        watch(chainrule.nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match="optimizer"):
        watch(nn.Linear(2, 2), 0.1)
    with pytest.raises(ArgumentError, match="every"):
        watch(nn.Linear(2, 2), every=0)


def test_the_record_in_a_file_equals_that_in_memory(tmp_path):
    seen = loop(dense(), steps=4, run_dir=tmp_path / "run")
    seen._write(tmp_path / "run")
    memory, file = seen.record(), read_record(tmp_path / "run" / "record.sqlite")
    assert file.facts == memory.facts
    assert file.loss.values.tolist() == memory.loss.values.tolist()
    assert {k: v.values.tolist() for k, v in file.measurements.items()} == {
        k: v.values.tolist() for k, v in memory.measurements.items()
    }
