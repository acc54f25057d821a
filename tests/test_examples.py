"""Every example in examples/plot_*.py runs, writes its pictures and prints its table."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PIANO_ROLLS = "SFMTS_PIANO_ROLLS"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="not a checkout: examples are not packaged")

# What each writes, and a line that it prints, with a number that must lie between two bounds.
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
    "plot_frame_labels": (
        ["frame_labels.png", "frame_labels_training.png"],
        (r"^SFM, both directions +\d+ +([\d.]+)", 0.9, 1.0),
    ),
    "plot_regression": (
        ["regression_spectra.png", "regression_predictions.png", "regression_training.png"],
        (r"^SFM +([\d.]+)", 0.95, 1.0),
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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXPECTED)
def test_runs(name, tmp_path):
    if name == "plot_chorales" and not os.environ.get(PIANO_ROLLS):
        pytest.skip(f"{PIANO_ROLLS} does not name the folder of the piano-rolls, and tests do not download")
    output = tmp_path / "pictures"
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--output", str(output)]
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr

    files, (pattern, low, high) = EXPECTED[name]
    assert sorted(path.name for path in output.iterdir()) == sorted(files)
    for file in files:
        assert f"wrote {output / file}" in result.stdout
        check(output / file)
    assert os.listdir(tmp_path) == [output.name]  # nothing beside the folder asked for
    found = re.search(pattern, result.stdout, flags=re.MULTILINE)
    assert found, result.stdout
    assert low <= float(found[1]) <= high, result.stdout


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
