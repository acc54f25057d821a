"""The campaign of malformed calls, in small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_no_call_ends_badly(tmp_path):
    """No internal error, crash, endless loop or silent wrong, and calls of an earlier run are not repeated."""
    results = tmp_path / "calls.jsonl"
    command = [sys.executable, ROOT / "benchmarks/robustness.py", "--quick", "--results", results]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert first.returncode == 0, first.stdout + first.stderr
    n_calls = len(results.read_text().splitlines())
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert len(results.read_text().splitlines()) == n_calls > 200
