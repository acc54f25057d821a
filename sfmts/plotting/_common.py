"""Checks, panels and styles that the displays share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito without yellow
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def check_matplotlib(caller: str) -> None:
    """Raise ImportError if matplotlib is missing, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        how = "pip install '.[plot]' in a checkout of sfmts"
        raise ImportError(f"{caller} needs matplotlib, which is missing: {how}") from error


def check_fitted(estimator: Any) -> None:
    """Raise NotFittedError, of scikit-learn or of sktime, if an estimator is not fitted."""
    own = getattr(estimator, "check_is_fitted", None)  # of sktime's estimators
    if own is None:
        check_is_fitted(estimator)
    else:
        own()


def last_step(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """Return the estimator inside pipelines, searches and sktime adapters, and X as that estimator receives it."""
    while True:
        if is_face(estimator):
            X = None if X is None else estimator._as_native(X)
            estimator = _native_estimator(estimator)
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if X is not None and len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            return estimator, X


def is_face(estimator: Any) -> bool:
    """Return whether an estimator is one of :mod:`sfmts.sktime`, which need not be installed."""
    return type(estimator).__module__.startswith("sfmts.sktime")


def _native_estimator(adapter: Any) -> Any:
    """Return the estimator inside an sktime adapter; raise ValueError if sktime trained none or several."""
    if hasattr(adapter, "estimator_"):
        return adapter.estimator_
    name = f"sfmts.sktime.{type(adapter).__name__}"
    if hasattr(adapter, "classifiers_"):
        raise ValueError(
            f"{name} was fitted to several columns of labels, with one classifier for each. Pass an entry of its "
            "classifiers_."
        )
    raise ValueError(
        f"{name} was fitted to a single class, for which sktime trains no estimator. Fit it to two or more classes."
    )


def check_colormap(cmap: Any) -> None:
    """Raise TypeError or ValueError, as matplotlib does for names, if ``cmap`` is no colormap."""
    import matplotlib
    from matplotlib.colors import Colormap

    if not isinstance(cmap, str | Colormap):
        raise TypeError(f"cmap must be the name of a colormap or a Colormap, not {cmap!r}.")
    if isinstance(cmap, str) and cmap not in matplotlib.colormaps:
        raise ValueError(f"cmap={cmap!r} is no colormap of matplotlib, whose names are list(matplotlib.colormaps).")


def panels(
    ax: Any, shape: tuple[int, int], size: tuple[float, float], *, sharex: bool = False, sharey: bool = False
) -> "tuple[NDArray[Any], Axes | None]":
    """Return an array of Axes of the given shape, and the Axes they replace if one was given for several panels."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    n_panels = shape[0] * shape[1]
    if ax is None:
        _, axes = plt.subplots(*shape, sharex=sharex, sharey=sharey, squeeze=False, figsize=size, layout="constrained")
        return axes, None
    given = np.empty(1, dtype=object) if isinstance(ax, Axes) else np.asarray(ax, dtype=object)
    if isinstance(ax, Axes):
        given[0] = ax
    strange = [item for item in given.flat if not isinstance(item, Axes)]
    if strange:
        raise TypeError(f"ax must be matplotlib Axes or an array of them, but holds a {type(strange[0]).__name__}.")
    if given.size == n_panels:
        return given.reshape(shape), None
    if not isinstance(ax, Axes):
        raise ValueError(f"ax holds {given.size} Axes, but this plot has {n_panels} panels. Pass one Axes for each.")
    spec = ax.get_subplotspec()
    if spec is None or not ax.axison:
        why = "is not part of a grid" if spec is None else "was replaced by the panels of an earlier plot"
        raise ValueError(f"ax {why}. Pass an array of {n_panels} Axes, such as axes_ of an earlier display.")
    ax.set_axis_off()
    grid = spec.subgridspec(*shape)
    return grid.subplots(sharex=sharex, sharey=sharey, squeeze=False), ax


def label_outer(axes: NDArray[Any]) -> None:
    """Keep labels only at the left and at the bottom; Axes.label_outer does not do this for a part of a grid."""
    for panel in axes[:-1].flat:
        panel.set_xlabel("")
    for panel in axes[:, 1:].flat:
        panel.set_ylabel("")


def plain_log_ticks(ax: "Axes") -> None:
    """Label a logarithmic axis with plain numbers, 0.2 instead of 2 x 10^-1, and with enough of them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000.0 * low else (1.0,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def line_style(defaults: dict[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the defaults updated by the user's arguments, which may have matplotlib's short names."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**defaults, **normalize_kwargs(dict(given or {}), Line2D)}
