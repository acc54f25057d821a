"""The README's code runs as it stands, one block after the other."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_blocks_run(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    accuracy, shape, *rest = capsys.readouterr().out.splitlines()
    assert float(accuracy) > 0.9
    assert shape.endswith(", 32, 4)")
    assert "1960-12" in "\n".join(rest)
    assert (tmp_path / "model.safetensors").exists()
    assert namespace["search"].best_score_ > 0.9
    assert namespace["forecaster"].n_parameters_ > 0
