"""Display of the amplitudes of a State-Frequency Memory."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sfmts._choices import check_flag, check_size
from sfmts.networks.sfm import SFM
from sfmts.plotting._common import (
    check_colormap,
    check_fitted,
    check_matplotlib,
    is_face,
    label_outer,
    last_step,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

_PERIODS = {"index": "step", "normalized": "series", "timestamps": "time unit"}  # the interval in which t grows by 1
_LOG_RANGE = 1000.0  # ratio of the greatest to the smallest amplitude of a logarithmic scale


class AmplitudeDisplay:
    """Amplitudes abs(S) of the states of a State-Frequency Memory while it reads a series (the paper's Figure 5).

    Each panel shows one step: states from bottom to top, frequencies from left to right. All panels share one colour
    scale. It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    amplitudes : ndarray of shape (n_panels, n_states, n_frequencies)
        The amplitudes after each of ``steps``.
    steps : ndarray of shape (n_panels,)
        Numbers of the steps, counted from 1.
    n_steps : int, default=None
        Length T of the series. If given, titles mark the steps T/4, T/2, 3T/4 and T.
    frequencies : ndarray of shape (n_frequencies,), default=None
        Frequency omega / 2 pi of each column. If None, columns are labelled 0, 1, ..., as for frequencies that change
        from step to step.
    time : {"index", "normalized", "timestamps"}, default="index"
        Meaning of t in omega t, which decides on the unit of the frequencies.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        The panels.
    images_ : list of matplotlib AxesImage
        The image in each panel.
    colorbar_ : matplotlib Colorbar or None
        The scale of all images.
    bounding_ax_ : matplotlib Axes or None
        The Axes that the panels replaced, if one was passed for several panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    AmplitudeDisplay.from_estimator : Draw the amplitudes of a fitted estimator.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017, Figure 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.plotting import AmplitudeDisplay
    >>> amplitudes = np.random.default_rng(0).uniform(size=(2, 8, 4))
    >>> display = AmplitudeDisplay(amplitudes, np.array([50, 100]), frequencies=np.arange(4) / 4)
    >>> [ax.get_title() for ax in display.plot().axes_]
    ['t = 50', 't = 100']
    """

    axes_: NDArray[Any]
    images_: "list[AxesImage]"
    colorbar_: "Colorbar | None"
    bounding_ax_: "Axes | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        amplitudes: NDArray[Any],
        steps: NDArray[np.int64],
        *,
        n_steps: int | None = None,
        frequencies: NDArray[np.float64] | None = None,
        time: str = "index",
    ) -> None:
        self.amplitudes = amplitudes
        self.steps = steps
        self.n_steps = n_steps
        self.frequencies = frequencies
        self.time = time

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        series: int = 0,
        steps: ArrayLike | None = None,
        ax: Any = None,
        cmap: "str | Colormap" = "viridis",
        log_scale: bool = False,
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the amplitudes with which a fitted estimator reads one series.

        Parameters
        ----------
        estimator : estimator instance
            A fitted estimator with the method ``state_amplitudes``, such as :class:`sfmts.SFMClassifier` with
            ``network="sfm"``. It may be the last step of a pipeline or the best estimator of a search.
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Series in the estimator's input format; for estimators of :mod:`sfmts.sktime`, any format of sktime.
        series : int, default=0
            Number of the series to show. Only this one is computed.
        steps : array-like of int, default=None
            Numbers of the steps to show, counted from 1 as in the paper. If None, T/4, T/2, 3T/4 and T, rounded up,
            where T is the length of this series. A series of fewer than four steps has fewer panels.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="viridis"
            Colour map. The default rises evenly in lightness, so it is readable without colour.
        log_scale : bool, default=False
            Whether colours follow the logarithm, down to a thousandth of the greatest amplitude. The paper's scale is
            linear, which shows few states if amplitudes differ a lot.
        colorbar : bool, default=True
            Whether to draw the colour scale.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`. Its ``norm`` replaces ``log_scale``.

        Returns
        -------
        display : AmplitudeDisplay
            For a bidirectional network, the states that read backwards are above those that read forwards.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the network has no amplitudes, as ``network="lstm"``, or X has no such series or step.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from sfmts import SFMClassifier
        >>> from sfmts.datasets import make_waves
        >>> from sfmts.plotting import AmplitudeDisplay
        >>> X, y = make_waves(20, n_steps=30, random_state=0)
        >>> model = SFMClassifier(base=None, n_states=6, max_iter=2, random_state=0).fit(X, y)
        >>> display = AmplitudeDisplay.from_estimator(model, X, series=3)
        >>> display.amplitudes.shape, display.steps
        ((4, 6, 4), array([ 8, 15, 23, 30]))
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_fitted(estimator)
        if is_face(estimator):  # the series of sktime's formats are not always items of X
            estimator, X = last_step(estimator, X)
        n, series = _num_samples(X), check_size("series", series, least=None)
        if not -n <= series < n:
            raise ValueError(f"series={series} is not in X, whose {n} series are numbered from 0 to {n - 1}.")
        fitted, one = last_step(estimator, _safe_indexing(X, [series]))
        try:
            state_amplitudes = fitted.state_amplitudes
        except AttributeError as error:
            raise ValueError(
                f"{cls.__name__} needs an estimator with a State-Frequency Memory: {error.__cause__ or error}"
            ) from error
        amplitudes = np.asarray(state_amplitudes(one)[0])
        shown = _check_steps(steps, len(amplitudes))
        frequencies, time = _frequencies(fitted)
        display = cls(amplitudes[shown - 1], shown, n_steps=len(amplitudes), frequencies=frequencies, time=time)
        return display.plot(ax, cmap=cmap, log_scale=log_scale, colorbar=colorbar, imshow_kw=imshow_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: "str | Colormap" = "viridis",
        log_scale: bool = False,
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the amplitudes.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="viridis"
            Colour map.
        log_scale : bool, default=False
            Whether colours follow the logarithm, down to a thousandth of the greatest amplitude.
        colorbar : bool, default=True
            Whether to draw the colour scale.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : AmplitudeDisplay
            This object.

        Raises
        ------
        ValueError
            If the number of Axes in ``ax`` differs from the number of panels.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LogNorm, Normalize
        from matplotlib.ticker import MaxNLocator

        log_scale, colorbar = check_flag("log_scale", log_scale), check_flag("colorbar", colorbar)
        check_colormap(cmap)
        n_panels = len(self.amplitudes)
        axes, self.bounding_ax_ = panels(ax, (1, n_panels), (1.6 + 2.0 * n_panels, 3.8), sharex=True, sharey=True)
        options = {"aspect": "auto", "origin": "lower", "interpolation": "nearest", **(imshow_kw or {})}
        options.setdefault("cmap", cmap)
        greatest = float(self.amplitudes.max())
        norm = LogNorm(greatest / _LOG_RANGE, greatest) if log_scale and greatest > 0 else Normalize(vmin=0.0)
        scale = ScalarMappable(norm=options.pop("norm", None) or norm)  # a given norm may be a string
        scale.set_clim(options.pop("vmin", None), options.pop("vmax", None))
        scale.norm.autoscale_None(self.amplitudes.ravel())  # over all steps, because panels share one scale
        label = "frequency number k" if self.bounding_ax_ is None else "k"
        if self.frequencies is not None:
            period = _PERIODS[self.time]
            # panels that replace a single Axes are narrow
            label = f"frequency ω/2π\n(cycles / {period})" if self.bounding_ax_ is None else f"ω/2π\n(1/{period})"
        self.axes_, self.images_ = axes.ravel(), []
        for panel, amplitudes, step in zip(self.axes_, self.amplitudes, self.steps.tolist(), strict=True):
            self.images_.append(panel.imshow(amplitudes, norm=scale.norm, **options))
            panel.set(title=self._title(step), xlabel=label, ylabel="state")
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
            panel.xaxis.set_major_formatter(self._column_name)
        self.figure_ = self.axes_[0].figure
        if ax is None or self.bounding_ax_ is not None:
            label_outer(axes)
        self.colorbar_ = None
        if colorbar:
            self.colorbar_ = self.figure_.colorbar(
                self.images_[-1],
                ax=self.axes_.tolist(),
                label="amplitude |S|",
                extend="min" if scale.norm is norm and isinstance(norm, LogNorm) else "neither",
            )
        return self

    def _column_name(self, position: float, _: Any = None) -> str:
        """Return the label of the column at a position."""
        column = round(position)  # matplotlib also asks for ticks beyond the edges
        if not 0 <= column < self.amplitudes.shape[2]:
            return ""
        return str(column) if self.frequencies is None else f"{self.frequencies[column]:.3g}"

    def _title(self, step: int) -> str:
        """Return the title of a panel; t is the number of the step only if steps drive the phase."""
        title = f"t = {step}" if self.time == "index" else f"step {step}"
        quarters = [] if self.n_steps is None else _quarters(self.n_steps)
        if len(quarters) == 4 and step in quarters:
            title += f"\n({('T/4', 'T/2', '3T/4', 'T')[quarters.index(step)]})"
        return title


def _quarters(n_steps: int) -> list[int]:
    """Return T/4, T/2, 3T/4 and T, rounded up and without duplicates."""
    return sorted({-(-n_steps * part // 4) for part in range(1, 5)})


def _check_steps(steps: ArrayLike | None, n_steps: int) -> NDArray[np.int64]:
    """Return the numbers of the steps to show; raise ValueError if they are not from 1 to ``n_steps``."""
    if steps is None:
        return np.array(_quarters(n_steps))
    try:
        numbers = np.atleast_1d(np.asarray(steps))
    except (TypeError, ValueError, RuntimeError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(f"steps must be a list of step numbers such as [1, {n_steps}], but is {steps!r}.")
    outside = numbers[(numbers < 1) | (numbers > n_steps)]
    if outside.size:
        raise ValueError(f"steps has {outside[0]}, but this series has the steps 1 to {n_steps}.")
    return numbers.astype(np.int64)


def _frequencies(estimator: Any) -> tuple[NDArray[np.float64] | None, str]:
    """Return omega / 2 pi of the last layer, or None if states or steps differ in it, and the meaning of t."""
    network = estimator.module_.network
    if not isinstance(network, SFM):
        return None, "index"
    layers: list[Any] = list(network.layers)[-2 if network.bidirectional else -1 :]
    omegas = [layer.weights().omega for layer in layers]
    if any(omega is None or not omega.equal(omegas[0]) for omega in omegas):
        return None, network.time
    return omegas[0].detach().cpu().numpy() / (2.0 * np.pi), network.time
