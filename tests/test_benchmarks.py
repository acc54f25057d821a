"""The benchmarks of the fixed memory, on collections made up here."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import make_panel

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def archive(tmp_path):
    """A folder of two collections, one of unequal lengths with a gap, and published accuracies of one."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, ragged, channels in [("Sines", False, 1), ("Ragged", True, 2)]:
        parts = {}
        for part, seed in [("train", 0), ("test", 1)]:
            X, y = make_panel(n=20, n_steps=30, n_channels=channels, n_classes=2, ragged=ragged, seed=seed)
            values = np.concatenate(list(X)).astype(np.float32)
            if ragged:
                values[3] = np.nan
            parts |= {
                f"{part}_values": values,
                f"{part}_lengths": np.array([len(x) for x in X]),
                f"{part}_y": y.astype(str),
            }
        np.savez(folder / f"{name}.npz", **parts)
    published = dict.fromkeys(
        ["MiniROCKET", "ROCKET", "MR-Hydra", "InceptionTime", "ResNet", "CNN", "1NN-DTW", "HC2"], 0.5
    )
    (folder / "published.json").write_text(json.dumps({"Sines": published}))
    return folder


def run(script, *arguments, folder=None):
    environment = {**os.environ, "SFMTS_ARCHIVE": str(folder)} if folder else None
    command = [sys.executable, BENCHMARKS / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=240).stdout


@pytest.mark.slow
def test_archive_runs_goes_on_and_reports(archive, tmp_path):
    results = tmp_path / "results.jsonl"
    methods = ["--methods", "ridge,ridge_zero", "--results", str(results)]
    run("archive.py", *methods, "--seeds", "1", folder=archive)
    assert len(results.read_text().splitlines()) == 4
    with results.open("a") as file:
        file.write('{"collection": "Sines", "meth')  # the process was killed while it wrote
    run("archive.py", *methods, "--seeds", "2", folder=archive)
    records = [json.loads(line) for line in results.read_text().splitlines() if line.endswith("}")]
    assert len({(r["collection"], r["method"], r["seed"]) for r in records}) == 8
    assert all(0.5 < r["accuracy"] <= 1 for r in records)
    run("archive.py", *methods, "--seeds", "1", "--missing", "0.5", folder=archive)
    report = run("archive.py", "--report", "--results", str(results), folder=archive)
    for heading in (
        "Comparison over all columns",
        "Standard deviation",
        "Calibration",
        "What the frequencies add",
        "Missing",
    ):
        assert heading in report


@pytest.mark.slow
def test_tables_of_speed_and_memory():
    printed = run("features.py", "memory", "stream")
    assert "MB in addition to X and the result" in printed
    assert "update and decision" in printed


@pytest.mark.slow
def test_collections_of_short_series(tmp_path):
    rng = np.random.default_rng(0)
    series = [{"train": rng.normal(size=30).cumsum().tolist(), "test": [0.0] * 4} for _ in range(3)]
    series.append({"train": [1.0] * 30, "test": [1.0] * 4})  # has no scale
    with gzip.open(tmp_path / "hospital.json.gz", "wt") as file:
        json.dump({"sp": 1, "horizon": 4, "series": series}, file)
    printed = run("forecasting.py", "--collections", tmp_path)
    assert "hospital: 4 series, horizon 4, season 1" in printed
    row = next(line for line in printed.splitlines() if line.startswith("| sfm"))
    assert all(float(cell) >= 0 for cell in row.split("|")[2:-1] if cell.strip() != "nan")


@pytest.mark.slow
def test_series_with_covariates():
    rows = [row.split("|")[1:-1] for row in run("covariates.py").splitlines()]
    assert [cell.strip() for cell in rows[0][2:4]] == ["SFMForecaster", "SFMForecaster with X"]
    growth = next(row for row in rows if "growth" in row[0])
    assert float(growth[3]) < float(growth[2])


@pytest.mark.slow
def test_regressions_and_sizes():
    rows = run("regression.py").splitlines()
    assert len(rows) == 8
    assert float(rows[2].split("|")[2].split()[0]) < float(rows[7].split("|")[2].split()[0])  # SFMRegressor, mean
    rows = run("sizes.py", "--sizes", "60", "--seeds", "1").splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["rhythm"] * 3 + ["order"] * 3


STAGES = ["environment", "kernel", "networks", "speed", "fits", "memcheck", "racecheck"]


def run_stages(folder, python):
    """Run gpu.sh and return its exit status and the verdict of each stage."""
    environment = {**os.environ, "PYTHON": str(python), "XDG_CACHE_HOME": str(folder / "cache")}
    command = ["bash", BENCHMARKS / "gpu.sh", folder / "logs"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    verdicts = re.findall(r"^stage (\w+): (\w+) in \d+ s(?: \((.*)\))?$", found.stdout, re.MULTILINE)
    assert [name for name, _, _ in verdicts] == STAGES, found.stdout + found.stderr
    return found.returncode, {name: (verdict, reason) for name, verdict, reason in verdicts}


@pytest.mark.skipif(os.name != "posix" or torch.cuda.is_available(), reason="it takes minutes on a GPU")
def test_stages_without_a_gpu(tmp_path):
    status, verdicts = run_stages(tmp_path, sys.executable)
    assert verdicts.pop("environment") == ("passed", "")
    assert set(verdicts.values()) == {("skipped", "no GPU")}
    assert status == 0
    assert "no GPU" in (tmp_path / "logs" / "environment.log").read_text().splitlines()


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize(("code", "verdict"), [(1, "failed"), (139, "failed"), (124, "inconclusive")])
def test_no_stage_stops_the_next(code, verdict, tmp_path):
    """Run the stages by an interpreter that takes every machine for one with a GPU."""
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
        case "$*" in
            *--environment) echo "GPU: made up" ;;
            *--tests*test_cuda*) exit {code} ;;
            *--tests*) echo "pytest missing"; exit 77 ;;
            *--sanitize*) echo "there is no compute-sanitizer"; exit 75 ;;
        esac
        """
    )
    python.chmod(0o755)
    status, verdicts = run_stages(tmp_path, python)
    assert verdicts["environment"] == verdicts["speed"] == verdicts["fits"] == ("passed", "")
    assert verdicts["kernel"][0] == verdict
    assert verdicts["networks"] == ("skipped", "pytest missing")
    assert verdicts["memcheck"] == verdicts["racecheck"] == ("inconclusive", "there is no compute-sanitizer")
    assert status == (verdict == "failed")


@pytest.mark.slow
def test_costs_of_updates_of_whole_fits():
    printed = run("gpu.py", "--fits", "--device", "cpu")
    rows = re.findall(r"^\| ([\w ]+) \| (equal|ragged) \| (-?[\d.]+) \| 0\.0 \| 0\.0 \|$", printed, re.MULTILINE)
    assert len(rows) == 8
    assert {name for name, _, _ in rows} == {"sfm fused", "sfm fused recompute", "resonator", "gru"}
