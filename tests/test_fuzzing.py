"""All readers of others' files are fuzzed, guided by coverage, for a minute each or for TWOVIEW_FUZZ_SECONDS."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = os.environ.get("TWOVIEW_FUZZ_SECONDS", "60")


@pytest.mark.long
@pytest.mark.timeout(float(SECONDS) + 300)
@pytest.mark.parametrize("target", ["archive", "arrays", "beton", "checkpoint", "recipe", "record", "tree"])
def test_every_input_gives_a_result_or_one_sentence(target, tmp_path):
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.fuzzing", target, str(tmp_path / "corpus"), f"-max_total_time={SECONDS}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stderr[-5000:]
    print(ended.stderr.splitlines()[-1])  # how many inputs, in how many seconds
