"""The README's code runs as it stands, one block after the other, and prints what its comments say."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_blocks_run(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    namespace, printed, said = {}, [], []
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
        printed.append(capsys.readouterr().out)
        said += re.findall(r"^print\(.*\)  # ([\d.]+)$", block, flags=re.MULTILINE)
    assert said == [line for lines in printed[:2] for line in lines.splitlines()] != []
    assert (tmp_path / "model.safetensors").exists()
    assert "1960-12" in printed[2]


def test_is_read_in_two_minutes():
    assert len(README.read_text(encoding="utf-8").split()) <= 600


def test_links_are_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert len(links) > 5
    assert [link for link in links if not (README.parent / link).exists()] == []
