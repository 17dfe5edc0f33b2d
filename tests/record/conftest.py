"""What the tests of the record share: the configuration of a small run."""

import pytest

from chainrule.record import Choice, RunConfig


@pytest.fixture
def config():
    return RunConfig(
        source="digits",
        architecture={"layers": [{"kind": "Linear", "in": 64, "out": 10}]},
        loss=Choice("cross_entropy"),
        optimizer=Choice("Adam", {"lr": 0.001}),
        epochs=3,
        batch_size=64,
        seed=0,
    )
