"""The README's code runs as it stands, one block after the other, and prints what its comments say."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_blocks_run(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    namespace, printed = {}, []
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
        printed.append(capsys.readouterr().out.splitlines())
    expected = re.findall(r"^print\(.*\)  # (\S+)$", blocks[0], flags=re.MULTILINE)
    assert expected == printed[0] != []
    accuracy, shape = printed[1]
    assert float(accuracy) > 0.9
    assert shape.endswith(", 32, 4)")
    assert (tmp_path / "model.safetensors").exists()
    assert namespace["search"].best_score_ > 0.9
    assert "1960-12" in "\n".join(printed[3])
    assert namespace["forecaster"].n_parameters_ > 0
