"""What `import sfmts` does and holds."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import sfmts
import sfmts.datasets
import sfmts.networks

FACES = [sfmts, sfmts.networks, sfmts.datasets]
ROOT = Path(sfmts.__file__).parents[1]


def python(code):
    """Standard output of a fresh interpreter, in which every warning is an error."""
    command = [sys.executable, "-W", "error:::sfmts", "-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


EXTRAS = ("sktime", "skpro", "skbase", "matplotlib", "pandas", "pooch", "mido", "soundfile", "requests", "dask")


def test_import_is_light():
    code = """
import sys
import sklearn.base, torch, tqdm.auto, safetensors.torch  # what they import is theirs
before = set(sys.modules)
import sfmts, sfmts.networks, sfmts.datasets
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print("cuda" if torch.cuda.is_initialized() else "no-cuda", "torch._dynamo" in sys.modules, *sorted(roots))
"""
    cuda, compiler, *roots = python(code)
    assert cuda == "no-cuda"
    assert compiler == "False"
    assert "sfmts" in roots
    assert not {*EXTRAS, "tests"} & set(roots)


@pytest.mark.slow
def test_works_without_the_extras():
    code = f"""
import sys
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *arguments: (
    None if name.partition(".")[0] in {EXTRAS} else find_spec(name, *arguments)
)
import numpy as np
from sfmts import *
from sfmts.datasets import make_waves
X, y = make_waves(8, n_steps=5, random_state=0)
model = SFMClassifier(n_states=2, max_iter=1, random_state=0, device="cpu")
print(*model.fit(PanelScaler().fit_transform(X), y).predict(X).shape, "SFMForecaster" in globals())
"""
    assert python(code) == ["8", "False"]


@pytest.mark.slow
@pytest.mark.parametrize("code", ["from sfmts import SFMForecaster", "import sfmts.sktime"])
def test_what_needs_an_extra_says_which(code):
    code = f"""
import sys
sys.modules["sktime"] = None
try:
    {code}
except ImportError as error:
    print(".[forecasting]" in str(error))
"""
    assert python(code) == ["True"]


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_faces_list_what_is_public(face):
    assert len(set(face.__all__)) == len(face.__all__)
    public = {name for name, value in vars(face).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == {name for name in face.__all__ if not name.startswith("_")}
    namespace = {}
    exec(f"from {face.__name__} import *", namespace)  # the only way to test it
    assert set(face.__all__) <= set(namespace)
    for name in face.__all__:
        value = getattr(face, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.startswith("sfmts")
            assert value.__name__ == name


NAMES = ["sfmts", "sfmts.datasets", "sfmts.metrics", "sfmts.model_selection", "sfmts.plotting"]


@pytest.mark.parametrize("name", NAMES)
def test_dir_lists_public_names_only(name):
    face = importlib.import_module(name)
    modules = {entry for entry in dir(face) if inspect.ismodule(getattr(face, entry))}
    assert set(dir(face)) - modules == set(face.__all__)
    assert all(getattr(face, entry).__name__ == f"sfmts.{entry}" for entry in modules)


PUBLIC = {
    f"{face.__name__}.{name}": getattr(face, name)
    for face in FACES
    for name in face.__all__
    if callable(getattr(face, name))
}


def parameters_of(value):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(value).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind not in kinds and parameter.name != "self"]


def documented(value, *sections):
    """Names that the sections of a numpydoc docstring list."""
    names = []
    for section in sections:
        match = re.search(
            rf"^{section}\n-+\n(.*?)(?=\n\n\S[^\n]*\n-+\n|\Z)", inspect.getdoc(value), re.DOTALL | re.MULTILINE
        )
        if match:
            for line in re.findall(r"^[*\w][^\n:]*", match[1], re.MULTILINE):
                names += [name.strip().lstrip("*") for name in line.split(",")]
    return names


@pytest.mark.parametrize("value", PUBLIC.values(), ids=PUBLIC)
def test_docstrings_say_what_every_parameter_is(value):
    assert value.__doc__
    assert not set(parameters_of(value)) - set(documented(value, "Parameters", "Attributes"))
    for name, function in inspect.getmembers(value, inspect.isroutine) if inspect.isclass(value) else ():
        if not name.startswith("_") and getattr(function, "__module__", "").startswith("sfmts"):
            doc = inspect.getdoc(function)
            assert doc, name
            if ":meth:" in doc.splitlines()[0] and "Parameters\n" not in doc:
                continue  # it refers to the method that documents them
            assert not set(parameters_of(function)) - set(documented(function, "Parameters")), name


def test_version_and_types():
    assert files("sfmts").joinpath("py.typed").is_file()
    from importlib.metadata import version

    assert sfmts.__version__ == version("sfmts")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", sfmts.__version__)


in_a_checkout = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")


@in_a_checkout
def test_an_installation_has_no_cpp_sources(tmp_path):
    """It has what is read at run time: types, and the CUDA kernel, which is compiled on first use."""
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    installed = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert not {path for path in installed if path.suffix == ".cpp" or path.parent.name == "cpu"}
    packaged = [path for path in (ROOT / "sfmts").rglob("*") if path.suffix in (".py", ".pyi", ".typed", ".cu")]
    assert {path.relative_to(ROOT) for path in packaged} <= installed


@in_a_checkout
def test_the_citation_has_the_version():
    assert f"\nversion: {sfmts.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@in_a_checkout
def test_pre_commit_has_the_tested_linter():
    versions = [
        re.search(pattern, (ROOT / name).read_text(), re.DOTALL)[1]
        for name, pattern in [
            ("constraints.txt", r"\nruff==(\S+)"),
            (".pre-commit-config.yaml", r"ruff-pre-commit\s+rev: v(\S+)"),
        ]
    ]
    assert versions[0] == versions[1]


@in_a_checkout
@pytest.mark.skipif(sys.platform == "win32", reason="git writes links as files on Windows")
@pytest.mark.parametrize("name", ["estimators", "datasets"])
def test_links_at_the_root(name):
    link = ROOT / name
    assert link.is_symlink()
    assert os.readlink(link) == f"sfmts/{name}"
    assert link.resolve() == (ROOT / "sfmts" / name).resolve()
    assert (link / "__init__.py").is_file()
