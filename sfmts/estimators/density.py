"""SFMDensity."""

import os
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import DensityMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sfmts._batch import SequenceBatch, moments, unbatch
from sfmts._compat import with_callbacks
from sfmts._precision import own_precision
from sfmts._random import new_random_state
from sfmts._validation import check_binary
from sfmts.estimators._base import SequenceEstimator, fitting
from sfmts.estimators._callbacks import CallbackWatcher
from sfmts.estimators._parameters import documented, store_parameters
from sfmts.heads import HEADS, DensityHead, density_head
from sfmts.model import SequenceModel
from sfmts.networks.base import network_options


def _has_logits(estimator: "SFMDensity") -> bool:
    """Return True if the head has logits of single channels, otherwise raise an AttributeError."""
    options = getattr(estimator, "_module_options", None)  # a fitted model keeps its head
    head = estimator.head if options is None else options["head"]
    if head not in HEADS:
        raise AttributeError(f"head={head!r} has no logits of single channels; use head='linear'.")
    return True


@documented("density")
class SFMDensity(DensityMixin, SequenceEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Density of binary sequences, such as piano-rolls: each frame given all frames before it.

    The defaults are a recipe for small collections of music: a high learning rate that falls to 0 within few epochs,
    and dropout, without which the network memorises the collection. The width ``n_outputs`` of the SFM's output is the
    number of channels unless ``network_params`` sets it.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_, n_channels_in_, n_iter_, loss_curve_, validation_scores_, history_, n_parameters_, device_, backend_
        As in :class:`SFMClassifier`. Losses and validation scores are nats per frame.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, "Modeling Temporal Dependencies in High-Dimensional Sequences",
    ICML 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMDensity
    >>> X = [np.tile(np.eye(3), (4, 1)) for _ in range(20)]  # the channels take turns
    >>> model = SFMDensity(n_states=8, max_iter=60, random_state=0).fit(X)
    >>> model.score(X) > -0.5  # nats per frame; three fair coins are at -2.08
    True
    >>> int(model.predict_proba(X[:1])[0][0].argmax())  # after the first channel the second
    1
    """

    _network_defaults: ClassVar[dict[str, Any]] = {"init": "modern", "recurrent_dropout": 0.4}

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 64,
        n_frequencies: int = 4,
        n_layers: int | None = None,
        dropout: float = 0.2,
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        n_hidden: int = 150,
        optimizer: str = "adam",
        optimizer_params: dict[str, Any] | None = None,
        learning_rate_init: float = 0.025,
        max_iter: int = 30,
        batch_size: int | str = 16,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        layout: str = "ntc",
    ) -> None:
        store_parameters(self, locals())

    @with_callbacks
    def fit(self, X: Any, y: None = None, *, X_val: Any = None) -> Self:
        """Train to predict each frame from the frames before it.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C) or (n, T)
            Binary frames. Series of a single frame are left out.
        y : ignored
            Not used.
        X_val : array or list of arrays, optional
            Frames to validate on instead of a part of X. Training then stops early, as with ``early_stopping=True``,
            and keeps the weights of the best epoch.

        Returns
        -------
        self : SFMDensity
            The fitted estimator. An interrupt (Ctrl-C) ends training and keeps what has been learned so far.

        Raises
        ------
        ValueError, TypeError
            If X or a parameter is invalid. A previous fit is kept.
        """
        self._validate_params()
        watcher = CallbackWatcher(self, X, None, None, self.max_iter)
        with fitting(self):
            continued = self.warm_start and hasattr(self, "module_")
            data, _ = self._next_frames(self._binary_batch(X, reset=not continued))
            valid = self._validation_batch(X_val, None, needs_y=False)
            if valid is not None:
                check_binary(valid)
                valid, _ = self._next_frames(valid)
            with self._resumable(data, continued=continued, valid=valid):
                self._fit_batch(data, watcher, continued=continued, valid=valid)
        watcher.ended()
        return self

    def _binary_batch(self, X: Any, reset: bool) -> SequenceBatch:
        batch = self._batch(X, reset=reset)
        check_binary(batch)
        return batch

    @staticmethod
    def _next_frames(batch: SequenceBatch) -> tuple[SequenceBatch, NDArray[np.int64]]:
        """Return all frames except the last of each series, with the next frames as targets, and the series used."""
        long = np.flatnonzero(batch.lengths > 1)
        if len(long) == 0:
            raise ValueError("X holds no series of two or more frames; at least one must have a next frame.")
        batch = batch.take(torch.from_numpy(long))
        first = torch.zeros(len(batch.values), dtype=torch.bool)
        last = torch.zeros_like(first)
        ends = batch.lengths.cumsum(0)
        first[ends - batch.lengths], last[ends - 1] = True, True
        data = replace(
            batch,
            values=batch.values[~last],
            lengths=batch.lengths - 1,
            target=batch.values[~first],
            target_per_step=True,
        )
        return data, long

    def _channel_scaling(self, train: SequenceBatch) -> tuple[None, None]:
        return None, None  # frames are 0 and 1

    def _current_options(self) -> dict[str, Any]:
        options = super()._current_options()
        own = options["network_params"]
        if own.get("n_outputs") is None and "n_outputs" in network_options(options["network"]):
            own["n_outputs"] = self.n_channels_in_
        return options

    def _n_logits(self) -> int:
        return self.n_channels_in_

    def _make_head(
        self, kind: str, in_features: int, generator: torch.Generator | None, train: SequenceBatch | None
    ) -> DensityHead:
        rates = None
        if train is not None:
            assert train.target is not None
            counts = moments(train.target, train.weight)[0] * len(train.target)
            rates = (counts + 0.5) / (len(train.target) + 1.0)  # no rate of 0 or 1
        return density_head(kind, in_features, self.n_channels_in_, self._n_hidden, generator, rates)

    def _build_module(self, options: dict[str, Any], *arguments: Any) -> SequenceModel:
        self._n_hidden = options["n_hidden"]  # that of the model; the parameter may have changed since
        model = super()._build_module(options, *arguments)
        if not model.network.causal:
            raise ValueError(
                f"network={self.network!r} reads what comes after a frame, so it cannot predict that frame. Use a "
                "causal network, such as 'sfm', 'lstm' or 'gru'."
            )
        return model

    # -- after training

    @own_precision()
    def score_samples(self, X: Any) -> NDArray[Any]:
        """Return the log-likelihood of each series: the sum over its frames from the second on.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            Binary frames.

        Returns
        -------
        log_likelihood : ndarray of shape (n,)
            In nats; 0 for a series of a single frame. The mean over all frames is :meth:`score`.
        """
        check_is_fitted(self)
        batch = self._binary_batch(X, reset=False)
        result = np.zeros(len(batch))
        if bool((batch.lengths > 1).any()):
            data, long = self._next_frames(batch)
            starts = (data.lengths.cumsum(0) - data.lengths).numpy()
            result[long] = np.add.reduceat(self._frame_log_likelihoods(data), starts)
        return result

    @own_precision()
    def score(self, X: Any, y: None = None) -> float:
        """Return the mean log-likelihood of a frame, over the frames from the second on.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            Binary frames.
        y : ignored
            Not used.

        Returns
        -------
        score : float
            In nats per frame, over the flat list of all frames. Greater is better.
        """
        check_is_fitted(self)
        data, _ = self._next_frames(self._binary_batch(X, reset=False))
        return float(self._frame_log_likelihoods(data).mean())

    @available_if(_has_logits)
    @own_precision()
    def decision_function(self, X: Any) -> Any:
        """Return the logits of each channel in the next frame, after each frame.

        Only the heads "linear" and "none" have logits of single channels.
        :func:`sfmts.metrics.softmax_pressed_log_likelihood` scores them as the SFM authors' program does.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            Binary frames.

        Returns
        -------
        logits : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            ``logits[i][t]`` belongs to frame t + 1 and depends on the frames up to t.
        """
        check_is_fitted(self)
        batch = self._binary_batch(X, reset=False)
        return unbatch(batch, self._head.logits(self._outputs(batch)))

    def _frame_log_likelihoods(self, data: SequenceBatch) -> NDArray[Any]:
        assert data.target is not None
        output = self._outputs(data)
        with torch.no_grad():
            starts = (data.lengths.cumsum(0) - data.lengths).repeat_interleave(data.lengths)
            step = torch.arange(len(starts)) - starts
            result: NDArray[Any] = self._head.log_likelihood(output, data.target.to(output.dtype), step).numpy()
        return result

    @property
    def _head(self) -> DensityHead:
        head = self.module_.head
        assert isinstance(head, DensityHead)
        return head

    @own_precision()
    def predict_proba(self, X: Any) -> Any:
        """Return the probability that each channel is on in the next frame, after each frame.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            Binary frames.

        Returns
        -------
        p : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            ``p[i][t]`` belongs to frame t + 1 and depends on the frames up to t. With a joint head it is an estimate,
            the mean over 64 draws.
        """
        check_is_fitted(self)
        batch = self._batch(X, reset=False)
        check_binary(batch)
        with torch.no_grad():
            return unbatch(batch, self._head.probabilities(self._outputs(batch)))

    @own_precision()
    def sample(
        self, n_frames: int, prompt: Any = None, temperature: float = 1.0, random_state: Any = None
    ) -> NDArray[Any]:
        """Draw a continuation, frame by frame.

        Parameters
        ----------
        n_frames : int
            Number of frames to draw.
        prompt : array of shape (T, C), optional
            Frames to continue from; a silent frame by default.
        temperature : float, default=1.0
            Logits are divided by it; below 1, probable frames become more probable.
        random_state : int, RandomState instance or None, default=None
            Seed; None is a new one.

        Returns
        -------
        frames : ndarray of shape (n_frames, C)
            Zeros and ones, without the prompt.

        Raises
        ------
        ValueError
            If an argument is invalid.
        """
        check_is_fitted(self)
        if not isinstance(n_frames, Integral):
            raise TypeError(f"n_frames must be a whole number, not {n_frames!r}.")
        if n_frames < 1:
            raise ValueError(f"n_frames must be at least 1, not {n_frames}.")
        if not isinstance(temperature, Real):
            raise TypeError(f"temperature must be a number, not {temperature!r}.")
        if not temperature > 0:
            raise ValueError(
                f"temperature must be positive, not {temperature}; near 0 the most probable frame is drawn."
            )
        if prompt is None:
            silence = np.zeros((1, self.n_channels_in_))
            prompt = silence.T if self.layout == "nct" else silence
        batch = self._binary_batch([np.asarray(prompt)], reset=False)
        seed = int(new_random_state(random_state).randint(2**31 - 1))
        model = self._placed_module().eval()
        parameter = next(model.parameters())
        generator = torch.Generator(parameter.device).manual_seed(seed)
        return self._continue(model, batch.values[None].to(parameter), n_frames, temperature, generator)

    @torch.no_grad()
    def _continue(
        self, model: SequenceModel, x: Tensor, n_frames: int, temperature: float, generator: torch.Generator
    ) -> NDArray[Any]:
        frames, state = [], None
        for _ in range(n_frames):
            output = model.network(x, state=state)
            state = output.state
            drawn = self._head.sample(self._head(output.final), generator, temperature)
            frames.append(drawn)
            # a network without a state to continue from reads everything again
            x = drawn[None] if state is not None else torch.cat([x, drawn[None]], dim=1)
        result: NDArray[Any] = torch.cat(frames).cpu().numpy()
        return result
