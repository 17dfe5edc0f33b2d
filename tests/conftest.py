"""What every test shares: repeatable generated examples, and results kept as files."""

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

GOLDEN = Path(__file__).parent / "golden"

# The same examples on every run and machine: a failure in CI is a failure on the laptop.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/*.txt from what the tests got")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("xor", text)` compares text with tests/golden/xor.txt; `--update-golden` writes the file instead."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.is_file():
            pytest.fail(
                f"tests/golden/{name}.txt does not exist; read what you got, then run pytest --update-golden:\n{text}"
            )
        assert text == path.read_text(encoding="utf-8"), (
            f"differs from tests/golden/{name}.txt; if meant: pytest --update-golden"
        )

    return compare
