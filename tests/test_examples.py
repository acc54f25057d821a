"""Every example runs, writes its pictures and prints its table."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sfmts.networks import network_names

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDERS = {"plot_chorales": "SFMTS_PIANO_ROLLS", "plot_forecast": "SFMTS_ETT"}  # of data that tests do not download

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="not a checkout: examples are not packaged")

# What each plot_*.py writes, and a line that it prints, with a number that must lie between two bounds.
EXPECTED = {
    "plot_waves": (
        [
            *(f"waves_{variant}.png" for variant in ("paper", "released", "hard")),
            "waves_training.png",
            "waves_amplitudes_square.png",
            "waves_amplitudes_sawtooth.png",
        ],
        (r"^paper +SFM +\d+ +([\d.]+)", 0.95, 1.0),
    ),
    "plot_chorales": (
        [
            "chorales_training.png",
            "chorales_predictions.png",
            "chorales_continuation.png",
            "chorales_continuation.mid",
        ],
        (r"^SFM +\d+ +(-[\d.]+)", -8.5, -7.9),
    ),
    "plot_forecast": (
        ["forecast_airline.png", "forecast_oil.png"],
        (r"^SFM of loads, \d+ epochs +([\d.]+)", 1.5, 2.05),  # the day before has 2.09
    ),
    "plot_frame_labels": (
        ["frame_labels.png", "frame_labels_training.png"],
        (r"^SFM, both directions +\d+ +([\d.]+)", 0.9, 1.0),
    ),
    "plot_regression": (
        ["regression_spectra.png", "regression_predictions.png", "regression_training.png"],
        (r"^SFM +([\d.]+)", 0.95, 1.0),
    ),
    "plot_early_classification": (
        ["early_series.png", "early_accuracy.png", "early_stream.png"],
        (r"^one for each share +(?:[\d.]+ +){3}([\d.]+)", 0.97, 1.0),  # after 40 %
    ),
    "plot_importance": (
        ["importance_motions.png", "importance_periods.png", "importance_running.png", "importance_prediction.png"],
        (r"^test accuracy ([\d.]+)", 0.95, 1.0),
    ),
    "plot_grid_search": (
        ["grid_search.png", "grid_search_training.png"],
        (r"^sfm fixed +\d+ +([\d.]+) ±", 0.9, 1.0),
    ),
}


def test_form():
    paths = sorted(EXAMPLES.glob("plot_*.py"))
    assert [path.stem for path in paths] == sorted(EXPECTED)
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
        compile(tree, str(path), "exec")
        doc = ast.get_docstring(tree)
        assert doc, path
        assert f"python examples/{path.name}" in doc
        # a gallery: cells, each of which begins with a title
        cells = re.findall(r"^# %%\n(.*)\n", text, flags=re.MULTILINE)
        assert len(cells) >= 3, path
        assert all(cell.startswith("# ") for cell in cells), path
        # as a notebook: no command line, and figures appear in their cells
        assert not re.search(r"argparse|sys\.argv|__file__|matplotlib\.use", text), path


def run(name, *options, folder, launcher=()):
    """What an example prints."""
    command = [sys.executable, *launcher, str(EXAMPLES / f"{name}.py"), *options]
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_figure(stdout, pattern, low, high):
    found = re.search(pattern, stdout, flags=re.MULTILINE)
    assert found, stdout
    assert low <= float(found[1]) <= high, stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXPECTED)
def test_runs(name, tmp_path):
    if name in FOLDERS and not os.environ.get(FOLDERS[name]):
        pytest.skip(f"{FOLDERS[name]} does not name the folder of the data")
    output = tmp_path / "example_output"
    stdout = run(name, folder=tmp_path)
    files, figure = EXPECTED[name]
    assert sorted(path.name for path in output.iterdir()) == sorted(files)
    for file in files:
        assert f"wrote {output.name}/{file}" in stdout
        check(output / file)
    assert os.listdir(tmp_path) == [output.name]  # nothing beside the folder asked for
    check_figure(stdout, *figure)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo(tmp_path):
    """The LSTM trains too little for its figure to mean anything; the fixed memory does all that it does."""
    output = tmp_path / "pictures"
    stdout = run("demo", "--series", "100", "--epochs", "1", "--output", str(output), folder=tmp_path)
    accuracies = re.findall(r"^\w+ +\d .* ([01]\.\d{3}) +[\d.]+$", stdout, flags=re.MULTILINE)
    assert len(accuracies) == 6, stdout
    assert min(map(float, accuracies)) > 0.85, stdout
    check_figure(stdout, r"missing \(NaN\).* SFM ([\d.]+),", 0.9, 1.0)
    check_figure(stdout, r"^SFM, time stamps +([\d.]+)", 0.95, 1.0)
    check_figure(stdout, r"the least for (\d+) of 12 series", 6, 12)
    pictures = ["forecast.png", "importance.png", "periods.png"]
    assert sorted(path.name for path in output.iterdir()) == pictures
    for name in pictures:
        assert f"wrote {output / name}" in stdout
        check(output / name)
    assert os.listdir(tmp_path) == [output.name]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_distributed_training(tmp_path):
    """Two processes print what one prints, but for the first line, which says how many there are."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    alone = run("distributed_training", folder=tmp_path)
    together = run("distributed_training", folder=tmp_path, launcher=launcher)
    assert alone.startswith("processes: 1,")
    assert together.startswith("processes: 2,")
    assert together.splitlines()[1:] == alone.splitlines()[1:]
    check_figure(alone, r"^test +[\d.]+, accuracy ([\d.]+)", 0.95, 1.0)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cluster_grid_search(tmp_path):
    stdout = run("cluster_grid_search", folder=tmp_path)
    assert "dashboard: http" in stdout
    assert "--scheduler tcp://host:8786" in stdout
    check_figure(stdout, r"^sfm fixed +16 +([\d.]+) ±", 0.9, 1.0)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compare_networks(tmp_path):
    """The quick form trains too little for figures to mean anything; every network has a row in both tables."""
    output = tmp_path / "pictures"
    stdout = run("compare_networks", "--quick", "--output", str(output), folder=tmp_path)
    for name in network_names():
        assert len(re.findall(rf"^{name} +\d+ +\d+ +[01]\.\d{{3}} ", stdout, flags=re.MULTILINE)) == 2, name
    assert f"wrote {output / 'compare_networks.png'}" in stdout
    check(output / "compare_networks.png")


def check(path):
    """A picture has shapes in several colours, a MIDI file notes."""
    if path.suffix == ".mid":
        from sfmts.datasets import midi_to_roll

        assert midi_to_roll(path, step=1.0, unit="quarters").sum() > 40
        return
    from matplotlib.image import imread

    pixels = np.round(255 * imread(path)[..., :3]).astype(int).reshape(-1, 3)
    assert len(pixels) > 100_000
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    assert len(colours) > 50
    assert counts.max() < 0.99 * len(pixels)  # more than a frame around nothing
