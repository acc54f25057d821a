"""SFMDensity."""

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import DensityMixin
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sfmts._precision import own_precision
from sfmts.batch import SequenceBatch, check_binary, moments, unbatch
from sfmts.estimators._base import CallbackWatcher, SequenceEstimator, fitting, new_random_state
from sfmts.heads import DENSITY_HEADS, DensityHead, SequenceModel, density_head
from sfmts.metrics import softmax_pressed_log_likelihood

METRICS = ("bernoulli", "softmax_pressed")


class SFMDensity(DensityMixin, SequenceEstimator):
    """Density of binary sequences, such as piano-rolls: each frame given all frames before it.

    Parameters
    ----------
    network : str, default="sfm"
        Name of a network that reads forwards only, see :func:`sfmts.networks.network_names`.
    n_states : int, default=64
        D of the SFM, the hidden width of other networks.
    n_outputs : int or None, default=None
        M, the width of z; None stands for as many as channels, as in the paper.
    n_frequencies, frequencies, time, phase, n_layers
        The network, with the defaults of :class:`SFMClassifier`; time is the index.
    dropout : float, default=0.2
        Share of the network's output that is dropped before the head in training.
    recurrent_dropout : float, default=0.4
        Share of the fed-back output that is dropped in training, one mask for a whole series.  Without it the network
        learns small collections by heart.
    init : {"modern", "chrono", "paper", "authors"}, default="modern"
        Start of the weights, see :class:`sfmts.networks.SFM`.
    network_params : dict or None, default=None
        Further options of the network, as in :class:`SFMClassifier`.
    head : {"linear", "none", "nade", "rbm"}, default="linear"
        How the channels of a frame depend on one another: not at all, given the past ("linear", or "none" with z
        itself as logits); one after the other ("nade", exact joint log-likelihood, RNN-NADE); or through a restricted
        Boltzmann machine ("rbm", RNN-RBM, whose log-likelihood is an estimate).
    n_hidden : int, default=150
        Hidden units of a joint head, as many as in the paper that introduced them.
    metric : {"bernoulli", "softmax_pressed"}, default="bernoulli"
        What :meth:`score` tells: the mean log-likelihood of a frame, or what the SFM authors' program scores, see
        :func:`sfmts.metrics.softmax_pressed_log_likelihood`, which is no likelihood.
    learning_rate_init : float, default=0.025
        Learning rate of the first update; with the next two a recipe for small collections of music, a high rate that
        falls to 0 within few epochs.
    max_iter : int, default=30
        Greatest number of epochs.
    batch_size : int, default=16
        Series in a mini-batch.
    optimizer, learning_rate, weight_decay, clip_norm
        Training, with the defaults of :class:`SFMClassifier`.
    early_stopping, validation_fraction, n_iter_no_change, tol, warm_start, random_state, verbose
        Its end, its start and its seed, with the defaults of :class:`SFMClassifier`.
    device, backend, memory, layout
        Where and how, with the defaults of :class:`SFMClassifier`.  For series of thousands of frames take
        ``memory="recompute"``.

    Attributes
    ----------
    module_, n_channels_in_, n_iter_, loss_curve_, validation_scores_, history_, n_parameters_, device_, backend_
        As in :class:`SFMClassifier`; losses and validation scores are nats per frame.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            key: value
            for key, value in SequenceEstimator._parameter_constraints.items()
            if key not in ("pooling", "standardize", "bidirectional", "time_channel")
        },
        "time": [StrOptions({"index"})],
        "head": [StrOptions(set(DENSITY_HEADS))],
        "n_hidden": [Interval(Integral, 1, None, closed="left")],
        "metric": [StrOptions(set(METRICS))],
    }
    # What is no choice here: frames are 0 and 1, and their future is what is to be predicted.
    standardize: ClassVar[bool] = False
    bidirectional: ClassVar[bool] = False
    time_channel: ClassVar[None] = None
    pooling: ClassVar[str] = "last"

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 64,
        n_frequencies: int = 4,
        n_outputs: int | None = None,
        frequencies: str = "fixed",
        time: str = "index",
        phase: str = "accumulated",
        n_layers: int = 1,
        dropout: float = 0.2,
        recurrent_dropout: float = 0.4,
        init: str = "modern",
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        n_hidden: int = 150,
        metric: str = "bernoulli",
        optimizer: str = "adam",
        learning_rate: str = "cosine",
        learning_rate_init: float = 0.025,
        max_iter: int = 30,
        batch_size: int = 16,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        backend: str = "auto",
        memory: str = "fast",
        layout: str = "ntc",
    ) -> None:
        self.network = network
        self.n_states = n_states
        self.n_frequencies = n_frequencies
        self.n_outputs = n_outputs
        self.frequencies = frequencies
        self.time = time
        self.phase = phase
        self.n_layers = n_layers
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.init = init
        self.network_params = network_params
        self.head = head
        self.n_hidden = n_hidden
        self.metric = metric
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.backend = backend
        self.memory = memory
        self.layout = layout

    @with_callbacks
    def fit(self, X: Any, y: None = None) -> Self:
        """Learn to predict each frame from those before it.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C) or (n, T)
            Binary frames.  Series of a single frame are left out.
        y : ignored

        Returns
        -------
        self : SFMDensity
            An interrupt (Ctrl-C) ends training and keeps what has been learned so far.

        Raises
        ------
        ValueError, TypeError
            If X or a parameter will not do.  An earlier fit stays usable.
        """
        self._validate_params()
        if self.metric == "softmax_pressed" and self.head in ("nade", "rbm"):
            raise ValueError(
                f"metric='softmax_pressed' asks for logits of single channels, which head={self.head!r} has not; take "
                "metric='bernoulli' or head='linear'."
            )
        watcher = CallbackWatcher(self, X, None, None, self.max_iter)
        with fitting(self):
            continued = self.warm_start and hasattr(self, "module_")
            data, _ = self._next_frames(self._binary_batch(X, reset=not continued))
            self._fit_batch(data, None, watcher, continued=continued)
        watcher.ended()
        return self

    def _binary_batch(self, X: Any, reset: bool) -> SequenceBatch:
        batch = self._batch(X, reset=reset)
        check_binary(batch)
        return batch

    @staticmethod
    def _next_frames(batch: SequenceBatch) -> tuple[SequenceBatch, NDArray[np.int64]]:
        """All frames but the last of each series, with the next frames as targets, and which series have two."""
        long = np.flatnonzero(batch.lengths > 1)
        if len(long) == 0:
            raise ValueError("X holds no series of two or more frames; there must be a next frame to predict.")
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

    def _current_options(self) -> dict[str, Any]:
        options = {**super()._current_options(), "n_hidden": self.n_hidden}
        if options["n_outputs"] is None:
            options["n_outputs"] = self.n_channels_in_
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
        self._n_hidden = options["n_hidden"]  # of the model that is there, whatever the parameter is by now
        model = super()._build_module(options, *arguments)
        if not model.network.causal:
            raise ValueError(
                f"network={self.network!r} reads what comes after a frame, so it cannot predict that frame; take a "
                "causal one, such as 'sfm', 'lstm' or 'gru'."
            )
        return model

    # -- after training

    @own_precision()
    def score_samples(self, X: Any) -> NDArray[Any]:
        """Log-likelihood of each series: the sum over its frames from the second on.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)

        Returns
        -------
        log_likelihood : ndarray of shape (n,)
            In nats; 0 for a series of a single frame.  The average over all frames is :meth:`score`.
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
        """Mean log-likelihood of a frame, or what else ``metric`` says, over the frames from the second on.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
        y : ignored

        Returns
        -------
        score : float
            Nats per frame, over the flat list of all frames; with ``metric="softmax_pressed"``, as in the authors'
            program, the mean over the frames of each series, then over series.  Greater is better.
        """
        check_is_fitted(self)
        data, _ = self._next_frames(self._binary_batch(X, reset=False))
        if self.metric == "bernoulli":
            return float(self._frame_log_likelihoods(data).mean())
        logits = self._head.logits(self._outputs(data))
        assert data.target is not None
        bounds = data.lengths.cumsum(0)[:-1].numpy()
        return softmax_pressed_log_likelihood(np.split(data.target.numpy(), bounds), np.split(logits.numpy(), bounds))

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
        """That each channel is on in the next frame, after each frame.

        Parameters
        ----------
        X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)

        Returns
        -------
        p : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
            ``p[i][t]`` belongs to frame t + 1 and knows the frames up to t.  Of a joint head it is an estimate, the
            mean over 64 draws.
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
            How many frames to draw.
        prompt : array of shape (T, C), optional
            Frames to go on from; a silent frame by default.
        temperature : float, default=1.0
            Logits are divided by it: below 1 the likely becomes likelier.
        random_state : int, RandomState instance or None, default=None
            Seed; None draws a fresh one.

        Returns
        -------
        frames : ndarray of shape (n_frames, C)
            Of zeros and ones, without the prompt.

        Raises
        ------
        ValueError
            If an argument will not do.
        """
        check_is_fitted(self)
        if not isinstance(n_frames, Integral):
            raise TypeError(f"n_frames must be a whole number, not {n_frames!r}.")
        if n_frames < 1:
            raise ValueError(f"n_frames must be at least 1, not {n_frames}.")
        if not isinstance(temperature, Real):
            raise TypeError(f"temperature must be a number, not {temperature!r}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}; near 0 the likeliest frame is drawn.")
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
            # a network without a state to go on from reads everything again
            x = drawn[None] if state is not None else torch.cat([x, drawn[None]], dim=1)
        result: NDArray[Any] = torch.cat(frames).cpu().numpy()
        return result
