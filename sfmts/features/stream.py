"""Features of a series that arrives step by step, at constant cost and memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfmts.features.signal import LARGEST, SignalScale, check_duration, check_range
from sfmts.kernels.bank import Bank, native
from sfmts.kernels.bank.checks import check_bank

__all__ = ["FeatureStream"]


class FeatureStream:
    """Take one step of a series at a time, and return the features of what has come so far.

    Made by :meth:`sfmts.SFMFeatures.stream`.  The features are those that ``transform`` gives for the steps so far.
    Time and memory of a step do not depend on how many came before; only missing steps are kept until the next
    observation.

    Attributes
    ----------
    n_steps : int
        Number of steps so far, up to the last observation.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMFeatures
    >>> X = np.sin(np.arange(30) / np.array([[2.0], [3.0], [4.0]]))
    >>> model = SFMFeatures(n_features=560, directions="forward", random_state=0).fit(X)
    >>> stream = model.stream()
    >>> for value in X[0]:
    ...     stream.update(value)
    >>> bool(np.allclose(stream.features(), model.transform(X[:1])[0], atol=1e-5))
    True
    """

    def __init__(self, bank: Bank, scale: SignalScale) -> None:
        check_bank(bank)
        if bool((bank.direction < 0).any()):
            raise ValueError("A stream needs directions='forward': half of this bank reads series from their end.")
        if scale.kind != "train":
            raise ValueError(f"A stream needs scale='train', but scale={scale.kind!r} needs the whole series.")
        if (reason := native.missing()) is not None:
            raise RuntimeError(f"A stream needs the compiled kernel, but {reason}.")
        self._scale = scale
        self._mean, self._factor = scale.mean.numpy(), 1 / scale.scale.numpy()
        self._stream = native.BankStream(bank, scale.time_channel is not None)
        self._channels = len(self._mean) + (scale.time_channel is not None)
        self._last: NDArray[np.float64] | None = None
        self._last_time = -np.inf
        self._gap: list[float] = []  # time stamps of missing steps since the last observation
        self.n_steps = 0

    def update(self, step: Any) -> None:
        """Read one step.

        A step whose channels are all NaN is missing: only time passes, and the signal is interpolated at the next
        observation, as in ``transform``.

        Parameters
        ----------
        step : float or array-like of shape (n_channels,)
            The channels as in X, that of the time stamps included.

        Raises
        ------
        ValueError
            If the number of channels is wrong, a value is infinite, some channels of a step are missing and others not,
            or a time stamp does not increase.  The stream stays as it was.
        """
        x, time = self._check(step)
        if not np.abs(x).max() <= LARGEST:  # or NaN
            missing = np.isnan(x)
            check_range(np.abs(x[~missing]))
            if missing.all():
                if self._last is not None:
                    self._gap.append(time)
                return
            raise ValueError(
                f"Channel {int(missing.argmax())} of the step is NaN and others are not; give all channels or none: "
                "the value between two observations is known only when the second one comes."
            )
        if self._gap:
            self._catch_up(x, time)
        self._stream.update(x, time)
        self._last, self._last_time, self._gap = x, time, []
        self.n_steps += 1

    def features(self) -> NDArray[np.float32]:
        """Return the features of the steps so far.

        Returns
        -------
        features : ndarray of shape (n_features_out_,), float32
        """
        return self._current().copy()

    def _current(self) -> NDArray[np.float32]:
        """Return the features in memory that the next call writes to again."""
        if self._last is None:
            raise ValueError("The stream has read no observation yet; call update first.")
        features: NDArray[np.float32] = self._stream.features().numpy()
        return features

    def _check(self, step: Any) -> tuple[NDArray[np.float64], float]:
        """Return scaled channels and the time stamp of a step."""
        x = np.asarray(step, dtype=np.float64).reshape(-1)
        if len(x) != self._channels:
            raise ValueError(f"The step has {len(x)} channels, but the features were fitted with {self._channels}.")
        time, channel = 0.0, self._scale.time_channel
        if channel is not None:
            time, x = float(x[channel]) / self._scale.unit, np.delete(x, channel)
            before = self._gap[-1] if self._gap else self._last_time
            if not before < time < np.inf:
                time, before = time * self._scale.unit, before * self._scale.unit
                raise ValueError(f"Time stamps must be finite and increase, but {time:g} follows {before:g}.")
            if self._last is not None:
                check_duration(time - before)
        return (x - self._mean) * self._factor, time

    def _catch_up(self, x: NDArray[np.float64], time: float) -> None:
        """Read the missing steps since the last observation, on the line from there to here."""
        assert self._last is not None
        for number, stamp in enumerate(self._gap, start=1):
            if self._scale.time_channel is None:
                share = number / (len(self._gap) + 1)
            else:
                share = (stamp - self._last_time) / (time - self._last_time)
            self._stream.update(self._last * (1 - share) + x * share, stamp)
            self.n_steps += 1
