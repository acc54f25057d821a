"""Standardization of the channels of series."""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sfmts._batch import SequenceBatch, channel_scale, channel_statistics, unbatch
from sfmts._validation import LAYOUTS, as_batch, as_weights
from sfmts.estimators._base import SavedEstimator, check_file_attributes, fitting


def _has_columns(scaler: "PanelScaler") -> bool:
    """Return whether X is two-dimensional or unknown; raise AttributeError otherwise."""
    if hasattr(scaler, "n_channels_in_") and not hasattr(scaler, "n_features_in_"):
        raise AttributeError("Only two-dimensional X has columns with names.")
    return True


class PanelScaler(OneToOneFeatureMixin, TransformerMixin, SavedEstimator):
    """Shift and scale each channel of series to mean 0 and variance 1.

    This is :class:`sklearn.preprocessing.StandardScaler` for series. Mean and variance of a channel are taken over all
    steps of all series, so that the shape of each series is kept. A two-dimensional X has one channel.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether to shift.
    with_std : bool, default=True
        Whether to scale.
    layout : {"ntc", "nct"}, default="ntc"
        Order of the axes of three-dimensional X: (series, time, channels) or (series, channels, time).

    Attributes
    ----------
    mean_, var_, scale_ : ndarray of shape (n_channels,)
        Mean, variance and standard deviation of each channel. ``scale_`` is 1 for a constant channel.
    n_channels_in_ : int
        Number of channels.
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import PanelScaler
    >>> X = [np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 5.0]])]
    >>> PanelScaler().fit(X).mean_
    array([2., 5.])
    >>> PanelScaler(with_std=False).fit_transform(X)[1]
    array([[2., 0.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "with_mean": ["boolean"],
        "with_std": ["boolean"],
        "layout": [StrOptions(set(LAYOUTS))],
    }

    mean_: NDArray[np.float64]
    var_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    n_channels_in_: int

    def __init__(self, *, with_mean: bool = True, with_std: bool = True, layout: str = "ntc") -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.layout = layout

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Compute mean and variance of each channel.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Series.
        y : object, default=None
            Ignored; present for scikit-learn's interface.
        sample_weight : array-like of shape (n,), optional
            Weight of each series.

        Returns
        -------
        self : PanelScaler
            The fitted scaler.

        Raises
        ------
        ValueError, TypeError
            If X, a weight or a parameter is invalid. A previous fit is kept.
        """
        self._validate_params()
        with fitting(self):
            batch = as_batch(X, self, reset=True, layout=self.layout)
            weights = as_weights(sample_weight, len(batch))
            if weights is not None:
                batch = SequenceBatch(batch.values, batch.lengths, weight=torch.from_numpy(weights))
            mean, variance = channel_statistics(batch)
            self.mean_, self.var_ = mean.numpy(), variance.numpy()
            self.scale_ = channel_scale(mean, variance).numpy()
        return self

    def transform(self, X: Any) -> Any:
        """Shift and scale series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Series.

        Returns
        -------
        X : array or list of arrays
            Result in the format of the input.
        """
        shift, scale = self._shift_and_scale()
        return self._apply(X, lambda values: (values - shift.to(values)) / scale.to(values))

    def inverse_transform(self, X: Any) -> Any:
        """Undo :meth:`transform`.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Transformed series.

        Returns
        -------
        X : array or list of arrays
            Result in the format of the input.
        """
        shift, scale = self._shift_and_scale()
        return self._apply(X, lambda values: values * scale.to(values) + shift.to(values))

    @available_if(_has_columns)
    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the output columns of a two-dimensional X, which are those of the input.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names to use if X had none in ``fit``.

        Returns
        -------
        names : ndarray of str
            Names of the columns.
        """
        return super().get_feature_names_out(input_features)

    def _shift_and_scale(self) -> tuple[Tensor, Tensor]:
        check_is_fitted(self)
        # copies, because the attributes may be read-only memory maps
        mean, scale = torch.tensor(self.mean_), torch.tensor(self.scale_)
        return mean if self.with_mean else mean * 0, scale if self.with_std else scale * 0 + 1

    def _apply(self, X: Any, change: Any) -> Any:
        batch = as_batch(X, self, reset=False, layout=self.layout)
        values = change(batch.values)
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"X holds absolute values up to {float(batch.values.abs().max()):.3g}, which overflow "
                f"{batch.values.dtype} after scaling. Check X for fill values, or give it as float64."
            )
        result = unbatch(batch, values)
        if batch.form == "nt":
            return result[:, :, 0]
        if batch.form == "list" and np.ndim(next(iter(X))) == 1:
            return [series[:, 0] for series in result]
        if self.layout == "ntc":
            return result
        return [series.T for series in result] if batch.form == "list" else result.transpose(0, 2, 1)

    def _to_file(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}  # fitted attributes are all there is

    def _from_file(self, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._validate_params()
        check_file_attributes(self)
        for name in ("mean_", "var_", "scale_"):
            value = getattr(self, name)
            is_right = isinstance(value, np.ndarray) and value.shape == (self.n_channels_in_,) and value.dtype == float
            if not (is_right and np.isfinite(value).all() and (name == "mean_" or (value >= 0).all())):
                raise ValueError(f"its {name} is {value!r}, not a number for each of {self.n_channels_in_} channels")
        if not self.scale_.all():
            raise ValueError("its scale_ has zeros")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
