"""Results kept as files: compared by default, written only on request."""

import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")
TEST = "def test_sum(golden):\n    golden('sum', f'{1 + 2}\\n')\n"


def pytest_in(folder, *options):
    """Run the one golden test in a folder with our conftest."""
    (folder / "conftest.py").write_bytes(CONFTEST.read_bytes())
    (folder / "test_sum.py").write_text(TEST, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--rootdir",
        str(folder),
        *options,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_golden_files_are_compared_and_written_only_on_request(tmp_path):
    missing = pytest_in(tmp_path)
    assert missing.returncode == 1 and "does not exist" in missing.stdout
    assert pytest_in(tmp_path, "--update-golden").returncode == 0
    assert (tmp_path / "golden" / "sum.txt").read_text(encoding="utf-8") == "3\n"
    assert pytest_in(tmp_path).returncode == 0
    (tmp_path / "golden" / "sum.txt").write_text("4\n", encoding="utf-8")
    changed = pytest_in(tmp_path)
    assert changed.returncode == 1 and "differs from" in changed.stdout
