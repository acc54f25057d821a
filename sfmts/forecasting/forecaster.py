"""SFMForecaster, an estimator with sktime's forecasting interface."""

import copy
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon
from torch import Tensor

from sfmts._batch import channel_scale, moments
from sfmts._checkpoint import Checkpoint, digest, seeded
from sfmts._compat import forecaster_tags, must_remember_data, require_pretrain
from sfmts._random import new_random_state
from sfmts.estimators._base import fitting
from sfmts.estimators._device import is_available, resolve_device, training_work
from sfmts.estimators._parameters import (
    checkpoint_identity,
    documented,
    own_network_options,
    plain,
    plain_parameters,
    store_parameters,
    training_settings,
    validate_parameters,
)
from sfmts.forecasting.effects import around_effects
from sfmts.forecasting.fit import FitResult, FitSettings, HorizonFit, mixture
from sfmts.forecasting.model import HorizonModel, HorizonShape, resized, roll_out, window_quantiles
from sfmts.forecasting.panel import (
    Panel,
    Series,
    check_names,
    check_panel,
    check_same_index,
    check_steps_exist,
    columns_of,
    frames_of,
    panel_of,
    with_one_frequency,
)
from sfmts.forecasting.pool import fitted, pool
from sfmts.forecasting.windows import window_set
from sfmts.heads import QUANTILE_LEVELS, QuantileHead
from sfmts.networks.base import make_network

_FEWEST_VALUES = 10  # before their sign is taken for that of all values

# What sktime keeps of a pretrained forecaster when it is fitted again: everything that `_learn` and `_pretrain` set.
_PRETRAINED = (
    "pretrained_module_",
    "module_",
    "horizon_",
    "context_length_",
    "segment_length_",
    "y_names_",
    "X_names_",
    "covariate_mean_",
    "covariate_scale_",
    "anchor_",
    "penalty_",
    "linear_score_",
    "validation_scores_",
    "loss_curve_",
    "n_iter_",
    "device_",
    "backend_",
    "n_parameters_",
    "model_weight_",
)


def _levels(alpha: Sequence[float]) -> Tensor:
    """Return levels of quantiles as a tensor; raise ValueError if one is not between 0 and 1."""
    levels = torch.as_tensor(alpha, dtype=torch.float64)
    if not bool(((levels > 0) & (levels < 1)).all()):
        raise ValueError(f"alpha must lie strictly between 0 and 1, but is {list(alpha)}.")
    return levels


def _base_quantiles(
    values: NDArray[np.float64],
    covariates: NDArray[np.float64],
    n_steps: int,
    periods: tuple[int, ...],
    past_only: tuple[int, ...],
) -> NDArray[np.float64]:
    """Return the quantiles (n_steps, V, levels) of the pool for a series (T, V) with covariates (T + n_steps, F)."""
    covariates = resized(covariates, len(values) + n_steps)
    levels = np.array(QUANTILE_LEVELS)
    return around_effects(lambda y: pool(y, n_steps, periods, levels), values, covariates, periods, past_only)


def _apart(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move edges of bins that coincide apart by a few roundings, so that no density is infinite."""
    least = np.maximum(8 * np.finfo(np.float64).eps * np.abs(edges).max(axis=-1, keepdims=True), 1e-290)
    ramp = least * np.arange(edges.shape[-1])
    found: NDArray[np.float64] = np.maximum.accumulate(edges - ramp, axis=-1) + ramp
    return found


@documented("forecaster")
class SFMForecaster(BaseForecaster):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Forecast series, panels and hierarchies with a State-Frequency Memory network.

    One model forecasts all series at all steps of the horizon. A window of the past is scaled to mean 0 and variance 1.
    A simple forecast is made from it: the season before, the last value, the mean, a drift, or the mean of two of them.
    Ridge regression may refine the simple forecast. A network then reads the window in segments, corrects the forecast
    at all steps in parallel, and predicts its uncertainty.

    The last part of each series is held out to decide on the simple forecast, on the regression and its penalty, on the
    number of epochs (possibly 0), and on the width of the quantiles. Then the model is trained once more on everything.
    The model is weighed against a pool of simple forecasts, each of which counts the more the smaller its errors in the
    past were: last value, mean, half the drift, exponential smoothing, damped and linear trend, Theta, and the season
    before. If ``sp`` is greater than 1, their season is removed first, as factors if all values are positive. Effects
    of X are removed, too: ridge regression with autocorrelated errors estimates them from each series, and they are 0
    where they would not help. Where too little is held out to tell, the pool forecasts alone.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : HorizonModel
        The fitted model.
    context_length_, horizon_, segment_length_ : int
        The lengths that were used.
    model_weight_ : float
        Weight of the model's quantiles beside those of the base, from 0 to 1. 1 without a base; 0 if nothing could be
        decided.
    anchor_ : str
        The simple forecast, such as "last", "season" or "last + drift".
    penalty_ : float
        Penalty of the regression around the simple forecast; infinite without a regression.
    lower_ : ndarray of shape (variables,)
        Least value of each variable that is forecast; minus infinity if there is none.
    n_iter_ : int
        Epochs for which the network was trained; 0 if it did not improve the linear forecast.
    linear_score_ : float
        Minus the mean pinball loss of the linear forecast on the part held out, in scaled units; None if nothing was
        held out.
    validation_scores_ : list of float
        The same score after each epoch.
    loss_curve_ : list of float
        Mean pinball loss in each epoch of the first training.
    n_parameters_, device_, backend_
        As in :class:`SFMClassifier`.

    Notes
    -----
    Windows are scaled in float64; the network computes in float32. The forecast of a y + b is a times the forecast of
    y, plus b, except for a pool with seasonal factors or a bound. In-sample forecasts of the pool have the effects of X
    that the whole series shows. Point forecasts are medians. The model predicts
    quantiles at levels from 0.025 to 0.975; beyond these they continue like those of a normal distribution. Intervals
    and variances are computed from the quantiles. The forecast of a constant series is its value. A series shorter than
    the context is padded with its mean.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    S. Lin, W. Lin, W. Wu, F. Zhao, R. Mo and H. Zhang, "SegRNN: Segment Recurrent Neural Network for Long-Term Time
    Series Forecasting", 2023.

    Examples
    --------
    >>> from sktime.datasets import load_airline
    >>> from sfmts import SFMForecaster
    >>> y = load_airline()
    >>> model = SFMForecaster(sp=12, max_iter=5, random_state=0).fit(y, fh=range(1, 13))
    >>> model.predict().shape
    (12,)
    >>> model.predict_interval(coverage=0.9).shape
    (12, 2)
    """

    module_: HorizonModel
    pretrained_module_: HorizonModel
    horizon_: int
    context_length_: int
    model_weight_: float
    lower_: NDArray[np.float64]
    device_: str
    y_names_: list[Any]
    X_names_: list[Any]
    covariate_mean_: NDArray[np.float64]
    covariate_scale_: NDArray[np.float64]
    _panel: Panel
    _level_names: list[Any]

    _config: ClassVar[dict[str, Any]] = {"remember_data": must_remember_data()}  # what an update needs is in _panel
    _y: Any = None  # sktime's own memory, for those who switch it on
    _X: Any = None
    _tags: ClassVar[dict[str, Any]] = forecaster_tags(
        {
            "authors": ["sfmts developers"],
            "maintainers": ["sfmts developers"],
            "python_dependencies": ["torch"],
            "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
            "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
            "capability:multivariate": True,
            "capability:exogenous": True,
            "capability:non_contiguous_X": False,
            "capability:pred_int": True,
            "capability:pred_int:insample": True,
            "capability:insample": True,
            "capability:unequal_length": True,
            "capability:update": True,
            "capability:pretrain": True,
            "capability:missing_values": False,
            "capability:categorical_in_X": False,
            "capability:random_state": True,
            "property:randomness": "derandomized",
            "pretrain:fitted_params": list(_PRETRAINED),
            "requires-fh-in-fit": False,
            "X-y-must-have-same-index": False,
        }
    )

    _network_defaults: ClassVar[dict[str, Any]] = {"init": "modern"}

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_layers: int | None = None,
        dropout: float = 0.1,
        network_params: dict[str, Any] | None = None,
        base: str | None = "pool",
        sp: int | Sequence[int] = 1,
        lower: float | str | None = "auto",
        upper: float | None = None,
        context_length: int | None = None,
        horizon: int | None = None,
        segment_length: int | None = None,
        multivariate: str = "independent",
        past_covariates: Sequence[Any] | None = None,
        calendar_features: bool = False,
        optimizer: str = "adam",
        optimizer_params: dict[str, Any] | None = None,
        learning_rate_init: float = 0.003,
        max_iter: int = 30,
        batch_size: int | str = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        refit: bool = True,
        n_iter_no_change: int = 5,
        tol: float = 1e-4,
        fine_tune: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
    ) -> None:
        store_parameters(self, locals())
        super().__init__()

    def fit(self, y: Any, X: Any = None, fh: Any = None) -> Self:
        """Train the model; a previous fit is kept if an error occurs.

        Parameters
        ----------
        y : Series or DataFrame
            One series, or a panel or hierarchy with several levels in its index.
        X : DataFrame, optional
            Exogenous variables, with the index of y.
        fh : int, list or ForecastingHorizon, optional
            Steps to forecast; see :meth:`sktime.forecasting.base.BaseForecaster.fit`.

        Returns
        -------
        self : SFMForecaster
            The fitted forecaster.
        """
        if y is None or (isinstance(y, list) and not y):
            raise ValueError(f"y is {y!r}, but needs at least one step.")
        with fitting(self):
            return cast(Self, super().fit(y, X=X, fh=fh))

    def update(self, y: Any, X: Any = None, update_params: bool = True) -> Self:
        """Append further steps; the forecaster is unchanged if an error occurs.

        Parameters
        ----------
        y : Series or DataFrame
            The steps, in the form that ``fit`` was given.
        X : DataFrame, optional
            Exogenous variables, with the index of y.
        update_params : bool, default=True
            Whether to train again; see :meth:`sktime.forecasting.base.BaseForecaster.update`.

        Returns
        -------
        self : SFMForecaster
            The updated forecaster.
        """
        with fitting(self):
            return cast(Self, super().update(y, X=X, update_params=update_params))

    def pretrain(self, y: Any, X: Any = None, fh: Any = None) -> Self:
        """Train on a panel before ``fit``, or train further on another panel.

        Parameters
        ----------
        y : DataFrame
            A panel or hierarchy with several levels in its index.
        X : DataFrame, optional
            Exogenous variables, with the index of y.
        fh : int, list or ForecastingHorizon, optional
            Steps to forecast; see :meth:`sktime.forecasting.base.BaseForecaster.pretrain`.

        Returns
        -------
        self : SFMForecaster
            The pretrained forecaster.
        """
        require_pretrain(BaseForecaster)
        with fitting(self):
            return cast(Self, super().pretrain(y, X=X, fh=fh))

    # -- sktime's inner methods

    def _check_fh(self, fh: Any, pred_int: bool = False) -> Any:
        try:
            return super()._check_fh(fh, pred_int)
        except OverflowError as error:
            raise ValueError(f"fh has steps too large for an integer of 64 bits: {fh!r}.") from error

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon | None) -> Self:
        self._validate()
        panel = panel_of(y, X)
        check_panel(panel)
        lower = self._lower_of(panel)
        self._level_names = y.index.names
        if not self._is_pretrained:
            self._learn(panel, self._wanted_horizon(panel, fh))
        else:
            panel = self._as_trained(panel)
            self.module_, self.model_weight_ = self.pretrained_module_, 1.0
            if self.fine_tune:
                self._learn(panel, self.horizon_, self.pretrained_module_)
        self._panel, self.lower_ = panel, lower
        return self

    def _pretrain(self, y: pd.DataFrame, X: pd.DataFrame | None = None, fh: ForecastingHorizon | None = None) -> Self:
        self._validate()
        panel = panel_of(y, X)
        check_panel(panel)
        self._learn(panel, self._wanted_horizon(panel, fh))
        self.pretrained_module_ = self.module_
        return self

    def _pretrain_update(
        self, y: pd.DataFrame, X: pd.DataFrame | None = None, fh: ForecastingHorizon | None = None
    ) -> Self:
        if not self._is_pretrained:  # sktime comes here after a fit, too
            return self._pretrain(y, X, fh)
        self._validate()
        panel = panel_of(y, X)
        check_panel(panel)
        self._learn(self._as_trained(panel), self.horizon_, self.pretrained_module_)
        self.pretrained_module_ = self.module_
        return self

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Self:
        panel = self._as_trained(panel_of(y, X))
        check_same_index(panel, self._panel)
        panel = {**self._panel, **{key: series.after(self._panel.get(key)) for key, series in panel.items()}}
        panel = with_one_frequency(panel)
        check_panel(panel)
        lower = self._lower_of(panel)
        if update_params and not self._is_pretrained:
            self._learn(panel, self.horizon_)
        elif update_params and self.fine_tune:
            self._learn(panel, self.horizon_, self.pretrained_module_)
        self._panel, self.lower_ = panel, lower
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        middle = self.module_.head.middle
        return self._in_frame(fh, X, lambda values: self._bounded(values)[..., middle], self._get_columns())

    def _predict_quantiles(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: Sequence[float]
    ) -> pd.DataFrame:
        levels = _levels(alpha)
        columns = self._get_columns(method="predict_quantiles", alpha=alpha)
        head = self.module_.head
        return self._in_frame(
            fh, X, lambda values: self._bounded(head.interpolated(values, levels)).flatten(1), columns
        )

    def _predict_var(self, fh: ForecastingHorizon, X: pd.DataFrame | None, cov: bool = False) -> pd.DataFrame:
        head, columns = self.module_.head, self._get_columns(method="predict_var")
        return self._in_frame(fh, X, lambda values: head.variance(values, self._bounded), columns)

    def _predict_proba(self, fh: ForecastingHorizon, X: pd.DataFrame | None, marginal: bool = True) -> Any:
        from skpro.distributions import Histogram

        names = self._get_columns()
        levels = self.module_.head.fine_levels()
        quantiles = self._predict_quantiles(fh, X, levels.tolist())
        edges = _apart(quantiles.to_numpy().reshape(len(quantiles), len(names), -1))
        mass = (levels.diff() / (levels[-1] - levels[0])).numpy()
        return Histogram(
            [list(row) for row in edges], [[mass] * len(names)] * len(edges), index=quantiles.index, columns=names
        )

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters of instances for sktime's tests.

        Parameters
        ----------
        parameter_set : str, default="default"
            Ignored.

        Returns
        -------
        params : list of dict
            Parameters of each instance.
        """
        small = {"n_states": 4, "n_frequencies": 2, "max_iter": 2, "random_state": 0, "device": "cpu"}
        return [
            {**small, "context_length": 8},
            {**small, "network": "gru", "multivariate": "joint", "segment_length": 3, "refit": False},
            {**small, "horizon": 2, "sp": 4, "early_stopping": False},
        ]

    def historical_forecasts(
        self,
        y: pd.Series | pd.DataFrame,
        X: pd.DataFrame | None = None,
        *,
        start: int | None = None,
        stride: int = 1,
        alpha: Sequence[float] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return forecasts from many points of one series, without training.

        Each forecast reads the steps of y before it, and X up to its horizon. The forecaster keeps its own context. All
        windows pass through the network together, which is faster than calls of ``update_predict_single``.

        Parameters
        ----------
        y : Series or DataFrame
            The series.
        X : DataFrame, optional
            Exogenous variables, with a row for each step of y; required if ``fit`` was given some.
        start : int, optional
            Number of steps before the first forecast; ``context_length_`` by default.
        stride : int, default=1
            Steps between forecasts.
        alpha : sequence of float, optional
            Levels of quantiles; by default medians only.

        Returns
        -------
        positions : ndarray of shape (n,)
            The step of y that each forecast begins with. The last forecast ends with y.
        forecasts : ndarray of shape (n, horizon, variables) or (n, horizon, variables, levels)
            Medians or, with ``alpha``, quantiles.

        Raises
        ------
        ValueError
            If y is too short for a forecast, lacks a step or is a panel; if its columns differ from those in ``fit`` in
            number or order; or if ``start``, ``stride`` or ``alpha`` is out of range.
        TypeError
            If y is not a pandas Series or DataFrame.
        """
        self.check_is_fitted()
        if not isinstance(stride, Integral) or stride < 1:
            raise ValueError(f"stride must be an integer of at least 1, but is {stride!r}.")
        levels = None if alpha is None else _levels(alpha)
        series = self._one_series(y, X)
        start, last = self.context_length_ if start is None else start, len(y) - self.horizon_
        if not isinstance(start, Integral) or not 1 <= start <= last:
            raise ValueError(
                f"y has {len(y)} steps, so a forecast of {self.horizon_} steps does not fit after the first "
                f"start={start} steps. Pass a longer y, or an integer start from 1 to {last}."
            )
        values, head = series.values(), self.module_.head
        covariates = self._standardised(series.covariates(self.calendar_features))
        positions = np.arange(start, last + 1, stride)
        quantiles = self._mixed(
            lambda: self._window_quantiles(values, covariates, start, last, stride, values[:start].std(axis=0)),
            lambda: torch.stack([self._pooled(values[:cut], covariates, self.horizon_) for cut in positions]),
        )
        forecasts = self._bounded(quantiles if levels is None else head.interpolated(quantiles, levels))
        return positions, (forecasts[..., head.middle] if levels is None else forecasts).numpy()

    def _window_quantiles(
        self,
        values: NDArray[np.float64],
        covariates: NDArray[np.float64],
        start: int,
        last: int,
        stride: int,
        scale: NDArray[np.float64],
    ) -> Tensor:
        """Return the quantiles (cuts, H, V, levels) that the model forecasts from steps of a series.

        ``covariates`` (T, F) are standardised, and ``scale`` is the standard deviation of the variables, (V,).
        """
        windows = window_set(
            [values],
            [covariates],
            self.context_length_,
            self.horizon_,
            joint=self.multivariate == "joint",
            first=[start],
            last=[last],
            past_only=self.module_.shape.past_only,
            scales=scale[None],
        ).every(stride)
        return window_quantiles(self._placed_module(), windows)

    def _one_series(self, y: pd.Series | pd.DataFrame, X: pd.DataFrame | None) -> Series:
        """Return y and X as a series; raise an error if y is a panel, or its columns are not those of training."""
        if not isinstance(y, pd.Series | pd.DataFrame):
            raise TypeError(f"y must be a pandas Series or DataFrame, but is of type {type(y).__name__}.")
        panel = panel_of(y.to_frame() if isinstance(y, pd.Series) else y, X)
        if () not in panel:
            raise ValueError(
                f"y must be one series, but is a panel of {len(panel)}. Pass one of them, for instance "
                f"y.loc[{next(iter(panel))!r}]."
            )
        panel = self._as_trained(panel)
        check_panel(panel)
        return panel[()]

    @property
    def _upper(self) -> float:
        return math.inf if self.upper is None else float(self.upper)

    def _lower_of(self, panel: Panel) -> NDArray[np.float64]:
        """Return the least value of each variable that is forecast; raise ValueError if a value is out of bounds."""
        values = np.concatenate([series.values() for series in panel.values()])
        least, greatest = values.min(axis=0), values.max(axis=0)
        if self.lower == "auto":
            lower = np.where((least >= 0) & (len(values) >= _FEWEST_VALUES), 0.0, -np.inf)
        else:
            lower = np.full(len(least), -np.inf if self.lower is None else float(self.lower))
        if (lower > np.minimum(least, self._upper)).any() or (greatest > self._upper).any():
            raise ValueError(
                f"y has values from {least.min()} to {greatest.max()}, but lower={self.lower!r} and "
                f"upper={self.upper!r}. Pass bounds between which all values lie."
            )
        return lower

    def _bounded(self, values: Tensor) -> Tensor:
        """Return values (..., V, levels) brought between the bounds."""
        lower = torch.from_numpy(self.lower_)[:, None]
        return values.clamp(lower, torch.tensor(self._upper))

    # -- training

    @property
    def _is_pretrained(self) -> bool:
        return hasattr(self, "pretrained_module_")

    @property
    def _periods(self) -> tuple[int, ...]:
        """Return the steps of each season, increasing."""
        return tuple(sorted({int(period) for period in np.atleast_1d(self.sp)} - {1}))

    def _validate(self) -> None:
        validate_parameters(self)
        periods = np.atleast_1d(self.sp)
        if periods.ndim != 1 or not len(periods) or not np.issubdtype(periods.dtype, np.integer) or periods.min() < 1:
            raise ValueError(f"sp must hold whole numbers of at least 1, but is {self.sp!r}.")
        own_network_options(self)

    def _past_only(self, panel: Panel) -> tuple[int, ...]:
        """Return the columns of X that are unknown from the forecast on; raise ValueError if X lacks one."""
        X = next(iter(panel.values())).X
        names, wanted = [] if X is None else list(X.columns), list(self.past_covariates or ())
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"past_covariates names {missing}, but X has the columns {names}. Name columns of X.")
        return tuple(names.index(name) for name in dict.fromkeys(wanted))

    def _wanted_horizon(self, panel: Panel, fh: ForecastingHorizon | None) -> int:
        if self.horizon is not None:
            return int(self.horizon)
        if fh is None:
            return max(12, 2 * max(self._periods, default=0))
        return max(1, *(int(series.steps(fh).max()) for series in panel.values()))

    def _as_trained(self, panel: Panel) -> Panel:
        """Return a panel with the columns of X that training had; raise ValueError if columns are missing."""
        found = {}
        for key, series in panel.items():
            check_names(series.y.columns, self.y_names_)
            found[key] = series._replace(X=columns_of("X", series.X, self.X_names_))
        return found

    def _learn(self, panel: Panel, horizon: int, start: HorizonModel | None = None) -> None:
        """Train a new model, or a copy of ``start``, and set the fitted attributes."""
        values = [series.values() for series in panel.values()]
        covariates = [series.covariates(self.calendar_features) for series in panel.values()]
        if start is None:
            center, variance = moments(torch.from_numpy(np.concatenate(covariates)), None)
            mean, scale = center.numpy(), channel_scale(center, variance).numpy()
            shape = HorizonShape.of_panel(
                [len(series) for series in values],
                n_variables=values[0].shape[1],
                n_covariates=covariates[0].shape[1],
                horizon=horizon,
                periods=self._periods,
                joint=self.multivariate == "joint",
                past_only=self._past_only(panel),
                context_length=self.context_length,
                segment_length=self.segment_length,
            )
        else:
            mean, scale = self.covariate_mean_, self.covariate_scale_
            shape = start.shape
        base = None
        if self.base == "pool" and start is None:  # it knows none of the series that a model was trained on before
            base = partial(_base_quantiles, n_steps=horizon, periods=self._periods, past_only=shape.past_only)
        covariates = [(part - mean) / scale for part in covariates]
        with self._opened_checkpoint(values, covariates, horizon, start) as checkpoint:
            result = HorizonFit(
                values=values,
                covariates=covariates,
                shape=shape,
                make_model=lambda generator: self._make_model(shape, generator),
                settings=self._fit_settings(
                    self._device_for(shape.n_series * sum(map(len, values)), shape),
                    cautious=self.base is not None and start is None,
                    random_state=seeded(self.random_state, checkpoint),
                ),
                start=start,
                base=base,
                checkpoint=checkpoint,
            ).run()
        # Attributes are set after all that may fail. Otherwise an update that fails would leave half of a new model.
        self._set_fitted(result, shape)
        if start is None:
            first = next(iter(panel.values()))
            self.y_names_ = list(first.y.columns)
            self.X_names_ = [] if first.X is None else list(first.X.columns)
            self.covariate_mean_, self.covariate_scale_ = mean, scale
            self.anchor_, self.penalty_ = result.anchor, result.penalty

    def _device_for(self, n_windows: int, shape: HorizonShape) -> torch.device:
        """Return the device on which to train with so many windows."""
        network = self._make_model(shape, torch.Generator()).network
        steps = n_windows * math.ceil(shape.context_length / shape.segment_length) * int(self.max_iter)
        return resolve_device(self.device, training_work(network.n_parameters, steps, network.gpu_obstacle))

    def _opened_checkpoint(
        self,
        values: Sequence[NDArray[np.float64]],
        covariates: Sequence[NDArray[np.float64]],
        horizon: int,
        start: HorizonModel | None,
    ) -> AbstractContextManager[Checkpoint | None]:
        """Return the context of a fit that may be cut off."""
        if self.checkpoint is None:
            return nullcontext()
        parts = {
            "y": digest(*values),
            "X": digest(*covariates),
            "fh": horizon,
            "the pretrained model": None if start is None else digest(*start.state_dict().values()),
        }
        return Checkpoint(self.checkpoint, {**checkpoint_identity(self), **parts})

    def _fit_settings(self, device: torch.device, cautious: bool, random_state: Any) -> FitSettings:
        return FitSettings(
            training=training_settings(self, batch_size=1),
            batch_size=None if self.batch_size == "auto" else int(self.batch_size),
            device=device,
            joint=self.multivariate == "joint",
            periods=self._periods,
            validation_fraction=plain(self.validation_fraction) if self.early_stopping else 0.0,
            refit=bool(self.refit),
            cautious=cautious,
            seed=int(new_random_state(random_state).randint(2**31 - 1)),
        )

    def _set_fitted(self, result: FitResult, shape: HorizonShape) -> None:
        model = result.model.eval()
        self.module_, self.horizon_, self.model_weight_ = model, shape.horizon, result.weight
        self.context_length_, self.segment_length_ = shape.context_length, shape.segment_length
        self.linear_score_, self.validation_scores_ = result.linear_score, result.validation_scores or None
        self.loss_curve_, self.n_iter_ = result.loss_curve, result.n_epochs
        self.device_, self.backend_ = str(next(model.parameters()).device), model.network.backend
        self.n_parameters_ = sum(p.numel() for p in model.parameters() if p.requires_grad)

    def _make_model(self, shape: HorizonShape, generator: torch.Generator) -> HorizonModel:
        options = plain_parameters(self, ("n_states", "n_frequencies", "n_layers")) | own_network_options(self)
        network = make_network(
            self.network,
            options["n_states"] if options.get("n_outputs") is None else options["n_outputs"],
            **options,
            max_length=math.ceil(shape.context_length / shape.segment_length),
            generator=generator,
        )
        if not network.causal:
            raise ValueError(
                f"network={self.network!r} is not causal: it reads the future of each step. Use a causal network, such "
                "as 'sfm'."
            )
        model = HorizonModel(network, QuantileHead(), shape, plain(self.dropout), generator)
        return model.float()

    def _standardised(self, covariates: NDArray[np.float64]) -> NDArray[np.float64]:
        return (covariates - self.covariate_mean_) / self.covariate_scale_

    # -- prediction

    def _in_frame(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, read: Callable[[Tensor], Tensor], columns: pd.Index
    ) -> pd.DataFrame:
        """Return ``read`` of the quantiles (steps, V, levels) of each series, as a frame with sktime's index."""
        panel = self._panel
        horizons = {key: series.steps(fh) for key, series in panel.items()}
        check_steps_exist(panel, horizons)
        last = max(1, *(int(steps.max()) for steps in horizons.values()))
        future = {} if X is None else frames_of(X)
        unknown = [key for key, series in panel.items() if series.X is not None and key not in future]
        if future and unknown:
            raise ValueError(
                f"X in predict has no rows for the series {unknown[0]} of y. Add a row for each step of the forecast."
            )
        covariates = [
            np.concatenate(
                [
                    series.covariates(self.calendar_features),
                    series.later_covariates(
                        self.calendar_features,
                        future.get(key),
                        horizons[key],
                        self.horizon_,
                        past_only=self.module_.shape.past_only,
                    ),
                ]
            )
            for key, series in panel.items()
        ]
        covariates = [self._standardised(part) for part in covariates]
        values = [series.values() for series in panel.values()]
        joint = self.multivariate == "joint"
        quantiles = self._mixed(
            lambda: torch.cat(roll_out(self._placed_module(), values, covariates, last, joint)),
            lambda: torch.cat([self._pooled(*parts, last) for parts in zip(values, covariates, strict=True)]),
        ).split(last)
        frames = {}
        for (key, series), later in zip(panel.items(), quantiles, strict=True):
            steps = horizons[key]
            known = self._fitted(series) if steps.min() < 1 else later[:0]
            chosen = torch.cat([known, later])[len(known) + steps - 1]
            frames[key] = pd.DataFrame(read(chosen).numpy(), index=series.index_at(steps), columns=columns)
        return frames[()] if () in frames else pd.concat(frames, names=self._level_names)

    def _mixed(self, model: Callable[[], Tensor], base: Callable[[], Tensor]) -> Tensor:
        """Return the quantiles of model and base, weighed; what has no weight is not computed."""
        weight = self.model_weight_
        if weight in (0.0, 1.0):
            return model() if weight else base()
        return mixture(base(), model(), weight)

    def _pooled(self, values: NDArray[np.float64], covariates: NDArray[np.float64], n_steps: int) -> Tensor:
        """Return the quantiles (n_steps, V, levels) of the pool after a series (T, V)."""
        past_only = self.module_.shape.past_only
        return torch.from_numpy(_base_quantiles(values, covariates, n_steps, self._periods, past_only))

    def _fitted(self, series: Series) -> Tensor:
        """Return the quantiles (T, V, levels) of each step of a series, forecast from the steps before it.

        The first step, before which nothing is known, has its value and the spread of the second.
        """
        values, shape = series.values(), self.module_.shape
        covariates = self._standardised(series.covariates(self.calendar_features))
        levels = self.module_.head.levels.numpy()

        def model() -> Tensor:
            if len(values) == 1:
                return torch.tensor(values)[..., None].expand(-1, -1, len(levels))
            later = self._window_quantiles(values, covariates, 1, len(values) - 1, 1, values.std(axis=0))[:, 0]
            first = later[:1] + torch.tensor(values[:1])[..., None] - later[:1, :, self.module_.head.middle, None]
            return torch.cat([first, later])

        def base() -> Tensor:
            return torch.from_numpy(
                around_effects(
                    lambda y: fitted(y, self._periods, levels), values, covariates, self._periods, shape.past_only
                )
            )

        return self._mixed(model, base)

    def _placed_module(self) -> HorizonModel:
        """Return the model, on the device of the fit if that is available."""
        device = torch.device(self.device_)
        if is_available(device):
            self.module_.to(device)
        return self.module_

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("module_", "pretrained_module_"):
            if name in state:
                state[name] = copy.deepcopy(state[name]).cpu()
        return state
