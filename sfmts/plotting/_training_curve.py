"""Display of losses and scores during training."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfmts._choices import check_flag
from sfmts.heads import ClassificationHead, DensityHead, RegressionHead
from sfmts.plotting._common import (
    COLOURS,
    MARKERS,
    check_fitted,
    check_matplotlib,
    last_step,
    line_style,
    panels,
    plain_log_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D


class TrainingCurveDisplay:
    """Training loss and, if a validation set was used, its loss and score after each epoch.

    The losses share a panel because they have the same unit. The scores have a panel of their own. To compare
    estimators, pass the same Axes to several calls. It is recommended to use :meth:`from_estimator`. All parameters
    are stored as attributes.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        Training loss after each epoch.
    validation_loss : array-like of shape (n_epochs,), default=None
        Loss on the validation set.
    validation_scores : array-like of shape (n_epochs,), default=None
        Score on the validation set.
    name : str, default=None
        Name in the legend. If None, the loss has no legend.
    loss_name : str, default="loss"
        Label of the loss, with its unit.
    score_name : str, default="validation score"
        Label of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel of the losses.
    axes_ : ndarray of matplotlib Axes of shape (1,) or (2,)
        The panel of the losses and, if drawn, that of the scores.
    line_ : matplotlib Line2D
        The training loss.
    validation_loss_line_, validation_scores_line_ : matplotlib Line2D or None
        The validation loss and the validation scores.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    TrainingCurveDisplay.from_estimator : Draw the curves of a fitted estimator.

    Examples
    --------
    >>> from sfmts.plotting import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay([0.7, 0.4, 0.3], name="mine").plot()
    >>> display.line_.get_xdata()
    array([1, 2, 3])
    """

    ax_: "Axes"
    axes_: NDArray[Any]
    line_: "Line2D"
    validation_loss_line_: "Line2D | None"
    validation_scores_line_: "Line2D | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        loss: ArrayLike,
        *,
        validation_loss: ArrayLike | None = None,
        validation_scores: ArrayLike | None = None,
        name: str | None = None,
        loss_name: str = "loss",
        score_name: str = "validation score",
    ) -> None:
        self.loss = loss
        self.validation_loss = validation_loss
        self.validation_scores = validation_scores
        self.name = name
        self.loss_name = loss_name
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        log_scale: bool = False,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator instance
            A fitted estimator with the attribute ``loss_curve_`` and optionally ``validation_scores_`` and
            ``history_["validation_loss"]``. It may be the last step of a pipeline or the best estimator of a search.
        name : str, default=None
            Name in the legend. If None, the name of the estimator's class.
        log_scale : bool, default=False
            Whether the axis of the loss is logarithmic. The loss of a density may be negative, which needs False.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for the losses, or two for losses and scores. If None, a new figure is made, with a panel for the
            scores if the estimator has any.
        **kwargs : dict
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for all lines.

        Returns
        -------
        display : TrainingCurveDisplay
            Display of the curves.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the estimator has no ``loss_curve_``, or ``log_scale`` is True and a loss is not positive.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sfmts import SFMClassifier
        >>> from sfmts.datasets import make_waves
        >>> from sfmts.plotting import TrainingCurveDisplay
        >>> X, y = make_waves(20, n_steps=30, random_state=0)
        >>> figure, ax = plt.subplots(layout="constrained")
        >>> for network in ("sfm", "lstm"):
        ...     model = SFMClassifier(network, base=None, n_states=4, max_iter=3, random_state=0).fit(X, y)
        ...     display = TrainingCurveDisplay.from_estimator(model, name=network, ax=ax)
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['sfm', 'lstm']
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_fitted(estimator)
        fitted, _ = last_step(estimator)
        if not hasattr(fitted, "loss_curve_"):
            raise ValueError(
                f"{cls.__name__} needs an estimator with the attribute loss_curve_, but {type(fitted).__name__} has "
                "none."
            )
        loss_name, score_name = _measures(fitted)
        display = cls(
            fitted.loss_curve_,
            validation_loss=getattr(fitted, "history_", {}).get("validation_loss") or None,
            validation_scores=getattr(fitted, "validation_scores_", None) or None,
            name=type(fitted).__name__ if name is None else name,
            loss_name=loss_name,
            score_name=score_name,
        )
        return display.plot(ax, log_scale=log_scale, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, log_scale: bool = False, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for the losses, or two for losses and scores. If None, a new figure is made, with a panel for the
            scores if the display has any.
        name : str, default=None
            Name in the legend. If None, that of the display.
        log_scale : bool, default=False
            Whether the axis of the loss is logarithmic.
        **kwargs : dict
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for all lines.

        Returns
        -------
        display : TrainingCurveDisplay
            This object.

        Raises
        ------
        ValueError
            If ``log_scale`` is True and a loss is not positive, or ``ax`` holds more than two Axes.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        for what in ("loss", "validation_loss", "validation_scores"):
            _check_curve(what, getattr(self, what))
        if check_flag("log_scale", log_scale):
            self._refuse_negative()
        n_panels = 1 if self.validation_scores is None else 2
        if ax is not None:
            n_panels = np.size(ax)
            if n_panels not in (1, 2):
                raise ValueError(f"ax holds {n_panels} Axes; pass one for the losses, or two for losses and scores.")
        axes, _ = panels(ax, (n_panels, 1), (6.5, 1.2 + 2.6 * n_panels), sharex=True)
        self.axes_ = axes.ravel()
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self._draw_losses(self.name if name is None else name, kwargs)
        if log_scale:
            self.ax_.set_yscale("log")
        if self.ax_.get_yscale() == "log":  # also if an earlier call set it
            plain_log_ticks(self.ax_)
        self.validation_scores_line_ = None
        if self.validation_scores is not None and n_panels == 2:
            self.validation_scores_line_ = self._draw(self.axes_[1], self.validation_scores, self._validation(kwargs))
            self.axes_[1].set_ylabel(self.score_name)
        return self

    def _refuse_negative(self) -> None:
        for what, losses in (("loss", self.loss), ("validation_loss", self.validation_loss)):
            values = np.asarray([] if losses is None else losses)
            if (values <= 0).any():
                first = int(np.argmax(values <= 0))
                raise ValueError(
                    f"log_scale=True needs positive losses, but {what} is {values[first]:g} after epoch {first + 1}. "
                    "Use log_scale=False."
                )

    def _draw_losses(self, name: str | None, kwargs: dict[str, Any]) -> None:
        """Draw the panel of the losses."""
        if not self.ax_.lines:  # each further call on the same Axes takes the next colour and marker
            self.ax_.set_prop_cycle(color=list(COLOURS), marker=list(MARKERS))
        labels = [name, None]
        if self.validation_loss is not None:
            labels = [part if name is None else f"{name}, {part}" for part in ("training", "validation")]
        self.line_ = self._draw(self.ax_, self.loss, line_style({"label": labels[0]}, kwargs))
        self.validation_loss_line_ = None
        if self.validation_loss is not None:
            style = {**self._validation(kwargs), "label": labels[1]}
            self.validation_loss_line_ = self._draw(self.ax_, self.validation_loss, style)
        self.ax_.set_ylabel(self.loss_name)
        if self.ax_.get_legend_handles_labels()[1]:
            self.ax_.legend()

    def _validation(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the style of a validation line: that of the training loss, but dashed and hollow."""
        colour = self.line_.get_color()
        style = {"color": colour, "marker": self.line_.get_marker(), "linestyle": "--", "markerfacecolor": "white"}
        return line_style(style, kwargs)

    @staticmethod
    def _draw(ax: "Axes", curve: ArrayLike, style: dict[str, Any]) -> "Line2D":
        from matplotlib.ticker import MaxNLocator

        values = np.asarray(curve)
        spaced = {"markersize": 4.0, "markevery": max(1, len(values) // 12)}
        (line,) = ax.plot(np.arange(1, len(values) + 1), values, **{**spaced, **style})
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_xlim(left=0.5, auto=True)  # epochs start at 1; a longer curve may follow
        if ax.xaxis.get_tick_params().get("labelbottom", True):  # otherwise the panel below has the numbers
            ax.set_xlabel("epoch")
        ax.grid(True, alpha=0.3)
        return line


def _check_curve(name: str, curve: Any) -> None:
    """Raise TypeError or ValueError unless a curve is None or has a number for each epoch."""
    if curve is None:
        return
    try:
        values = np.asarray(curve, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must hold a number for each epoch, but {error}.") from error
    if values.ndim != 1:
        raise ValueError(f"{name} must be a list with a number for each epoch, but has shape {values.shape}.")


def _measures(estimator: Any) -> tuple[str, str]:
    """Return labels with units for the losses and the validation scores of a fitted estimator."""
    head = getattr(getattr(estimator, "module_", None), "head", None)
    if isinstance(head, ClassificationHead):
        return "cross-entropy (nats)", "validation accuracy"
    if isinstance(head, RegressionHead):
        return "squared error / variance", "validation R²"
    if isinstance(head, DensityHead):
        return "loss (nats / frame)", "validation score (nats / frame)"
    return "loss", "validation score"
