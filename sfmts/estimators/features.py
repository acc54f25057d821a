"""SFMFeatures."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import joblib
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sfmts._batch import SequenceBatch
from sfmts._random import new_random_state
from sfmts._validation import INPUT_ATTRIBUTES, as_batch, as_weights
from sfmts.estimators._base import SavedEstimator, check_file_attributes, check_tensors, fitting
from sfmts.estimators._device import Work, is_available, resolve_device
from sfmts.estimators._parameters import documented, store_parameters, validate
from sfmts.features._bank import KINDS, BankInfo, BankOptions, choose_series, draw_bank, fit_bank
from sfmts.features._signal import SCALES, SignalScale, check_increasing, fit_scale
from sfmts.features._stream import FeatureStream
from sfmts.kernels._bank import LANES, MEMBERS, SUMMARIES, Bank, resolve_bank, summarize_bank
from sfmts.kernels._bank.checks import check_bank

_SHORTEST = 2.5  # default of the shortest period, in steps
_PER_FEATURE = 4  # multiplications of a feature at each step: 27 for the seven of an oscillator
_VALUES_AT_ONCE = 1 << 19  # values of X that are converted at once


@dataclass(frozen=True)
class FittedBank:
    """A bank, what its slots are, and the scaling of the series that drive it."""

    bank: Bank
    info: BankInfo
    scale: SignalScale


class BankEstimator(SavedEstimator):
    """Base of the estimators that read a bank of oscillators: parameters, input and the bank itself."""

    _zero_share = 0.05  # of the oscillators have frequency zero: they follow the level and the trend
    _fitted: FittedBank
    n_channels_in_: int
    n_features_out_: int
    device_: str
    backend_: str

    def _validate_params(self) -> None:
        """Raise an error if a parameter has a type or a value that is not allowed."""
        validate(self._parameter_constraints, self.get_params(deep=False), type(self).__name__)

    def _batch(self, X: Any, reset: bool) -> SequenceBatch:
        # A fitted bank keeps its time channel, whatever the parameter is now.
        channel = self.time_channel if reset else self._fitted.scale.time_channel
        batch = as_batch(X, self, reset=reset, layout=self.layout, time_channel=channel, allow_missing=True)
        check_increasing(batch.time, batch.lengths)
        return batch

    def _take_columns(self, other: Any) -> None:
        """Expect series with the channels, features and names that another estimator found in its series."""
        for name in INPUT_ATTRIBUTES & vars(other).keys():
            setattr(self, name, getattr(other, name))

    def _fit_bank(
        self, batch: SequenceBatch, weight: NDArray[np.float64] | None, random_state: np.random.RandomState
    ) -> None:
        """Draw a bank for these series."""
        scale = fit_scale(batch, self.scale, self.time_channel, weight)
        options = self._bank_options(batch, scale.unit)
        bank, info = draw_bank(options, len(scale.mean), scale.n_copies, scale.unit, random_state)
        chosen = choose_series(len(batch), weight, random_state)
        part = batch.take(torch.from_numpy(chosen))
        bank = fit_bank(
            bank,
            (scale.apply(part), part.lengths, scale.times(part)),
            None if weight is None else weight[chosen],
            random_state,
            backend=self._backend(torch.device("cpu")),
            threads=self._threads(),
        )
        self._fitted = FittedBank(bank, info, scale)
        multiplications = _PER_FEATURE * bank.n_features * int(batch.lengths.sum())
        self.device_ = str(resolve_device(self.device, Work(multiplications, lambda _: None)))
        self.backend_ = self._backend(torch.device(self.device_))
        self.n_features_out_ = bank.n_features

    def _backend(self, device: torch.device) -> str:
        return resolve_bank("auto" if device.type == "cpu" and self.device != "cpu" else self.backend, device)

    def _threads(self) -> int:
        return torch.get_num_threads() if self.n_jobs is None else int(joblib.effective_n_jobs(self.n_jobs))

    def _bank_options(self, batch: SequenceBatch, unit: float) -> BankOptions:
        durations = batch.lengths.double() * unit
        if batch.time is not None:
            ends = batch.lengths.cumsum(0)
            durations = batch.time[ends - 1] - batch.time[ends - batch.lengths] + unit
        low, high = _range("periods", (None, None) if self.periods is None else self.periods)
        decays = _range("decays", self.decays)
        if None in decays:
            raise ValueError(f"decays must be two numbers, but is {self.decays!r}.")
        low = _SHORTEST * unit if low is None else low
        high = max(float(durations.median()), 1.5 * low) if high is None else high
        if high < low:
            raise ValueError(f"periods={self.periods!r} ends below the shortest period by default, {low:g}.")
        return BankOptions(int(self.n_features), low, high, decays, self.directions == "forward", self._zero_share)

    def _check_signal(self, batch: SequenceBatch) -> None:
        """Raise ValueError if the bank cannot read one of the series."""
        for part in series_parts(batch, len(batch)):
            series = batch.take(torch.arange(part.start, part.stop))
            self._fitted.scale.apply(series)
            self._fitted.scale.times(series)

    def _features(self, batch: SequenceBatch) -> NDArray[np.float32]:
        """Return the features of each series, (n, n_features)."""
        out = np.empty((len(batch), self._fitted.bank.n_features), dtype=np.float32)
        for part in series_parts(batch, 1024):
            out[part] = self._features_of(batch.take(torch.arange(part.start, part.stop)))
        return out

    def _features_of(self, part: SequenceBatch) -> NDArray[np.float32]:
        fitted, device = self._fitted, torch.device(self.device_)
        if device.type == "cuda" and not is_available(device):
            device = torch.device("cpu")
        x, time = fitted.scale.apply(part).to(device), fitted.scale.times(part)
        time = None if time is None else time.to(device)
        features = summarize_bank(
            x, part.lengths, time, fitted.bank, backend=self._backend(device), threads=self._threads()
        )
        array: NDArray[np.float32] = features.cpu().numpy()
        return array

    # -- what the features are

    @property
    def feature_info_(self) -> NDArray[Any]:
        """Return period, decay time, channel, drive, direction and summary of each feature.

        Returns
        -------
        info : structured ndarray of shape (n_features_out_,)
            ``channel`` has the greatest weight in the drive of the oscillator; ``channel_weights_`` has all weights.
        """
        check_is_fitted(self)
        fitted, slots = self._fitted, self._slots()
        block, member, group, summary = slots.T
        weights = self.channel_weights_
        info = np.empty(
            len(slots),
            dtype=[
                ("period", "f8"),
                ("decay_time", "f8"),
                ("channel", "i8"),
                ("drive", "U5"),
                ("direction", "U8"),
                ("summary", "U13"),
            ],
        )
        info["period"] = fitted.info.period[block, member, group]
        info["decay_time"] = fitted.info.decay[block, member, group]
        info["channel"] = weights.argmax(axis=1)
        info["drive"] = np.array(KINDS)[fitted.info.kind[block]]
        info["direction"] = np.where(fitted.bank.direction.numpy()[block] > 0, "forward", "backward")
        info["summary"] = np.array(SUMMARIES)[summary]
        return info

    @property
    def channel_weights_(self) -> NDArray[np.float64]:
        """Return the share of each channel in the drive of each feature.

        Returns
        -------
        shares : ndarray of shape (n_features_out_, n_channels_in_)
            Each row sums to 1.
        """
        check_is_fitted(self)
        fitted, slots = self._fitted, self._slots()
        weights = np.abs(fitted.bank.mix.numpy().astype(np.float64))
        n_channels = len(fitted.scale.mean)
        weights = weights.reshape(*weights.shape[:2], -1, n_channels).sum(axis=2)  # scale="both" has each one twice
        shares = weights / weights.sum(axis=2, keepdims=True)
        channel = fitted.scale.time_channel
        if channel is not None:  # time stamps do not drive oscillators
            shares = np.insert(shares, channel % (n_channels + 1), 0.0, axis=2)
        return shares[slots[:, 0], slots[:, 1]]

    def _slots(self) -> NDArray[np.int64]:
        """Return block, member, group and summary of each feature."""
        rows = []
        for block, groups in enumerate(self._fitted.bank.groups.tolist()):
            summary, member, group = np.meshgrid(
                np.arange(len(SUMMARIES)), np.arange(MEMBERS), np.arange(groups), indexing="ij"
            )
            rows.append(
                np.stack([np.full(summary.size, block), member.ravel(), group.ravel(), summary.ravel()], axis=1)
            )
        return np.concatenate(rows)

    # -- files

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        fitted = self._fitted
        tensors = {f"bank.{name}": value for name, value in fitted.bank._asdict().items() if name != "unit"}
        for name in ("s", "start", "m"):
            tensors[f"bank.{name}"] = torch.view_as_real(tensors[f"bank.{name}"])
        tensors |= {f"info.{name}": torch.from_numpy(value) for name, value in vars(fitted.info).items()}
        tensors |= {"scale.mean": fitted.scale.mean, "scale.scale": fitted.scale.scale}
        document = {"unit": fitted.scale.unit, "scale": fitted.scale.kind, "time_channel": fitted.scale.time_channel}
        return document, tensors

    def _from_file(self, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        self._check_file_parameters(document["parameters"])
        check_file_attributes(self)
        unit, kind, channel = document["unit"], document["scale"], document["time_channel"]
        if not is_positive(unit):
            raise ValueError(f"its unit of time is {unit!r}, not a positive number")
        if kind not in SCALES:
            raise ValueError(f"its scale is {kind!r}, not one of {', '.join(SCALES)}")
        n_channels = self.n_channels_in_
        if channel is not None and not (type(channel) is int and -n_channels <= channel < n_channels):
            raise ValueError(f"its time_channel is {channel!r}, but X has {n_channels} channels")
        scale = SignalScale(kind, tensors["scale.mean"], tensors["scale.scale"], channel, float(unit))
        check_tensors(self._file_tensors(scale, tensors), tensors, infinite=("bank.threshold", "info.period"))
        parts = {name.removeprefix("bank."): value for name, value in tensors.items() if name.startswith("bank.")}
        for name in ("s", "start", "m"):
            parts[name] = torch.view_as_complex(parts[name].contiguous())
        bank = Bank(**parts, unit=1.0)
        check_bank(bank)
        if bank.n_features != self.n_features_out_:
            raise ValueError(f"its bank has {bank.n_features} features, but n_features_out_ is {self.n_features_out_}")
        positive = ("info.period", "info.decay", "scale.scale")
        if any(not bool((tensors[name] > 0).all()) for name in positive) or bool(bank.threshold.isnan().any()):
            raise ValueError("its periods, decay times, scales or thresholds are not all positive numbers")
        info = {name: tensors[f"info.{name}"].numpy() for name in ("period", "decay", "kind")}
        if not np.isin(info["kind"], range(len(KINDS))).all():
            raise ValueError("its oscillators are driven by neither values nor slopes")
        self._fitted = FittedBank(bank, BankInfo(**info), scale)

    def _check_file_parameters(self, parameters: dict[str, Any]) -> None:
        """Raise a ValueError unless a file has all parameters, and valid ones."""
        if missing := sorted({*self._get_param_names()} - parameters.keys()):
            raise ValueError(f"it lacks the parameters {', '.join(missing)}")
        self._validate_params()

    def _file_tensors(
        self, scale: SignalScale, tensors: dict[str, torch.Tensor]
    ) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return shape and type of each tensor of a file, given how many blocks and channels there are."""
        blocks = tensors["bank.groups"].numel()
        slots, channels = (blocks, MEMBERS, LANES), self.n_channels_in_ - (scale.time_channel is not None)
        return {
            "bank.s": ((*slots, 2), torch.float64),
            "bank.start": ((*slots, 2), torch.float32),
            "bank.m": ((*slots, 2), torch.float32),
            "bank.direct": (slots, torch.float32),
            "bank.threshold": (slots, torch.float32),
            "bank.mix": ((blocks, MEMBERS, scale.n_copies * channels), torch.float32),
            "bank.direction": ((blocks,), torch.int64),
            "bank.groups": ((blocks,), torch.int64),
            "info.period": (slots, torch.float64),
            "info.decay": (slots, torch.float64),
            "info.kind": ((blocks,), torch.int64),
            "scale.mean": ((channels,), torch.float64),
            "scale.scale": ((channels,), torch.float64),
        }

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags


def is_positive(value: Any) -> bool:
    """Return whether an entry of a file is a positive, finite number.

    Parameters
    ----------
    value : object
        The entry.

    Returns
    -------
    is_positive : bool
        False for booleans, infinity and NaN.
    """
    return type(value) in (int, float) and 0 < value < math.inf


def _range(name: str, value: Any) -> tuple[Any, Any]:
    """Return two positive numbers, or None, in order."""
    numbers = tuple(value)
    if len(numbers) != 2 or any(
        number is not None and not (isinstance(number, Real) and 0 < float(number) < math.inf) for number in numbers
    ):
        raise ValueError(f"{name} must be a pair (least, greatest) of positive numbers or None, but is {value!r}.")
    low, high = (None if number is None else float(number) for number in numbers)
    if low is not None and high is not None and high < low:
        raise ValueError(f"{name} must be given as (least, greatest), but is {value!r}.")
    return low, high


def series_parts(batch: SequenceBatch, most: int) -> list[slice]:
    """Cut the series into runs of at most ``most`` and of bounded size; one long series is a run of its own.

    Parameters
    ----------
    batch : SequenceBatch
        The series.
    most : int
        Maximum number of series in a run.

    Returns
    -------
    parts : list of slice
        The runs, in order.
    """
    sizes = batch.lengths * batch.n_channels
    run = ((sizes.cumsum(0) - sizes) // _VALUES_AT_ONCE).tolist()
    starts, first = [0], 0
    for number in range(1, len(batch)):
        if number - first >= most or run[number] != run[first]:
            starts.append(number)
            first = number
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(batch)], strict=True)]


@documented("bank")
class SFMFeatures(TransformerMixin, BankEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Turn series into features with a fixed State-Frequency Memory.

    A bank of damped oscillators with random periods and decay times is driven by the series; nothing in it is trained.
    Each oscillator gives seven features: how long its output is above a threshold, the longest stretch of such time,
    when it happens, and how often and how strongly it is the greatest and the least of a group of eight.
    Read by a linear model, these features classify as well as the best known transforms, see
    :class:`sfmts.SFMRidgeClassifier`.

    Series may have unequal lengths, gaps and time stamps. The signal is linear between two observations, and the
    oscillators are integrated exactly, so a denser sampling of a signal gives nearly the same features.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    n_features_out_ : int
        Number of features.
    feature_info_ : structured ndarray of shape (n_features_out_,)
        ``period``, ``decay_time``, ``channel``, ``drive`` ("value" or "slope" of the signal), ``direction`` and
        ``summary`` of each feature.
    channel_weights_ : ndarray of shape (n_features_out_, n_channels_in_)
        Share of each channel in the drive of each feature.
    device_, backend_ : str
        Where and with which kernel features are computed.
    n_channels_in_ : int
        Number of channels.
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.

    See Also
    --------
    SFMRidgeClassifier, SFMRidgeRegressor : Ridge regression on these features.

    Notes
    -----
    The bank is the state equation of the SFM (Hu & Qi, ICML 2017, Eq. 1) with constant gates, in continuous time. Its
    equations are in :doc:`/features_design`.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMFeatures
    >>> rng = np.random.default_rng(0)
    >>> X = [np.sin(np.arange(n) / 3 + rng.uniform(0, 6))[:, None] for n in (40, 50, 60)]
    >>> X[1][10:20] = np.nan  # a gap
    >>> features = SFMFeatures(n_features=560, random_state=0).fit_transform(X)
    >>> features.shape, features.dtype
    ((3, 560), dtype('float32'))
    """

    def __init__(
        self,
        n_features: int = 10_000,
        *,
        periods: tuple[float | None, float | None] | None = None,
        decays: tuple[float, float] = (0.15, 2.0),
        directions: str = "both",
        scale: str = "train",
        time_channel: int | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        backend: str = "auto",
        layout: str = "ntc",
    ) -> None:
        store_parameters(self, locals())

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Draw the bank, and fit its scales and thresholds to series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            NaN is missing.
        y : ignored
            Not used.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        self : SFMFeatures
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X or a parameter is invalid. A previous fit is kept.
        """
        self._validate_params()
        with fitting(self):
            batch = self._batch(X, reset=True)
            weight = as_weights(sample_weight, len(batch))
            if weight is not None:
                used = np.flatnonzero(weight)
                batch, weight = batch.take(torch.from_numpy(used)), weight[used]
            self._fit_bank(batch, weight, new_random_state(self.random_state))
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the features of each series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            NaN is missing.

        Returns
        -------
        features : ndarray of shape (n, n_features_out_), float32
            The features.
        """
        check_is_fitted(self)
        return self._features(self._batch(X, reset=False))

    def stream(self) -> FeatureStream:
        """Return an object that takes one step of a series at a time.

        Returns
        -------
        stream : sfmts.features.FeatureStream
            The stream.

        Raises
        ------
        ValueError
            If the bank reads series backwards, or scales each series by itself, because both need the end of a series.
        """
        check_is_fitted(self)
        return FeatureStream(self._fitted.bank, self._fitted.scale)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return a name for each feature, such as "share_value_forward_17".

        Parameters
        ----------
        input_features : ignored
            Not used.

        Returns
        -------
        names : ndarray of str
            Names.
        """
        info = self.feature_info_
        parts = zip(info["summary"].tolist(), info["drive"].tolist(), info["direction"].tolist(), strict=True)
        names = [f"{summary}_{drive}_{direction}_{i}" for i, (summary, drive, direction) in enumerate(parts)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
