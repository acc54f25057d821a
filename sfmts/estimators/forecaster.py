"""SFMForecaster, the only module that knows sktime's forecasting interface."""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sktime.datatypes._utilities import get_cutoff
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon
from torch import Tensor

from sfmts._precision import own_precision
from sfmts.batch import (
    calendar,
    channel_scale,
    check_finite_frame,
    check_future_steps,
    check_names,
    check_steps,
    frames_of,
    moments,
    rows_at,
)
from sfmts.estimators._base import fitting, new_random_state
from sfmts.estimators._device import is_available, resolve_device
from sfmts.estimators._horizon_fit import HorizonFit
from sfmts.estimators._parameters import (
    documented,
    own_network_options,
    plain,
    plain_parameters,
    store_parameters,
    training_settings,
    validate_parameters,
)
from sfmts.heads import QuantileHead
from sfmts.horizon import HorizonModel, HorizonShape
from sfmts.networks.base import make_network
from sfmts.windows import WindowSet, window_set

_PREDICTION_BATCH = 512

# What sktime shall keep of a pretrained forecaster when it is fitted again: all that `_learn` and `_pretrain` set.
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
)


class Series(NamedTuple):
    """One series of a panel and what is known beside it."""

    y: pd.DataFrame
    X: pd.DataFrame | None

    @property
    def cutoff(self) -> pd.Index:
        """The last index, with its frequency."""
        return get_cutoff(self.y, return_index=True)

    def values(self) -> NDArray[np.float64]:
        """(T, V)."""
        return self.y.to_numpy(dtype=np.float64)

    def steps(self, fh: ForecastingHorizon) -> NDArray[np.int64]:
        """Which steps after the last one are asked for."""
        return np.asarray(fh.to_relative(self.cutoff).to_numpy(), dtype=np.int64)

    def index_at(self, fh: ForecastingHorizon) -> pd.Index:
        """The index of these steps."""
        return fh.to_absolute_index(self.cutoff)

    def covariates(self, dates: bool) -> NDArray[np.float64]:
        """X and the calendar of all steps, (T, F)."""
        parts = [np.empty((len(self.y), 0))]
        if self.X is not None:
            parts.append(self.X.to_numpy(dtype=np.float64))
        if dates:
            parts.append(calendar(self.y.index))
        return np.concatenate(parts, axis=1)

    def later_covariates(
        self, dates: bool, future: pd.DataFrame | None, steps: NDArray[np.int64], horizon: int
    ) -> NDArray[np.float64]:
        """The same of what follows, up to the last of ``steps``, (last, F).

        X is 0 where nothing depends on it: at a step that is not asked for, unless a forecast beyond ``horizon`` goes
        on from it.
        """
        last = int(steps.max())
        ahead = self.index_at(ForecastingHorizon(np.arange(1, last + 1)))
        parts = [np.empty((last, 0))]
        if self.X is not None:
            needed = np.union1d(np.arange(1, (last - 1) // horizon * horizon + 1), steps) - 1
            parts.append(np.zeros((last, self.X.shape[1])))
            parts[1][needed] = rows_at(future, ahead[needed], self.X.columns)
        if dates:
            parts.append(calendar(ahead))
        return np.concatenate(parts, axis=1)

    def after(self, before: "Series | None") -> "Series":
        """Itself behind an earlier part, whose names stay; where both have a step, the later part is right."""
        if before is None:
            return self
        new = self.y.set_axis(before.y.columns, axis=1)
        y = pd.concat([before.y[~before.y.index.isin(new.index)], new]).sort_index()
        if before.X is None or self.X is None:
            return Series(y, None)
        return Series(y, pd.concat([before.X[~before.X.index.isin(self.X.index)], self.X]).sort_index())


Panel = dict[tuple[Any, ...], Series]


def panel_of(y: pd.DataFrame, X: pd.DataFrame | None) -> Panel:
    """Copies of the series of y with their part of X, by key; a single one has the key ()."""
    known = None if X is None else frames_of(X)
    panel = {}
    for key, frame in frames_of(y).items():
        rows = None
        check_finite_frame("y", frame)
        if known is not None:
            if key not in known:
                raise ValueError(f"X has no rows for the series {key} of y.")
            rows = known[key].reindex(frame.index)
            check_finite_frame("X", rows)
        panel[key] = Series(frame.copy(), rows)
    return with_one_frequency(panel)


def with_one_frequency(panel: Panel) -> Panel:
    """Dates of all series with the frequency that the longest one shows: few dates show none, or another."""
    longest = max(panel.values(), key=lambda series: len(series.y))
    if len(panel) == 1 or not isinstance(longest.y.index, pd.DatetimeIndex):
        return panel
    frequency = getattr(longest.cutoff, "freq", None)
    found = {}
    for key, series in panel.items():
        index = series.y.index
        with suppress(ValueError):  # dates that do not go with it keep their own, and may be refused for that
            index = pd.DatetimeIndex(index, freq=frequency)
        found[key] = series._replace(y=series.y.set_axis(index))
    return found


def check_panel(panel: Panel) -> None:
    """Refuse series without a step, and steps that are not equally far apart."""
    for series in panel.values():
        if not len(series.y):
            raise ValueError("y has no steps; it needs at least one.")
        check_steps(series.y.index, getattr(series.cutoff, "freq", None))


def _resized(rows: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The first n rows, with zeros where there are fewer."""
    return np.pad(rows, ((0, max(0, n - len(rows))), (0, 0)))[:n]


def _levels(alpha: Sequence[float]) -> Tensor:
    """Levels of quantiles, or a ValueError."""
    levels = torch.as_tensor(alpha, dtype=torch.float64)
    if not bool(((levels > 0) & (levels < 1)).all()):
        raise ValueError(f"alpha={list(alpha)} must lie strictly between 0 and 1.")
    return levels


@documented("forecaster")
class SFMForecaster(BaseForecaster):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Forecast series, panels and hierarchies with a State-Frequency Memory network.

    One model for all series and horizons.  A window of the past is brought to mean 0 and variance 1, a simple forecast
    is made from it (the season before, the last value, the mean, drifts, or means of these), and the network, which
    reads the window in segments, corrects that forecast at all horizons in parallel and says how uncertain it is.
    Ridge regression may refine the simple forecast first.  Which simple forecast it is, whether there is a regression
    and how strongly it is penalised, for how many epochs the network trains (perhaps none), and how far the quantiles
    are stretched, is settled on the last part of each series; then all is trained once more with that part.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : HorizonModel
    context_length_, horizon_, segment_length_ : int
    anchor_ : str
        The simple forecast that the linear one is pulled to, such as "last", "season" or "last + drift".
    penalty_ : float
        How strongly; infinite if it is the anchor itself.
    n_iter_ : int
        Epochs for which the network was trained; 0 if it did not improve the linear forecast.
    linear_score_, validation_scores_ : float and list of float
        Minus the mean pinball loss of scaled values on the part set aside, of the linear forecast and after each epoch;
        None if nothing was set aside.
    loss_curve_ : list of float
        Mean pinball loss in each epoch of the first training.
    n_parameters_, device_, backend_
        As in :class:`SFMClassifier`.

    Notes
    -----
    Windows are scaled in float64; the network computes in float32.  A forecast of a value a y + b is a times the
    forecast of y, plus b.  Point forecasts are medians.  Quantiles come from levels between 0.025 and 0.975 and go on
    like those of a normal distribution beyond; intervals and variances are computed from them.  A constant series is
    forecast as that constant.  A series shorter than the context is filled up with its mean.

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
    device_: str
    y_names_: list[Any]
    X_names_: list[Any]
    covariate_mean_: NDArray[np.float64]
    covariate_scale_: NDArray[np.float64]
    _panel: Panel
    _level_names: list[Any]

    _config: ClassVar[dict[str, Any]] = {"remember_data": False}  # what an update needs is in _panel
    _y: Any = None  # sktime's own memory, for those who switch it on
    _X: Any = None
    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["sfmts developers"],
        "maintainers": ["sfmts developers"],
        "python_dependencies": ["torch"],
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:non_contiguous_X": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:insample": False,
        "capability:unequal_length": True,
        "capability:update": True,
        "capability:pretrain": True,
        "capability:missing_values": False,
        "capability:categorical_in_X": False,
        "capability:random_state": True,
        "property:randomness": "derandomized",
        "pretrain:fitted_params": list(_PRETRAINED),
        "requires-fh-in-fit": False,
        "X-y-must-have-same-index": True,
    }

    _network_defaults: ClassVar[dict[str, Any]] = {"init": "modern"}

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_layers: int = 1,
        dropout: float = 0.1,
        network_params: dict[str, Any] | None = None,
        sp: int = 1,
        context_length: int | None = None,
        horizon: int | None = None,
        segment_length: int | None = None,
        multivariate: str = "independent",
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
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
    ) -> None:
        store_parameters(self, locals())
        super().__init__()

    def fit(self, y: Any, X: Any = None, fh: Any = None) -> Self:
        """Train; see :meth:`sktime.forecasting.base.BaseForecaster.fit`.  If it fails, an earlier fit is as it was."""
        with fitting(self):
            return cast(Self, super().fit(y, X=X, fh=fh))

    def update(self, y: Any, X: Any = None, update_params: bool = True) -> Self:
        """Take in further steps; see :meth:`sktime.forecasting.base.BaseForecaster.update`."""
        with fitting(self):
            return cast(Self, super().update(y, X=X, update_params=update_params))

    def pretrain(self, y: Any, X: Any = None, fh: Any = None) -> Self:
        """Train on a panel beforehand; see :meth:`sktime.forecasting.base.BaseForecaster.pretrain`."""
        with fitting(self):
            return cast(Self, super().pretrain(y, X=X, fh=fh))

    # -- sktime's inner methods

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon | None) -> Self:
        self._validate()
        panel = panel_of(y, X)
        check_panel(panel)
        self._level_names = y.index.names
        if not self._is_pretrained:
            self._learn(panel, self._wanted_horizon(panel, fh))
        else:
            self._check_like_training(panel)
            self.module_ = self.pretrained_module_
            if self.fine_tune:
                self._learn(panel, self.horizon_, self.pretrained_module_)
        self._panel = panel
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
        if not self._is_pretrained:  # but fitted
            return self._pretrain(y, X, fh)
        self._validate()
        panel = panel_of(y, X)
        check_panel(panel)
        self._check_like_training(panel)
        self._learn(panel, self.horizon_, self.pretrained_module_)
        self.pretrained_module_ = self.module_
        return self

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Self:
        panel = panel_of(y, X)
        self._check_like_training(panel)
        panel = {**self._panel, **{key: series.after(self._panel.get(key)) for key, series in panel.items()}}
        panel = with_one_frequency(panel)
        check_panel(panel)
        if update_params and not self._is_pretrained:
            self._learn(panel, self.horizon_)
        elif update_params and self.fine_tune:
            self._learn(panel, self.horizon_, self.pretrained_module_)
        self._panel = panel
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        middle = self.module_.head.middle
        return self._in_frame(fh, X, lambda values: values[..., middle], self._get_columns())

    def _predict_quantiles(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: Sequence[float]
    ) -> pd.DataFrame:
        levels = _levels(alpha)
        columns = self._get_columns(method="predict_quantiles", alpha=alpha)
        head = self.module_.head
        return self._in_frame(fh, X, lambda values: head.interpolated(values, levels).flatten(1), columns)

    def _predict_var(self, fh: ForecastingHorizon, X: pd.DataFrame | None, cov: bool = False) -> pd.DataFrame:
        return self._in_frame(fh, X, self.module_.head.variance, self._get_columns(method="predict_var"))

    def _predict_proba(self, fh: ForecastingHorizon, X: pd.DataFrame | None, marginal: bool = True) -> Any:
        from skpro.distributions import Histogram

        names = self._get_columns()
        levels = self.module_.head.fine_levels()
        quantiles = self._predict_quantiles(fh, X, levels.tolist())
        edges = quantiles.to_numpy().reshape(len(quantiles), len(names), -1)
        mass = (levels.diff() / (levels[-1] - levels[0])).numpy()
        return Histogram(
            [list(row) for row in edges], [[mass] * len(names)] * len(edges), index=quantiles.index, columns=names
        )

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters of instances for sktime's tests.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is one set only.

        Returns
        -------
        params : list of dict
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
        """Forecasts from many points of one series, by the model as it is.

        Each reads what comes before it, and X up to its horizon; nothing is trained, and the forecaster keeps its
        context.  All windows go through the network together, unlike in as many calls of ``update_predict_single``.

        Parameters
        ----------
        y : Series or DataFrame
        X : DataFrame, optional
            With a row for each step of y, if there was an X in ``fit``.
        start : int, optional
            How many steps lie before the first forecast; ``context_length_`` by default.
        stride : int, default=1
            Steps between forecasts.
        alpha : sequence of float, optional
            Levels of quantiles; medians only by default.

        Returns
        -------
        positions : ndarray of shape (n,)
            The step of y that each forecast begins with; the last one ends with y.
        forecasts : ndarray of shape (n, horizon, variables) or, with ``alpha``, (n, horizon, variables, levels)

        Raises
        ------
        ValueError
            If y is too short for a single forecast, lacks a step, is a panel, or has more or fewer columns than in
            ``fit``, or these in another order; or if ``stride`` or ``alpha`` is out of range.
        TypeError
            If y is no Series or DataFrame.
        """
        self.check_is_fitted()
        if not isinstance(y, pd.Series | pd.DataFrame):
            raise TypeError(f"y must be a pandas Series or DataFrame, not {type(y).__name__}.")
        if not isinstance(stride, Integral) or stride < 1:
            raise ValueError(f"stride={stride!r} must be a whole number of steps, at least 1.")
        levels = None if alpha is None else _levels(alpha)
        y = y.to_frame() if isinstance(y, pd.Series) else y
        panel = panel_of(y, X)
        if () not in panel:
            raise ValueError(f"y holds {len(panel)} series; give one at a time, such as y.loc[{next(iter(panel))!r}].")
        self._check_like_training(panel)
        check_panel(panel)
        series = panel[()]
        start, last = self.context_length_ if start is None else start, len(y) - self.horizon_
        if not isinstance(start, Integral) or not 1 <= start <= last:
            raise ValueError(
                f"y has {len(y)} steps: a forecast of {self.horizon_} steps that begins at step start={start} does not "
                f"end within it; give a longer y, or a start from 1 to {last}."
            )
        values = series.values()
        windows = window_set(
            [values],
            [self._standardised(series.covariates(self.calendar_features))],
            self.context_length_,
            self.horizon_,
            joint=self.multivariate == "joint",
            first=[start],
            last=[last],
            scales=values[:start].std(axis=0)[None],
        ).every(stride)
        quantiles, head = self._run(windows), self.module_.head
        forecasts = quantiles[..., head.middle] if levels is None else head.interpolated(quantiles, levels)
        return np.arange(start, last + 1, stride), forecasts.numpy()

    # -- training

    @property
    def _is_pretrained(self) -> bool:
        return hasattr(self, "pretrained_module_")

    def _validate(self) -> None:
        validate_parameters(self)
        own_network_options(self)

    def _wanted_horizon(self, panel: Panel, fh: ForecastingHorizon | None) -> int:
        if self.horizon is not None:
            return int(self.horizon)
        if fh is None:
            return max(12, 2 * int(self.sp))
        return max(int(series.steps(fh).max()) for series in panel.values())

    def _check_like_training(self, panel: Panel) -> None:
        series = next(iter(panel.values()))
        check_names("y", series.y.columns, self.y_names_, by_name=False)
        check_names("X", () if series.X is None else series.X.columns, self.X_names_)

    def _learn(self, panel: Panel, horizon: int, start: HorizonModel | None = None) -> None:
        """Train a new model, or go on with ``start``, and set the fitted attributes."""
        values = [series.values() for series in panel.values()]
        covariates = [series.covariates(self.calendar_features) for series in panel.values()]
        if start is None:
            center, variance = moments(torch.from_numpy(np.concatenate(covariates)), None)
            mean, scale = center.numpy(), channel_scale(center, variance).numpy()
            shape = self._shape([len(series) for series in values], values[0].shape[1], covariates[0].shape[1], horizon)
        else:
            mean, scale = self.covariate_mean_, self.covariate_scale_
            shape = start.shape
            start = copy.deepcopy(start)
        fit = HorizonFit(
            values,
            [(part - mean) / scale for part in covariates],
            shape,
            lambda generator: self._make_model(shape, generator),
            resolve_device(self.device),
            start,
            training_settings(self, batch_size=1),
            None if self.batch_size == "auto" else int(self.batch_size),
            self.multivariate == "joint",
            True,
            int(self.sp),
            plain(self.validation_fraction) if self.early_stopping else 0.0,
            bool(self.refit),
            int(new_random_state(self.random_state).randint(2**31 - 1)),
        )
        model = fit.run().eval()  # nothing is set before: an update that fails leaves the earlier model as it was
        self.module_, self.horizon_ = model, shape.horizon
        self.context_length_, self.segment_length_ = shape.context_length, shape.segment_length
        if start is None:
            first = next(iter(panel.values()))
            self.y_names_ = list(first.y.columns)
            self.X_names_ = [] if first.X is None else list(first.X.columns)
            self.covariate_mean_, self.covariate_scale_ = mean, scale
            self.anchor_, self.penalty_ = fit.anchor, fit.penalty
        self.linear_score_, self.validation_scores_ = fit.linear_score, fit.validation_scores or None
        self.loss_curve_, self.n_iter_ = fit.loss, fit.epochs
        self.device_, self.backend_ = str(next(model.parameters()).device), model.network.backend
        self.n_parameters_ = sum(p.numel() for p in model.parameters() if p.requires_grad)

    def _shape(self, lengths: list[int], n_variables: int, n_covariates: int, horizon: int) -> HorizonShape:
        length, season = int(np.median(lengths)), int(self.sp) if self.sp > 1 else 0
        context = self.context_length
        if context is None:
            most = max(14 * season, 2 * horizon, 96)
            context = min(max(2 * season, length // 8, 12), most, max(length - 1, 1))
        segment = self.segment_length
        if segment is None:
            whole_seasons = 1 < season <= 64 and 8 * season <= context
            segment = 1 if context <= 64 else season if whole_seasons else math.ceil(context / 16)
        of_all = self.multivariate == "joint"
        in_window, of_their_own = (n_variables, 1) if of_all else (1, n_variables)
        return HorizonShape(int(context), horizon, int(segment), in_window, n_covariates, of_their_own)

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
                f"network={self.network!r} sees the future of each step, which a forecaster must not; take one that is "
                "causal."
            )
        model = HorizonModel(network, QuantileHead(), shape, plain(self.dropout), generator)
        return model.float()

    def _standardised(self, covariates: NDArray[np.float64]) -> NDArray[np.float64]:
        return (covariates - self.covariate_mean_) / self.covariate_scale_

    # -- prediction

    def _in_frame(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, read: Callable[[Tensor], Tensor], columns: pd.Index
    ) -> pd.DataFrame:
        """What ``read`` makes of the quantiles (steps, V, levels) of each series, with sktime's index."""
        panel = self._panel
        horizons = {key: series.steps(fh) for key, series in panel.items()}
        last = check_future_steps(horizons.values())
        future = {} if X is None else frames_of(X)
        unknown = [key for key, series in panel.items() if series.X is not None and key not in future]
        if future and unknown:
            raise ValueError(f"X in predict has no rows for the series {unknown[0]} of y.")
        covariates = [
            np.concatenate(
                [
                    series.covariates(self.calendar_features),
                    series.later_covariates(self.calendar_features, future.get(key), horizons[key], self.horizon_),
                ]
            )
            for key, series in panel.items()
        ]
        covariates = [self._standardised(part) for part in covariates]
        quantiles = self._quantiles([series.values() for series in panel.values()], covariates, last)
        frames = {
            key: pd.DataFrame(read(values[horizons[key] - 1]).numpy(), index=series.index_at(fh), columns=columns)
            for (key, series), values in zip(panel.items(), quantiles, strict=True)
        }
        return frames[()] if () in frames else pd.concat(frames, names=self._level_names)

    def _quantiles(
        self, values: list[NDArray[np.float64]], covariates: list[NDArray[np.float64]], steps: int
    ) -> list[Tensor]:
        """Quantiles (steps, V, levels) of what follows each series; ``covariates`` reach ``steps`` further."""
        H, middle = self.horizon_, self.module_.head.middle
        scales = np.stack([series.std(axis=0) for series in values])
        known, blocks, carried = values, [], torch.zeros(())
        for _ in range(0, steps, H):
            ends = [len(series) for series in known]
            windows = window_set(
                [np.pad(series, ((0, H), (0, 0)), constant_values=np.nan) for series in known],
                [_resized(part, end + H) for part, end in zip(covariates, ends, strict=True)],
                self.context_length_,
                H,
                joint=self.multivariate == "joint",
                first=ends,
                last=ends,
                scales=scales,
            )
            block = self._run(windows)
            away = block - block[..., middle : middle + 1]
            away = away.sign() * (away.square() + carried.square()).sqrt()
            blocks.append(block[..., middle : middle + 1] + away)
            carried = away[:, -1:]
            known = [
                np.concatenate([series, median])
                for series, median in zip(known, block[..., middle].numpy(), strict=True)
            ]
        return list(torch.cat(blocks, dim=1)[:, :steps])

    @own_precision()
    @torch.no_grad()
    def _run(self, windows: WindowSet) -> Tensor:
        """Quantiles of each cut, (cuts, H, V, levels), in float64 and in the units of y."""
        device = torch.device(self.device_)
        model = self.module_
        if is_available(device):
            model.to(device)
        parameter = next(model.parameters())
        windows = windows.to(parameter.device, parameter.dtype)
        parts = []
        for index in torch.arange(len(windows)).split(_PREDICTION_BATCH):
            x, _, center, scale = windows.cut(index)
            quantiles = model.head.quantiles(model.features(x)[0]).double()
            parts.append((quantiles * scale[:, None, :, None] + center[:, None, :, None]).cpu())
        values = torch.cat(parts)
        if windows.variables is None:
            return values
        return values.view(-1, len(self.y_names_), *values.shape[1:2], values.shape[3]).transpose(1, 2)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("module_", "pretrained_module_"):
            if name in state:
                state[name] = copy.deepcopy(state[name]).cpu()
        return state
