"""The benchmarks of the fixed memory, on collections made up here."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
def test_regressions_and_sizes():
    rows = run("regression.py").splitlines()
    assert len(rows) == 8
    assert float(rows[2].split("|")[2].split()[0]) < float(rows[7].split("|")[2].split()[0])  # SFMRegressor, mean
    rows = run("sizes.py", "--sizes", "60", "--seeds", "1").splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["rhythm"] * 3 + ["order"] * 3
