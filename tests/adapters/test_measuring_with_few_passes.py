"""Short ways to a number give what the long ones do, and what is not looked at has no hooks."""

import pytest

from chainrule.adapters import watch
from chainrule.adapters.pytorch.layers import Layer
from chainrule.adapters.pytorch.measured import _twins
from chainrule.adapters.pytorch.sizes import patch_squares
from peers import peer

torch = peer("torch")
nn, F = torch.nn, torch.nn.functional


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [3, 12, 784])
def test_twins_are_found_wherever_they_stand(width, bias):
    torch.manual_seed(width)
    for count in (2, 7, 40):
        module = nn.Linear(width, 61, bias=bias)
        places = torch.randperm(61)[:count]
        with torch.no_grad():
            module.weight[places] = module.weight[places[0]].clone()
            if bias:
                module.bias[places] = module.bias[places[0]].clone()
        layer = Layer("0", module, tuple(module.named_parameters()))
        assert _twins(layer, module.weight.detach()) == pytest.approx(count / 61)


def test_units_that_are_nearly_equal_are_no_twins():
    module = nn.Linear(50, 20)
    with torch.no_grad():
        module.weight[:] = module.weight[0] + 1e-6 * torch.arange(20)[:, None]
        module.bias[:] = 0.0
    layer = Layer("0", module, tuple(module.named_parameters()))
    assert _twins(layer, module.weight.detach()) == 0


@pytest.mark.parametrize("given", [{}, {"padding": 2}, {"stride": 2, "padding": 1}, {"dilation": 2}])
def test_squares_of_all_patches_are_those_of_the_patches_written_out(given):
    module, a = nn.Conv2d(3, 4, 3, **given), torch.randn(5, 3, 9, 8)
    patches = F.unfold(a, 3, **given).double()
    found, count = patch_squares(a, module)
    assert found == pytest.approx(float(patches.square().sum()), rel=1e-5)
    assert count == patches.numel()


@pytest.mark.parametrize("model", [lambda: nn.Linear(6, 3), lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh())])
def test_a_penalty_on_the_weights_is_no_part_of_activation_times_error(model):
    found = []
    for penalty in (0.0, 0.5):
        torch.manual_seed(1)
        net, x, y = model(), torch.randn(16, 6), torch.randint(3, (16,))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        with watch(net, optimizer, every=1) as seen:
            loss = F.cross_entropy(net(x), y)
            if penalty:
                loss = loss + penalty * sum(p.square().sum() for p in net.parameters())
            loss.backward()
            optimizer.step()
        found.append({(m.layer, m.quantity): m.value for m in seen.observer.measurements})
    (layer,) = {layer for layer, quantity in found[0] if quantity == "agreement"}
    for quantity in ("agreement", "gradient", "noise"):
        assert found[1][layer, quantity] == pytest.approx(found[0][layer, quantity], rel=1e-5)


def test_a_hook_of_the_weight_does_not_change_what_activation_times_error_is():
    found = []
    for factor in (1.0, 3.0):
        torch.manual_seed(1)
        net, x, y = nn.Linear(6, 3), torch.randn(16, 6), torch.randint(3, (16,))
        net.weight.register_hook(lambda g, factor=factor: g * factor)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        with watch(net, optimizer, every=1) as seen:
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        found.append({m.quantity: m.value for m in seen.observer.measurements})
    assert found[1]["agreement"] == pytest.approx(found[0]["agreement"], rel=1e-5)
    assert 0 < found[1]["agreement"] <= 1 + 1e-6


def test_layers_have_hooks_only_while_a_step_is_measured_and_the_model_until_the_order_is_known():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    batches = [(torch.randn(256, 6), torch.randint(3, (256,))) for _ in range(4)]
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss()
    hooked = []
    with watch(net, optimizer, loss=criterion) as seen:
        for i in range(40):
            counts = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in (net[0], net, criterion)]
            hooked.append(tuple(c > 0 for c in counts))
            x, y = batches[i % 4]
            optimizer.zero_grad()
            criterion(net(x), y).backward()
            optimizer.step()
    measured = {m.step for m in seen.observer.measurements}
    assert {i for i, (layer, _, _) in enumerate(hooked) if layer} == measured
    assert hooked[:10] == [(True, True, True)] * 10
    assert hooked[39] == (False, False, False)
    assert seen.observer.batches.shuffled() is False
    assert len(seen.observer.loss_values()) == 40
