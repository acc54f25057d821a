"""Validate input and convert it to one format; raise the errors about invalid input.

Series are an array (n, T) of one channel each, an array (n, T, C), or a list of arrays (T_i, C) of unequal length.
``layout="nct"`` means that the last two axes are swapped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data
from torch import Tensor

from sfmts._batch import SequenceBatch
from sfmts._choices import check_squares

LAYOUTS = ("ntc", "nct")
INPUT_ATTRIBUTES = frozenset({"n_channels_in_", "n_features_in_", "feature_names_in_", "channel_names_in_"})
_FLOATS = (np.float64, np.float32)


def as_batch(
    X: Any,
    estimator: Any,
    *,
    reset: bool,
    layout: str = "ntc",
    time_channel: int | None = None,
    allow_missing: bool = False,
) -> SequenceBatch:
    """Validate X and convert it to a :class:`SequenceBatch`.

    Parameters
    ----------
    X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
        Series.
    estimator : object
        If ``reset``, its ``n_channels_in_`` is set; otherwise X is compared with it. The same is done with
        ``n_features_in_`` and ``feature_names_in_`` for two-dimensional X, and ``channel_names_in_`` for data frames.
    reset : bool
        True in fit, False afterwards.
    layout : {"ntc", "nct"}
        Order of the axes of three-dimensional X and, without the n, of the arrays of a list.
    time_channel : int, optional
        The channel that holds time stamps.
    allow_missing : bool
        Whether NaN marks missing values. Series are then cut to the steps from the first observation to the last, and
        channels are interpolated in between; see ``fill_missing``.

    Returns
    -------
    batch : SequenceBatch
        The series, copied.

    Raises
    ------
    ValueError, TypeError
        If X is invalid.
    """
    X = _as_array_or_list(X)
    if reset:
        for name in INPUT_ATTRIBUTES - {"n_channels_in_"}:
            estimator.__dict__.pop(name, None)
    if isinstance(X, list):
        check_channel_names(estimator, X, reset)
    with _numbers_expected():
        arrays = _as_ragged(X)
    if arrays is not None:
        values, lengths = _check_ragged(arrays, layout)
    else:
        values, lengths = _check_array(X, estimator, reset, layout)
    _check_finite(values, lengths, allow_missing)
    channels = values.shape[1]
    if reset:
        estimator.n_channels_in_ = channels
    elif channels != estimator.n_channels_in_:
        raise ValueError(_channel_message(estimator, channels, lengths, X))
    form = "list" if arrays is not None else "nt" if np.ndim(X) == 2 else "ntc"
    time = None if time_channel is None else _time_stamps(values, lengths, time_channel)
    if allow_missing and np.isnan(values).any():
        values, lengths, time = fill_missing(values, lengths, time, time_channel)
    flat = torch.from_numpy(np.array(values, order="C"))  # a copy, because X may be a read-only memory map
    batch = SequenceBatch(flat, torch.from_numpy(lengths), form=form)
    return batch if time is None else replace(batch, time=time)


def check_channel_names(estimator: Any, frames: list[Any], reset: bool) -> None:
    """Raise ValueError if column names of data frames differ from each other or from those of the fit.

    As in scikit-learn, names are compared only if all are strings, and their order counts.
    """
    known = None if reset else getattr(estimator, "channel_names_in_", None)
    for number, frame in enumerate(frames):
        names = list(getattr(frame, "columns", ()))
        if not names or not all(isinstance(name, str) for name in names):
            continue
        if known is None:
            known = np.array(names, dtype=object)
            if reset:
                estimator.channel_names_in_ = known
        elif names != list(known):
            raise ValueError(
                f"Series {number} of X has the columns {names}, but {list(known)} in that order were expected. Reorder "
                "or rename them, because channels are identified by position."
            )


def _as_array_or_list(X: Any) -> Any:
    """Return X as an object with dimensions or as a list of series; raise an error if it is neither."""
    if X is None or type(X) is dict or np.isscalar(X):
        raise TypeError(
            f"X must be an array (n, T) or (n, T, C), or a list of arrays (T_i, C), but is a {type(X).__name__}."
        )
    if isinstance(X, list | tuple):
        if len(X) == 0:
            raise ValueError("X holds 0 series; at least one is required.")
        return [_as_array(item) for item in X]
    if isinstance(X, Tensor | np.ma.MaskedArray):
        return _as_array(X)
    if getattr(getattr(X, "index", None), "nlevels", 1) > 1:
        raise TypeError(
            "X is a data frame whose index has several levels. Give its series as a list of arrays, or use the "
            "estimators of sfmts.sktime, which read such panels."
        )
    if getattr(X, "ndim", None) == 1 and not isinstance(X, np.ndarray):
        return np.asarray(X)  # a pandas Series whose entries may be series
    # Polars data frames have no ndim.
    return _as_array(X) if hasattr(X, "ndim") or hasattr(X, "columns") else np.asarray(X)


def _as_array(item: Any, name: str = "X") -> Any:
    """Convert a tensor or a masked array to an array, with NaN for masked entries; return anything else unchanged.

    Tensors may require gradients, be on a GPU, or have a type that NumPy lacks.
    """
    if isinstance(item, np.ma.MaskedArray):
        is_masked = np.ma.getmaskarray(item)
        if not is_masked.any():
            return item.data
        dtype = item.dtype if item.dtype.kind == "f" else np.float64
        return np.where(is_masked, np.nan, item.data.astype(dtype))
    if sparse.issparse(item):
        raise TypeError(f"Sparse data was passed for {name}, but dense data is required. Use its toarray().")
    if hasattr(item, "columns") and hasattr(item, "dtypes") and any(is_nullable(dtype) for dtype in item.dtypes):
        return item.astype(np.float64)  # pd.NA becomes NaN
    if not isinstance(item, Tensor):
        return item
    if item.is_nested or item.layout is not torch.strided or item.is_quantized or item.device.type == "meta":
        kind = "nested" if item.is_nested else "quantized" if item.is_quantized else f"{item.layout} {item.device.type}"
        raise TypeError(f"{name} holds a tensor that is {kind}; only dense tensors with values are supported.")
    item = item.detach().cpu()
    return (item.float() if item.dtype == torch.bfloat16 else item).numpy()


def is_nullable(dtype: Any) -> bool:
    """Return whether a data frame column of this type may hold numbers and pd.NA."""
    return type(dtype).__module__.startswith("pandas") and getattr(dtype, "kind", "O") in "biuf"


def _as_ragged(X: Any) -> list[Any] | None:
    """Return the items of X if it is a list of series, otherwise None."""
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim != 1):
        return None
    if not isinstance(X, list | tuple | np.ndarray) or len(X) == 0:
        return None
    dimensions = {np.ndim(item) for item in X}
    if dimensions == {2}:
        return list(X)
    if dimensions == {1}:
        if not any(isinstance(item, list | tuple) for item in X):
            return [np.asarray(item) for item in X]
        if len({len(item) for item in X}) > 1:
            raise ValueError(
                "X is a nested list whose rows have unequal lengths. A nested list is read as a table (n, T); give "
                "series of unequal length as a list of arrays."
            )
    if len(dimensions) > 1:
        raise ValueError(
            f"X is a list of series with {sorted(dimensions)} dimensions, but all must be two-dimensional, (T_i, C)."
        )
    return None


@contextmanager
def _numbers_expected() -> Iterator[None]:
    """Reword errors of conversions to float, so that they name X."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith("could not convert"):
            raise ValueError(f"X must hold numbers: {error}.") from error
        if str(error).startswith("setting an array element with a sequence"):
            raise ValueError(
                "X holds sequences instead of numbers. All steps of a series must have the same channels, as in shape "
                "(T_i, C). For nested data frames use the estimators of sfmts.sktime."
            ) from error
        raise
    except OverflowError as error:
        raise ValueError("X holds an integer that is too large for floating point. Scale it first.") from error
    except TypeError as error:
        message = str(error)
        if "NAType" in message:
            message = "it holds pd.NA; convert the columns to float first, as frame.astype(float) does"
        raise TypeError(f"X must hold numbers: {message}.") from error


def _refuse_other_kinds(array: Any) -> None:
    """Raise ValueError if an array is complex, or holds times or records."""
    if np.iscomplexobj(array):
        raise ValueError("Complex data not supported: X is complex. Give real and imaginary part as two channels.")
    kind = getattr(array, "dtype", np.dtype(float)).kind
    if kind in "mM":
        raise ValueError(f"X must hold numbers, but holds {array.dtype}. Convert times, as to seconds since the first.")
    if kind == "V":
        raise ValueError(f"X must hold numbers, but holds records of {array.dtype}. Give each field as a channel.")


def _check_ragged(arrays: list[Any], layout: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return flat values, (sum of lengths, C), and lengths of a list of series."""
    series = [np.asarray(item) for item in arrays]
    series = [item[:, None] if item.ndim == 1 else item.T if layout == "nct" else item for item in series]
    channels = series[0].shape[1]
    for number, array in enumerate(series):
        _refuse_other_kinds(array)
        if array.shape[0] == 0:
            raise ValueError(f"Series {number} of X has length 0; at least one time step is required.")
        if array.shape[1] == 0:
            raise ValueError(f"Series {number} of X has 0 channels; at least one is required, as in shape (T_i, C).")
        if array.shape[1] != channels:
            hint = _layout_hint(series, array, channels, layout)
            raise ValueError(f"Series {number} of X has {array.shape[1]} channels, but series 0 has {channels}.{hint}")
    dtype = np.float32 if all(array.dtype == np.float32 for array in series) else np.float64
    with _numbers_expected():
        values = np.concatenate([np.asarray(array, dtype=dtype) for array in series])
    return values, np.array([len(array) for array in series])


def _layout_hint(series: list[NDArray[Any]], odd: NDArray[Any], channels: int, layout: str) -> str:
    """Return advice if axes seem to be swapped, otherwise an empty string."""
    other = "nct" if layout == "ntc" else "ntc"
    stored = "(channels, time)" if layout == "ntc" else "(time, channels)"
    if len({len(array) for array in series}) == 1:
        return f" The other axis of all series has {len(odd)} entries: are they {stored}? Then set layout={other!r}."
    if len(odd) == channels:
        return f" Its other axis would match: is it stored as {stored}? Transpose it, or set layout={other!r} for all."
    return ""


def _check_array(X: Any, estimator: Any, reset: bool, layout: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return flat values, (n T, C), and lengths of a two- or three-dimensional array."""
    _refuse_other_kinds(X)
    shape = np.shape(X)
    if len(shape) > 3:
        raise ValueError(f"X has shape {shape}, but must have shape (n, T) or (n, T, C).")
    if len(shape) == 3:
        if 0 in shape:
            what = ("series", "time steps", "channels") if layout == "ntc" else ("series", "channels", "time steps")
            raise ValueError(f"X has shape {shape} with 0 {what[shape.index(0)]}; at least one is required.")
        with _numbers_expected():
            array = check_array(
                X, dtype=_FLOATS, allow_nd=True, ensure_all_finite=False, input_name="X", estimator=estimator
            )
        if layout == "nct":
            array = array.transpose(0, 2, 1)
    else:
        with _numbers_expected():
            array = validate_data(estimator, X, reset=reset, dtype=_FLOATS, ensure_all_finite=False)[:, :, None]
    return array.reshape(-1, array.shape[2]), np.full(len(array), array.shape[1])


def _check_finite(values: NDArray[Any], lengths: NDArray[np.int64], allow_missing: bool) -> None:
    """Raise ValueError, and name the place, if a value is infinite or, unless ``allow_missing``, NaN."""
    odd = np.isinf(values) if allow_missing else ~np.isfinite(values)
    if not odd.any():
        return
    row, channel = np.argwhere(odd)[0]
    series = int(np.searchsorted(lengths.cumsum(), row, side="right"))
    step = int(row - lengths[:series].sum())
    what = "NaN" if np.isnan(values[row, channel]) else "infinity"
    advice = (
        "Replace it by a number, or by NaN if it is missing." if allow_missing else "Fill or drop missing values first."
    )
    raise ValueError(f"Input X contains {what}: series {series}, step {step}, channel {channel}. {advice}")


def _channel_message(estimator: Any, channels: int, lengths: NDArray[np.int64], X: Any) -> str:
    """Return the error message for a wrong number of channels, with advice if axes seem to be swapped."""
    name, expected = type(estimator).__name__, estimator.n_channels_in_
    message = f"X has {channels} channels, but {name} was fitted with {expected}."
    if not isinstance(X, list | tuple) and np.ndim(X) == 2:
        message += " A two-dimensional X holds n series of one channel. Pass a single series as X[np.newaxis]."
    elif (lengths == expected).all():
        message += " The other axis of X would match. If X is (channels, time), swap the axes or set layout."
    return message


def _time_stamps(values: NDArray[Any], lengths: NDArray[np.int64], channel: int) -> Tensor:
    """Return the time stamps; raise ValueError if some are missing, decrease or are too coarse."""
    if not -values.shape[1] <= channel < values.shape[1]:
        raise ValueError(f"time_channel={channel} is out of range: X has n_channels={values.shape[1]}.")
    time = values[:, channel].astype(np.float64)
    if np.isnan(time).any():
        series = int(np.searchsorted(lengths.cumsum(), np.flatnonzero(np.isnan(time))[0], side="right"))
        raise ValueError(f"Time stamps must not be missing, but channel {channel} of series {series} holds NaN.")
    if values.dtype == np.float32:
        _check_resolution(time, lengths, channel)
    starts = np.zeros(len(time), dtype=bool)
    starts[np.cumsum(lengths)[:-1]] = True
    backwards = np.flatnonzero((np.diff(time, prepend=time[0]) < 0) & ~starts)
    if len(backwards):
        series = int(np.searchsorted(lengths.cumsum(), backwards[0], side="right"))
        raise ValueError(
            f"Time stamps must not decrease, but those in channel {channel} of series {series} do. Sort its steps."
        )
    return torch.from_numpy(time)


def _check_resolution(time: NDArray[np.float64], lengths: NDArray[np.int64], channel: int) -> None:
    """Raise ValueError if float32 is too coarse for time stamps, as it is for seconds since 1970."""
    ends = np.cumsum(lengths) - 1
    duration = float(np.sum(time[ends] - time[ends - lengths + 1]))
    step = duration / max(len(time) - len(lengths), 1)
    resolution = float(np.spacing(np.float32(np.abs(time).max())))
    if resolution > 0.01 * step and resolution > 1e-6:
        raise ValueError(
            f"Time stamps in channel {channel} are float32, whose resolution around {time[0]:g} is only "
            f"{resolution:g}. Give X as float64, or subtract the start of each series."
        )


def fill_missing(
    values: NDArray[Any], lengths: NDArray[np.int64], time: Tensor | None, time_channel: int | None
) -> tuple[NDArray[Any], NDArray[np.int64], Tensor | None]:
    """Cut series to their observations and interpolate every channel linearly in time where it is NaN.

    A series begins and ends with the first and the last step at which any channel is observed. A channel is constant
    before its first observation and after its last. A channel without any observation in a series stays NaN there.

    Parameters
    ----------
    values : ndarray of shape (sum of lengths, channels)
        Values of all series.
    lengths : ndarray of shape (n,)
        Length of each series.
    time : Tensor of shape (sum of lengths,), optional
        Time stamps. If None, steps are one apart.
    time_channel : int, optional
        The channel of the time stamps, which does not count as an observation.

    Returns
    -------
    values : ndarray of shape (sum of new lengths, channels)
        Interpolated values.
    lengths : ndarray of shape (n,)
        New length of each series.
    time : Tensor of shape (sum of new lengths,) or None
        Time stamps of the remaining steps.

    Raises
    ------
    ValueError
        If a series has no observation.
    """
    observed = ~np.isnan(values)
    if time_channel is not None:
        observed[:, time_channel] = False
    seen = observed.any(axis=1)
    number = np.repeat(np.arange(len(lengths)), lengths)
    counts = np.bincount(number[seen], minlength=len(lengths))
    if not counts.all():
        raise ValueError(f"Series {int(np.argmin(counts > 0))} of X has no observation, only NaN. Leave it out.")
    row = np.arange(len(values))
    rows = row[seen]
    ends = counts.cumsum()
    inside = (row >= rows[ends - counts][number]) & (row <= rows[ends - 1][number])
    values, number = values[inside].copy(), number[inside]
    lengths = np.bincount(number, minlength=len(lengths))
    time = None if time is None else time[torch.from_numpy(inside)]
    clock = np.arange(len(values), dtype=np.float64) if time is None else time.numpy()
    for channel in range(values.shape[1]):
        _interpolate(values[:, channel], number, clock)
    return values, lengths, time


def _interpolate(column: NDArray[Any], number: NDArray[np.int64], clock: NDArray[np.float64]) -> None:
    """Fill the NaN of one channel in place, where its series has an observation.

    Between observations at times a and b: x(t) = x(a) (1 - s) + x(b) s with s = (t - a) / (b - a).
    """
    gaps = np.isnan(column)
    row = np.arange(len(column))
    before = np.maximum.accumulate(np.where(gaps, -1, row))
    after = np.minimum.accumulate(np.where(gaps, len(row), row)[::-1])[::-1]
    has_before = (before >= 0) & (number[before] == number)
    has_after = (after < len(row)) & (number[np.minimum(after, len(row) - 1)] == number)
    fill = gaps & (has_before | has_after)
    left, right = np.where(has_before, before, after)[fill], np.where(has_after, after, before)[fill]
    span = clock[right] - clock[left]
    share = np.divide(clock[fill] - clock[left], span, out=np.zeros(len(span)), where=span > 0)
    column[fill] = column[left] * (1 - share) + column[right] * share


def check_binary(batch: SequenceBatch) -> None:
    """Raise ValueError if a value is neither 0 nor 1."""
    odd = torch.nonzero((batch.values != 0) & (batch.values != 1))
    if len(odd):
        row, channel = odd[0].tolist()
        series = int(torch.searchsorted(batch.lengths.cumsum(0), row, right=True))
        raise ValueError(
            f"X must be binary, 0 or 1, but holds {float(batch.values[row, channel]):g} in channel {channel} of series "
            f"{series}. For rolls with velocities, pass X > 0."
        )


def as_labels(y: Any, n: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Validate class labels, one for each of n series; return the classes and the number of each label's class."""
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    y = column_or_1d(y, warn=True)
    if len(y) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n} series, y {len(y)} labels."
        )
    try:
        classes, codes = np.unique(y, return_inverse=True)
        check_classification_targets(y)
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in y.tolist()}))
        raise TypeError(
            f"Labels y must be all strings or all numbers, without None or NaN, but their types are {kinds}."
        ) from error
    return classes, codes


def as_codes(y: Any, n: int, known: NDArray[Any]) -> NDArray[np.int64]:
    """Validate class labels, one for each of n series; return the number of each label's class."""
    return codes_among(*as_labels(y, n), known)


def codes_among(present: NDArray[Any], codes: NDArray[np.int64], known: NDArray[Any]) -> NDArray[np.int64]:
    """Return the numbers of labels among known classes, from those among the classes that are present."""
    unknown = np.setdiff1d(present, known)
    if len(unknown):
        raise ValueError(f"y has the labels {unknown}, which are not among the classes {known}.")
    numbers: NDArray[np.int64] = np.searchsorted(known, present)[codes]
    return numbers


def as_step_labels(y: Any, batch: SequenceBatch) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Validate labels, one for each step of each series; return the classes and the numbers of the classes, flat."""
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    if not hasattr(y, "__iter__") or isinstance(y, str):
        raise TypeError(f"y must be an array (n, T) or a list of arrays (T_i,) of labels, but is a {type(y).__name__}.")
    y = [np.asarray(labels) for labels in (np.asarray(y) if hasattr(y, "iloc") else y)]
    if len(y) != len(batch):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {len(batch)} series, y {len(y)}."
        )
    for number, (labels, length) in enumerate(zip(y, batch.lengths.tolist(), strict=True)):
        if labels.shape != (length,):
            raise ValueError(
                f"Series {number} has {length} steps, but its labels have shape {labels.shape}. Give y as one array "
                "per series, with one label per step."
            )
    if len({labels.dtype.kind in "US" for labels in y}) > 1:  # NumPy would convert numbers to strings
        y = [labels.astype(object) for labels in y]
    return as_labels(np.concatenate(y), sum(map(len, y)))


def known_classes(classes: Any, known: NDArray[Any] | None) -> NDArray[Any]:
    """Return the classes of ``partial_fit``: the known classes or, at the first call, the given ones."""
    if classes is None:
        if known is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return known
    given: NDArray[Any] = np.unique(np.asarray(classes))
    if known is not None and not np.array_equal(known, given):
        raise ValueError(f"classes={classes!r} is not the same as on the last call, {known!r}.")
    return given


def as_numbers(y: Any, n: int) -> tuple[NDArray[np.float64], int]:
    """Validate regression targets, (n,) or (n, targets); return them as (n, targets), and their original ndim."""
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    if isinstance(y, Tensor):
        y = _as_array(y, "y")
    dtype = np.asarray(y).dtype if isinstance(y, list | tuple) else getattr(y, "dtype", np.dtype(float))
    if dtype.kind in "mMV":
        raise ValueError(f"y must hold numbers, but holds {dtype}. Convert times, as to seconds since the first.")
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if len(y) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n} series, y {len(y)} targets."
        )
    check_squares("y", y)
    return np.array(y.reshape(n, -1)), y.ndim  # a copy, because y may be a read-only memory map


def as_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64] | None:
    """Return sample weights, scaled so that the greatest lies between 1/2 and 1, or None.

    Only ratios count. Scaling prevents very small or large weights from vanishing in single precision. Raise ValueError
    unless weights are n non-negative numbers, not all zero.
    """
    if sample_weight is None:
        return None
    weights: NDArray[np.float64] = np.array(
        _check_sample_weight(sample_weight, np.empty((n, 1)), dtype=np.float64, ensure_non_negative=True)
    )
    if not np.isfinite(weights).all():  # scikit-learn does not check a single number
        raise ValueError(f"sample_weight must be finite, but is {sample_weight!r}.")
    if not weights.any():
        raise ValueError("All entries of sample_weight are zero; at least one must be positive.")
    exact: NDArray[np.float64] = np.ldexp(weights, -np.frexp(weights.max())[1])
    return exact


def class_weights(
    class_weight: Any, classes: NDArray[Any], codes: NDArray[np.int64], sample_weight: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the weight of each series by its class, as :func:`sklearn.utils.class_weight.compute_class_weight`."""
    present, inverse = np.unique(codes, return_inverse=True)
    if isinstance(class_weight, dict):  # may omit classes, and name classes that these series lack
        per_class = compute_class_weight(class_weight, classes=classes, y=classes[codes])[present]
    else:  # "balanced": scikit-learn < 1.9 would leave out sample_weight
        weight_of = np.bincount(inverse, weights=sample_weight)
        per_class = weight_of.sum() / (len(present) * weight_of)
    if not (np.isfinite(per_class).all() and (per_class >= 0).all() and per_class.any()):
        raise ValueError(f"class_weight must give non-negative numbers, not all zero, but gives {per_class.tolist()}.")
    return np.asarray(per_class, dtype=np.float64)[inverse]
