"""Display of a piano-roll and of predicted frames."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sfmts._choices import check_choice, check_flag, check_number, check_size
from sfmts.datasets.piano_rolls import one_roll
from sfmts.plotting._common import check_colormap, check_matplotlib, label_outer, last_step, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_TIME_UNITS = {"seconds": "seconds", "quarters": "quarter notes"}
_HIGHEST_MIDI_KEY = 127
_SHARP = 500  # up to this many frames, each has at least one pixel


class PianoRollDisplay:
    """A piano-roll and, below it, the frames that a model predicted.

    Keys run from bottom to top and time from left to right. Both panels have the same time axis, so that each frame is
    above its prediction, and the same colour scale from 0 to 1. It is recommended to use :meth:`from_estimator` or
    :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    roll_true : ndarray of shape (T, n_keys)
        1 where a key is down, 0 otherwise.
    roll_proba : ndarray of shape (T - 1, n_keys), default=None
        Probabilities that keys are down in frames 2 to T.
    step : float, default=None
        Time between two frames. If None, the time axis counts frames from 1.
    unit : {"seconds", "quarters"}, default="seconds"
        Unit of ``step``.
    key_low : int, default=21
        MIDI number of the first column: 21 is A0, the lowest key of a piano; 60 is C4.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        The panel of the roll and, if probabilities are given, the panel of these.
    images_ : list of matplotlib AxesImage
        The image in each panel.
    colorbar_ : matplotlib Colorbar or None
        The scale of the probabilities.
    bounding_ax_ : matplotlib Axes or None
        The Axes that the panels replaced, if one was passed for two panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    PianoRollDisplay.from_estimator : Draw with the probabilities of a fitted estimator.
    PianoRollDisplay.from_predictions : Draw with given probabilities.
    sfmts.datasets.fetch_piano_rolls : Load piano-rolls.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.plotting import PianoRollDisplay
    >>> scale = np.eye(88)[39:52]  # from C4 up
    >>> display = PianoRollDisplay(scale, step=0.3).plot()
    >>> display.axes_[0].get_xlabel()
    'time (seconds)'
    """

    axes_: NDArray[Any]
    images_: "list[AxesImage]"
    colorbar_: "Colorbar | None"
    bounding_ax_: "Axes | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        roll_true: NDArray[Any],
        roll_proba: NDArray[Any] | None = None,
        *,
        step: float | None = None,
        unit: str = "seconds",
        key_low: int = 21,
    ) -> None:
        self.roll_true = roll_true
        self.roll_proba = roll_proba
        self.step = step
        self.unit = unit
        self.key_low = key_low

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        roll: ArrayLike,
        *,
        step: float | None = None,
        unit: str = "seconds",
        key_low: int = 21,
        ax: Any = None,
        cmap: "str | Colormap" = "Blues",
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw a roll and each frame as a fitted estimator predicts it from the frames before.

        Parameters
        ----------
        estimator : estimator instance
            A fitted estimator. Its ``predict_proba([roll])`` must return a list with one array (T, n_keys), whose row
            t holds the probabilities of frame t + 1 given the frames up to t. With ``layout="nct"`` it is given
            the transposed roll.
        roll : array-like of shape (T, n_keys)
            1 where a key is down, 0 otherwise.
        step : float, default=None
            Time between two frames. If None, the time axis counts frames from 1.
        unit : {"seconds", "quarters"}, default="seconds"
            Unit of ``step``, as in :func:`sfmts.datasets.midi_to_roll`.
        key_low : int, default=21
            MIDI number of the first column; 21 is A0.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="Blues"
            Colour map. The default darkens evenly from white, so it is readable without colour.
        colorbar : bool, default=True
            Whether to draw the colour scale.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : PianoRollDisplay
            Display of the roll and the probabilities.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the estimator does not predict frames, or an argument is invalid as in :meth:`from_predictions`.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.base import BaseEstimator
        >>> from sfmts.plotting import PianoRollDisplay
        >>> class Held(BaseEstimator):
        ...     '''Predict that each key stays as it is.'''
        ...
        ...     def fit(self, X, y=None):
        ...         return self
        ...
        ...     def __sklearn_is_fitted__(self):
        ...         return True
        ...
        ...     def predict_proba(self, X):
        ...         return [np.where(roll, 0.9, 0.01) for roll in X]
        >>> scale = np.eye(88)[39:52]
        >>> display = PianoRollDisplay.from_estimator(Held(), scale, step=0.3)
        >>> display.roll_proba.shape
        (12, 88)
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        name = type(estimator).__name__
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(f"{cls.__name__} needs an estimator with predict_proba, but {name} has none.")
        binary = _check_roll(roll)
        channels_first = getattr(last_step(estimator)[0], "layout", "ntc") == "nct"
        predicted = estimator.predict_proba([np.transpose(roll) if channels_first else roll])
        shape = np.shape(predicted[0])
        if len(predicted) != 1 or shape != binary.shape:
            raise ValueError(
                f"predict_proba([roll]) must return one array of shape {binary.shape}, with a row for each frame of "
                f"the roll, but {name} returned {len(predicted)} of shape {shape}. Use an estimator that predicts "
                "frames, such as SFMDensity."
            )
        return cls.from_predictions(
            binary,
            predicted[0],
            step=step,
            unit=unit,
            key_low=key_low,
            ax=ax,
            cmap=cmap,
            colorbar=colorbar,
            imshow_kw=imshow_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        roll_true: ArrayLike,
        roll_proba: ArrayLike | None = None,
        *,
        step: float | None = None,
        unit: str = "seconds",
        key_low: int = 21,
        ax: Any = None,
        cmap: "str | Colormap" = "Blues",
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw a roll and, if given, probabilities of its frames.

        Parameters
        ----------
        roll_true : array-like of shape (T, n_keys)
            1 where a key is down, 0 otherwise.
        roll_proba : array-like of shape (T, n_keys) or (T - 1, n_keys), default=None
            Probabilities of the next frame: row t is about frame t + 1 and is drawn below it. Row T, about a frame
            after the end of the roll, is not drawn.
        step : float, default=None
            Time between two frames. If None, the time axis counts frames from 1.
        unit : {"seconds", "quarters"}, default="seconds"
            Unit of ``step``, as in :func:`sfmts.datasets.midi_to_roll`.
        key_low : int, default=21
            MIDI number of the first column; 21 is A0.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="Blues"
            Colour map. The default darkens evenly from white, so it is readable without colour.
        colorbar : bool, default=True
            Whether to draw the colour scale if probabilities are given.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : PianoRollDisplay
            Display of the roll and the probabilities of frames 2 to T.

        Raises
        ------
        ValueError
            If ``roll_true`` is not binary, ``roll_proba`` has another shape or values outside 0 to 1, ``step`` is not
            positive, ``unit`` is unknown, or keys are outside the MIDI numbers 0 to 127.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sfmts.plotting import PianoRollDisplay
        >>> scale = np.eye(88)[39:52]
        >>> display = PianoRollDisplay.from_predictions(scale, np.where(scale, 0.9, 0.01))
        >>> display.roll_true.shape, display.roll_proba.shape
        ((13, 88), (12, 88))
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        binary = _check_roll(roll_true)
        check_choice("unit", unit, _TIME_UNITS)
        key_low = check_size("key_low", key_low, least=None)
        if step is not None and not 0.0 < check_number("step", step) < np.inf:
            raise ValueError(f"step must be a positive time in {unit}, or None to count frames, but is {step}.")
        check_flag("colorbar", colorbar)
        check_colormap(cmap)
        highest = key_low + binary.shape[1] - 1
        if not 0 <= key_low <= highest <= _HIGHEST_MIDI_KEY:
            raise ValueError(
                f"key_low={key_low} gives {binary.shape[1]} columns the MIDI numbers {key_low} to {highest}, but MIDI "
                f"has only 0 to {_HIGHEST_MIDI_KEY}."
            )
        probabilities = None if roll_proba is None else _check_roll_proba(roll_proba, binary.shape)
        display = cls(binary, probabilities, step=step, unit=unit, key_low=key_low)
        return display.plot(ax, cmap=cmap, colorbar=colorbar, imshow_kw=imshow_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: "str | Colormap" = "Blues",
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the roll and the probabilities.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="Blues"
            Colour map.
        colorbar : bool, default=True
            Whether to draw the colour scale if probabilities are given.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : PianoRollDisplay
            This object.

        Raises
        ------
        ValueError
            If the number of Axes in ``ax`` differs from the number of panels.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.ticker import MaxNLocator

        rolls = [self.roll_true] if self.roll_proba is None else [self.roll_true, self.roll_proba]
        axes, self.bounding_ax_ = panels(ax, (len(rolls), 1), (9.0, 0.8 + 2.9 * len(rolls)), sharex=True, sharey=True)
        options = {"aspect": "auto", "origin": "lower", "vmin": 0.0, "vmax": 1.0, **(imshow_kw or {})}
        options.setdefault("cmap", cmap)
        n_frames, n_keys = self.roll_true.shape
        if n_frames <= _SHARP:  # with more, "nearest" would lose notes between two pixels
            options.setdefault("interpolation", "nearest")
        start, width = (0.5, 1.0) if self.step is None else (0.0, self.step)  # frames are centred on their numbers
        ends = start, start + n_frames * width
        titles = ["Roll"] if self.roll_proba is None else ["Truth", "Predicted from the frames before"]
        keys = _key_ticks(self.key_low, n_keys)
        self.axes_, self.images_ = axes.ravel(), []
        for panel, roll, title in zip(self.axes_, rolls, titles, strict=True):
            left = ends[1] - len(roll) * width
            extent = (left, ends[1], self.key_low - 0.5, self.key_low + n_keys - 0.5)
            self.images_.append(panel.imshow(roll.T, extent=extent, **options))
            panel.set(title=title, xlim=ends, ylabel="key")
            panel.set_xlabel("frame" if self.step is None else f"time ({_TIME_UNITS[self.unit]})")
            panel.set_yticks(keys, [_note_name(key) for key in keys])
            panel.grid(axis="y", color="0.5", alpha=0.35, linewidth=0.6)
            if self.step is None:
                panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if left > ends[0]:
                panel.axvspan(ends[0], left, facecolor="0.85", hatch="////", edgecolor="0.6", linewidth=0.0)
        self.figure_ = self.axes_[0].figure
        if ax is None or self.bounding_ax_ is not None:
            label_outer(axes)
        self.colorbar_ = None
        if check_flag("colorbar", colorbar) and self.roll_proba is not None:
            self.colorbar_ = self.figure_.colorbar(
                self.images_[-1], ax=self.axes_.tolist(), label="probability that the key is down"
            )
        return self


def _check_roll(roll: ArrayLike) -> NDArray[Any]:
    """Return a roll as an array; raise ValueError if it is not binary."""
    array = one_roll(roll)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"roll must have shape (frames, keys), such as (T, 88), but has {array.shape}.")
    strange = array[(array != 0) & (array != 1)]
    if strange.size:
        raise ValueError(f"roll must be binary, 0 or 1, but holds {strange[0]}. Compare, as in roll > 0.5.")
    return array


def _check_roll_proba(roll_proba: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the probabilities of frames 2 to T of a roll of the given shape."""
    array = np.asarray(roll_proba)
    n_frames, n_keys = shape
    if array.shape not in [(n_frames, n_keys), (n_frames - 1, n_keys)]:
        raise ValueError(
            f"roll_proba has shape {array.shape}, but a roll of shape {shape} needs {(n_frames, n_keys)}, a prediction "
            f"after each frame, or {(n_frames - 1, n_keys)}, one for each frame except the first."
        )
    strange = array[~((array >= 0) & (array <= 1))]  # also NaN
    if strange.size:
        raise ValueError(f"roll_proba must hold probabilities from 0 to 1, but holds {strange[0]}.")
    if n_frames == 1:
        raise ValueError("A roll of one frame has no next frame to compare roll_proba with; give at least two frames.")
    return array[: n_frames - 1]


def _key_ticks(key_low: int, n_keys: int) -> list[int]:
    """Return the MIDI number of each C or, if fewer than two, those of the lowest and the highest key."""
    keys = range(key_low, key_low + n_keys)
    octaves = [key for key in keys if key % 12 == 0]
    return octaves if len(octaves) > 1 else sorted({keys[0], keys[-1]})


def _note_name(key: int) -> str:
    """Return the name of a key, such as C4 for 60."""
    return f"{_NOTES[key % 12]}{key // 12 - 1}"
