"""A watched training equals an unwatched one bit for bit, whatever it does, and nothing is left behind."""

import contextlib
import copy
import gc
import sys

import pytest

from chainrule.adapters import watch
from chainrule.adapters.pytorch.uses import Use
from peers import peer

torch = peer("torch")
nn, F = torch.nn, torch.nn.functional


class Twin(nn.Module):
    """One encoder used twice a forward pass, and its head's weight tied to it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 12)
        self.decoder = nn.Linear(12, 12)
        self.decoder.weight = self.encoder.weight
        self.last = nn.Linear(12, 3)

    def forward(self, x):
        left, right = torch.tanh(self.encoder(x)), torch.tanh(self.encoder(x.flip(1)))
        return self.last(F.relu(self.decoder(left * right), inplace=True))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.2, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        h = self.lstm(self.embedding(x.abs().mul(7).long().clamp(max=19)))[0]
        return self.last(self.norm(h + self.attention(h, h, h)[0]).mean(1))


def convolutions():
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 2, stride=2, padding="valid"), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


MODELS = {
    "dense": lambda: nn.Sequential(nn.Linear(12, 16), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(16, 3)),
    "convolutions": convolutions,
    "shared": Twin,
    "recurrent": Recurrent,
    "bfloat16": lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(inplace=True), nn.Linear(16, 3)).bfloat16(),
    "float64": lambda: nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 3)).double(),
}


def plain(model, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(model(x).float(), y).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def accumulating(model, optimizer, x, y):
    optimizer.zero_grad()
    for half in (slice(0, 16), slice(16, 32)):
        (F.cross_entropy(model(x[half]).float(), y[half]) / 2).backward()
    optimizer.step()


def twice(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=False)
    out = model(x).float()
    F.cross_entropy(out, y).backward(retain_graph=True)
    out.pow(2).mean().backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        model(x)
    model.train()


STEPS = {"plain": plain, "accumulating": accumulating, "twice": twice}


def trained(build, step, watched, kind="Adam", steps=12):
    """Everything that training leaves behind. watched: whether and how often it is measured."""
    torch.manual_seed(0)
    model = build()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-2)
    dtype = next(model.parameters()).dtype
    x, y = torch.randn(32, 12, dtype=dtype), torch.randint(3, (32,))
    seen = None if watched is None else watch(model, optimizer, every=watched)
    if seen is not None:
        seen.__enter__()
    for _ in range(steps):
        step(model, optimizer, x, y)
    if seen is not None:
        seen.stop()
    state = [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state()]
    return state, [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()], seen


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("model", MODELS)
def test_weights_gradients_random_state_and_modes_are_the_same_bits(model, step):
    alone, modes, learns, _ = trained(MODELS[model], STEPS[step], None)
    seen, modes_seen, learns_seen, observed = trained(MODELS[model], STEPS[step], 1)
    assert all(torch.equal(a, b) for a, b in zip(alone, seen, strict=True))
    assert (modes, learns) == (modes_seen, learns_seen)
    assert observed.observer.steps == 12 and observed.observer.measurements
    assert observed.observer.faults == {}


def test_an_optimizer_with_a_closure_takes_the_same_path():
    def closure_step(model, optimizer, x, y):
        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)

    alone, *_ = trained(MODELS["float64"], closure_step, None, "LBFGS", 3)
    seen, _, _, observed = trained(MODELS["float64"], closure_step, 1, "LBFGS", 3)
    assert all(torch.equal(a, b) for a, b in zip(alone, seen, strict=True))
    loop = observed.observer.loop
    assert not loop.never_zeroed and not loop.step_without_backward and loop.zeroed_before_step is None


def hooks_of(model, optimizer):
    own = [
        getattr(m, f"_{n}") for m in model.modules() for n in ("forward_hooks", "forward_pre_hooks", "backward_hooks")
    ]
    shared = sys.modules["torch.optim.optimizer"]
    return [len(h) for h in [*own, shared._global_optimizer_pre_hooks, shared._global_optimizer_post_hooks]] + [
        torch.autograd.backward, torch.amp.GradScaler.__dict__["step"], torch.amp.GradScaler.__dict__["scale"],
        torch.utils.data.DataLoader.__dict__["__iter__"], torch.optim.lr_scheduler.LRScheduler.__dict__["step"],
    ]  # fmt: skip


@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt])
def test_no_hook_and_no_patch_is_left_after_the_block_however_it_ends(fault):
    torch.manual_seed(0)
    model = MODELS["convolutions"]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, optimizer)
    x, y = torch.randn(8, 12), torch.randint(3, (8,))
    with contextlib.suppress(RuntimeError, KeyboardInterrupt), watch(model, optimizer):
        plain(model, optimizer, x, y)
        F.cross_entropy(model(x), y).backward()
        gradients = [p.grad for p in model.parameters()]
        random = torch.get_rng_state()
        weights = copy.deepcopy(model.state_dict())
        if fault is not None:
            raise fault("stop")
    assert hooks_of(model, optimizer) == before
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())


def test_an_exception_in_the_block_reaches_the_user_with_the_verdict_printed(capsys):
    model = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), watch(model):
        raise ZeroDivisionError
    assert "no optimizer made an update" in capsys.readouterr().out


def test_two_watches_that_end_in_another_order_leave_nothing_behind():
    models = [nn.Linear(3, 1), nn.Linear(3, 1)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in models]
    before = hooks_of(models[0], optimizers[0])
    first, second = watch(models[0]), watch(models[1])
    first.__enter__()
    second.__enter__()
    for model, optimizer in zip(models, optimizers, strict=True):
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    first.stop()
    second.stop()
    assert [first.observer.steps, second.observer.steps] == [1, 1]
    model(torch.ones(4, 3)).sum().backward()
    assert first.observer.loop.backwards == second.observer.loop.backwards == 2
    assert torch.autograd.backward(torch.ones(1, requires_grad=True).sum()) is None
    assert hooks_of(models[0], optimizers[0])[:5] == before[:5]


def test_a_watch_lets_go_of_the_steps_that_it_has_measured():
    """A use that held the autograd graph was held by it too, in a ring through C++ that no collector sees."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer, criterion = torch.optim.SGD(model.parameters(), 0.1), torch.nn.CrossEntropyLoss()
    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
    with watch(model, optimizer, loss=criterion, every=1):
        for _ in range(30):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    gc.collect()
    assert sum(type(found) is Use for found in gc.get_objects()) <= 4  # of the last step at most
