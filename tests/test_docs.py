"""The documentation's code runs, and the names on its pages exist."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sfmts
from sfmts import SFMClassifier
from sfmts.networks import base
from sfmts.networks.base import network_names, network_options

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NO_PAGES = ("_build", "_templates", "auto_examples", "generated", "backreferences")
PAGES = [page for page in sorted(DOCS.rglob("*.rst")) if not set(page.parts) & set(NO_PAGES)]
PAGES_OF_FIGURES = ("README.md", "benchmarks/README.md", "docs/experiments/*.md")
COMMON = {"n_outputs", "frequencies", "phase", "recurrent_dropout", "init", "backend", "memory", "time"}
SET_BY_FIT = {"max_length", "generator"}  # options of networks that are no parameters of estimators
PARTS = "networks of this package are built on it"
OTHER_OPERATIONS = "resolve_backend is the documented one; this one is for another operation"
IN_TEXT = "described in the text of its page"
NOT_DOCUMENTED = {  # public names without an entry in the API reference, and the reason
    "sfmts.__version__": "a string",
    "sfmts.kernels.BACKENDS": IN_TEXT,
    "sfmts.kernels.MEMORIES": IN_TEXT,
    "sfmts.kernels.SUMMARIES": IN_TEXT,
    "sfmts.kernels.State": IN_TEXT,
    "sfmts.kernels.Step": IN_TEXT,
    "sfmts.kernels.eager": PARTS,
    "sfmts.kernels.instruction_set": "described in the text of docs/backends.rst",
    "sfmts.kernels.nvidia_gpu": PARTS,
    "sfmts.kernels.pack": PARTS,
    "sfmts.kernels.resolve_bank": OTHER_OPERATIONS,
    "sfmts.kernels.resolve_resonator": OTHER_OPERATIONS,
    "sfmts.kernels.resonator_layer": PARTS,
    "sfmts.kernels.sfm_state": "a part of sfm; docs/mathematics.rst shows it",
    "sfmts.kernels.unpack": PARTS,
    "sfmts.networks.network_checks": "described under check_network",
}

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not a checkout: the documentation is not packaged")


@pytest.fixture
def own_registry(monkeypatch):
    """Networks that other doctests register are not there, and those of a page are gone after it."""
    own = {name: cls for name, cls in base._REGISTRY.items() if cls.__module__.startswith("sfmts.")}
    monkeypatch.setattr(base, "_REGISTRY", own)


def name_of(page):
    return page.relative_to(DOCS).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code(page, own_registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, missing = runnable(page.read_text(encoding="utf-8"))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, name_of(page), str(page), 0))
    assert runner.summarize(verbose=False).failed == 0
    assert os.listdir(tmp_path) == []
    if missing:
        pytest.skip(f"the rest of the page needs {' and '.join(missing)}")


def runnable(text):
    """Return a page without the sections whose comment names what is not installed, and what that is.

    A comment before the first section is about the whole page.
    """
    missing, sections = [], re.split(r"^(?=.+\n-+$)", text, flags=re.MULTILINE)
    for number, section in enumerate(sections):
        for comment in re.finditer(r"^\.\. needs (.+)$", section, re.MULTILINE):
            gone = [name for name in comment[1].split() if not is_installed(Requirement(name))]
            if gone and number == 0:
                return section[: comment.start()], gone
            if gone:
                sections[number] = ""
                missing += gone
    return "".join(sections), missing


def is_installed(requirement):
    try:
        return version(requirement.name) in requirement.specifier
    except PackageNotFoundError:
        return False


def test_python_is_written_so_that_it_runs():
    for page in PAGES:
        assert not re.search(r"^ *\.\. code(-block)?:: *(python|py|pycon)", page.read_text(encoding="utf-8"), re.M), (
            page
        )


def test_included_parts_are_there():
    pattern = re.compile(r"^\.\. (?:include|literalinclude):: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)
    found = 0
    for page in PAGES:
        for path, options in pattern.findall(page.read_text(encoding="utf-8")):
            text = (page.parent / path).read_text(encoding="utf-8")
            end = 0
            for option, marker in re.findall(r":((?:start|end)-[a-z]+): (.*)\n", options):
                place = text.find(marker, end)
                assert place >= 0, f"{name_of(page)}: {path} lacks {marker!r}"
                end = place + len(marker) if option.startswith("start") else end
                found += 1
    assert found > 0


@pytest.mark.slow
def test_pictures_are_there(tmp_path):
    named = set()
    for page in PAGES:
        for path in re.findall(r"^ *\.\. (?:figure|image):: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert (page.parent / path).is_file(), f"{name_of(page)}: {path}"
            named.add(Path(path).name)
    named |= set(re.findall(r"docs/pictures/(\w+\.svg)", (ROOT / "README.md").read_text(encoding="utf-8")))
    command = [sys.executable, str(DOCS / "pictures" / "make_pictures.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (DOCS / "pictures").glob("*.svg")}
    assert drawn <= named


def test_scripts_of_commands_are_there():
    named = {
        script
        for page in PAGES
        for script in re.findall(r"(?:benchmarks|examples|experiments|docs)/\w+\.(?:py|sh)", page.read_text("utf-8"))
    }
    assert named
    assert [script for script in sorted(named) if not (ROOT / script).is_file()] == []


def test_figures_stand_in_the_results():
    """Figures that are repeated in words or in smaller tables are those that the pages of results have now."""
    source = "".join(path.read_text(encoding="utf-8") for pages in PAGES_OF_FIGURES for path in ROOT.glob(pages))
    parts = [part for page in PAGES for part in doctest.DocTestParser().parse(page.read_text(encoding="utf-8"))]
    figures = re.findall(r"\b\d+\.\d{3,}\b", "\n".join(part for part in parts if isinstance(part, str)))
    assert len(figures) > 30
    assert [figure for figure in figures if figure not in source] == []


@pytest.mark.usefixtures("own_registry")
def test_table_of_networks():
    """Each network is there with the options that are its own."""
    text = (DOCS / "guide" / "networks.rst").read_text(encoding="utf-8")
    rows = dict(re.findall(r'^   \* - :class:`"(\w+)" <[\w.]+>`\n(?:     - .*\n){2}     - (.*)$', text, re.MULTILINE))
    assert sorted(rows) == network_names()
    of_all = {*inspect.signature(SFMClassifier).parameters, *SET_BY_FIT, *COMMON}
    for name, row in rows.items():
        own = [option for option in network_options(name) if option not in of_all]
        assert re.findall(r"``(\w+)``", row) == own, name
        assert text.count(f'\n``"{name}"``\n~~~') == 1, name


def listed_names():
    """Return the names on the pages of the API reference as pairs of a module and a name."""
    names = []
    for page in sorted((DOCS / "api").glob("*.rst")):
        module, in_table = "", False
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. (auto|current)?module:: (\S+)", line):
                module = match[2]
            elif match := re.match(r"\.\. autoclass:: (\S+)", line):
                names.append((module, match[1]))
            elif line and not line.startswith(" "):
                in_table = line == ".. autosummary::"
            elif in_table and (match := re.fullmatch(r" +([^:\s]\S*)", line)):
                names.append((module, match[1]))
    return names


def public_names():
    """Return the names in __all__ of each public module as pairs of a module and a name."""
    modules = [sfmts]
    for info in pkgutil.walk_packages(sfmts.__path__, "sfmts."):
        if "._" not in info.name:
            modules.append(importlib.import_module(info.name))
    return [(module.__name__, name) for module in modules for name in getattr(module, "__all__", ())]


def test_api_reference_lists_public_names():
    listed = listed_names()
    assert len(listed) > 50
    assert len(set(listed)) == len(listed)
    public = set(public_names())
    assert [name for name in listed if name not in public] == []
    for module, name in listed:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_public_names_are_in_the_api_reference():
    listed = listed_names()
    documented = [getattr(importlib.import_module(module), name) for module, name in listed]
    missing = {
        f"{module}.{name}"
        for module, name in public_names()
        if not any(getattr(importlib.import_module(module), name) is value for value in documented)
    }
    assert missing == set(NOT_DOCUMENTED)
