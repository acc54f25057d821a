"""How Sphinx builds the documentation: `make docs`, without a network."""

import os
import re
import tomllib
from pathlib import Path

from docutils import nodes
from sktime.forecasting.base import BaseForecaster
from sphinx.addnodes import pending_xref
from sphinx.ext.autosummary import autosummary_table
from sphinx.util.nodes import get_node_source, make_refnode
from sphinx_gallery.sorting import ExplicitOrder

import sfmts
from sfmts.datasets import fetch_etth1, fetch_piano_rolls

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "sfmts"
author = "the sfmts developers"
project_copyright = author
version = release = sfmts.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "myst_parser",
    "numpydoc",
    "sphinx-mathjax-offline",  # MathJax in the site itself: formulas need no network
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/**/*.md5", "auto_examples/**/*.ipynb"]
default_role = "literal"  # `torch.compile` in a docstring is code
nitpicky = True
smartquotes = False  # default="sfm" is to be typed
toc_object_entries_show_parents = "hide"

# -- references: a docstring names its neighbours as its module does, while the pages stand under public names; names of
# other projects become links by the rule that each has for its addresses, as their inventories would be a download

EXTERNAL = {
    "dataclasses": "https://docs.python.org/3/library/dataclasses.html#{name}",
    "matplotlib": "https://matplotlib.org/stable/api/_as_gen/{name}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{name}.html",
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
    "skpro": "https://skpro.readthedocs.io/en/stable/api_reference/auto_generated/{name}.html",
    "sktime": "https://www.sktime.net/en/stable/api_reference/auto_generated/{name}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{name}.html",
}


def is_foreign(source):
    """Whether this is an inherited docstring, which may speak of its own project's sections and methods."""
    _, mark, name = source.partition("docstring of ")
    return bool(mark) and not name.startswith("sfmts")


def resolve_reference(app, env, node, content):
    """Return the target of a reference that Sphinx could not resolve, or None for a warning."""
    target, source = node.get("reftarget", ""), get_node_source(node) or ""
    if node.get("refdomain") != "py":
        return content if is_foreign(source) else None
    if address := EXTERNAL.get(target.partition(".")[0]):
        return nodes.reference("", "", content, internal=False, refuri=address.format(name=target), reftitle=target)
    objects = env.domains["py"].objects
    if found := [name for name in objects if f".{name}".endswith(f".{target.removeprefix('sfmts.')}")]:
        name = min(found, key=len)
        return make_refnode(app.builder, node["refdoc"], objects[name].docname, objects[name].node_id, content, name)
    return content if is_foreign(source) else None


# -- docstrings

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections name types and shapes in words
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False  # the class template does
numpydoc_xref_param_type = False

# Of scikit-learn's and sktime's base classes only what one calls; the rest is theirs to document.
INHERITED = {
    *("fit", "fit_predict", "fit_transform", "transform", "predict", "predict_proba", "score", "update"),
    *("predict_interval", "predict_quantiles", "predict_residuals", "predict_var", "pretrain"),
    *("get_params", "set_params"),
}


def skip_member(app, what, name, member, skip, options):
    """Leave out what other projects' classes bring along; None leaves the decision to Sphinx."""
    function = getattr(member, "fget", member)
    module = getattr(function, "__module__", None) or "sfmts"
    foreign = not module.startswith("sfmts")
    if module.startswith("sktime.transformations") and name == "fit_transform":
        return True  # its docstring is not valid reStructuredText
    return True if (foreign and name not in INHERITED) or name == "get_test_params" else None


def mark_attributes(app, what, name, member, options, lines):
    """Make code of attributes that look like references: self.classes_ of other projects, and sizes in shapes."""
    lines[:] = [re.sub(r"(?<=shape )\([^()`]*\w_\b[^()`]*\)", r"``\g<0>``", line) for line in lines]
    if not (getattr(member, "__module__", None) or "sfmts").startswith("sfmts"):
        lines[:] = [re.sub(r"(?<!`)\bself\.\w+_\b(?!`)", r"``\g<0>``", line) for line in lines]


def leave_out_citations(app, doctree):
    """Take the marks of references, which numpydoc makes long, out of the tables of names."""
    for table in doctree.findall(autosummary_table):
        for mark in [node for node in table.findall(pending_xref) if node["refdomain"] == "citation"]:
            mark.parent.remove(mark)


# -- Markdown: the changelog, the benchmarks and the experiments, whose pages experiments/report.py writes

source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]


# -- the gallery


FETCHED = {"chorales": (fetch_piano_rolls, "SFMTS_PIANO_ROLLS"), "forecast": (fetch_etth1, "SFMTS_ETT")}


def data_are_there(fetch, variable):
    """Whether an example finds its data; only Read the Docs may download them."""
    try:
        fetch(data_home=os.environ.get(variable), download_if_missing="READTHEDOCS" in os.environ)
    except OSError:
        return False
    return True


MISSING = [name for name, source in FETCHED.items() if not data_are_there(*source)]


PLOTTED = (
    "importance",
    "early_classification",
    "waves",
    "grid_search",
    "frame_labels",
    "regression",
    "chorales",
    "forecast",
)  # before those without pictures

# sktime announces a new default with each forecaster it makes.  It holds already here, or pages would show the warning,
# which a filter does not keep off, as sktime sets filters of its own.
BaseForecaster._config = {**BaseForecaster._config, "remember_data": False}

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_" + "".join(f"(?!{name})" for name in MISSING),
    "within_subsection_order": ExplicitOrder([*(f"plot_{name}.py" for name in PLOTTED), "*"]),
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sfmts",),
    "capture_repr": (),
    "default_thumb_file": str(HERE / "_static" / "logo.svg"),
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
}

# -- the pages

html_theme = "pydata_sphinx_theme"
html_title = "sfmts"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["sfmts.css"]
html_js_files = ["table_labels.js"]
html_context = {"default_mode": "auto"}  # dark where the reader's system is
html_copy_source = False
html_show_sourcelink = False
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT.get("urls", {}).get("Repository")
html_theme_options = {
    "logo": {"text": "sfmts", "alt_text": "sfmts: home"},
    "header_links_before_dropdown": 7,
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher", "navbar-icon-links"],
    **({"github_url": REPOSITORY} if REPOSITORY else {}),
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {name: [] for name in ("index", "install", "quickstart", "changelog", "search")}

copybutton_selector = ":not(.sphx-glr-script-out) > div.highlight > pre"
copybutton_prompt_text = r">>> |\.\.\. "  # of doctests only the input is copied
copybutton_prompt_is_regexp = True


def setup(app):
    """Connect the functions of this file to the events of Sphinx."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", mark_attributes)
    app.connect("doctree-read", leave_out_citations)
    app.connect("missing-reference", resolve_reference)
