"""SFMClassifier."""

from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from sfmts._precision import own_precision
from sfmts.batch import SequenceBatch, as_codes, as_labels, as_weights, class_weights, known_classes
from sfmts.estimators._base import CallbackWatcher, SequenceEstimator, fitting
from sfmts.heads import ClassificationHead


class SFMClassifier(ClassifierMixin, SequenceEstimator):
    """Classify whole series with a State-Frequency Memory network, or with a rival of it.

    On the CPU the network has the precision of X, so that float32 series train faster than float64 ones.  On a GPU it
    always has float32.

    Parameters
    ----------
    network : str, default="sfm"
        Name of a network, see :func:`sfmts.networks.network_names`.  What it does not know, such as frequencies, is
        left aside, so that a grid search over networks compares them under one protocol.  Several layers or two
        directions of a network that has none are an error, though, and so is ``time="normalized"`` of one that knows
        time stamps alone.  Where time drives nothing in a network, time stamps are a channel like others.
    n_states : int, default=32
        D of the SFM, the hidden width of other networks.
    n_frequencies : int, default=4
        K, the number of frequency components of each state.
    n_outputs : int or None, default=None
        M, the width of z: what the SFM's gates read of the past and what the head reads.  None stands for as many as
        states or, with ``head="none"``, as logits.
    frequencies : {"fixed", "learned", "adaptive"}, default="fixed"
        2 pi k / K; learned, starting there; or set by the input at each step (A-SFM, Eq. 16 of the paper).  Other
        sets than 2 pi k / K by ``network_params={"spacing": "log"}``, see :class:`sfmts.networks.SFM`.
    time : {"index", "normalized", "timestamps"}, default="index"
        What t is in the phase omega t: 1, 2, 3, ...; the step over the length of its series; or real time stamps.
    time_channel : int or None, default=None
        The channel of X that holds time stamps, for ``time="timestamps"``.  It stays an input, too.
    phase : {"accumulated", "product"}, default="accumulated"
        For adaptive frequencies: the sum of omega_t (t - t_previous), or omega_t t as printed in the paper, where a
        change of omega moves the phase by t times as much: faithful, but it trains badly.
    n_layers : int, default=1
        Stacked layers.
    bidirectional : bool, default=False
        Read each series in both directions.
    dropout : float, default=0.0
        Share of the pooled state that is dropped before the head in training.
    recurrent_dropout : float, default=0.0
        Share of the fed-back output that is dropped in training, one mask for a whole series.
    init : {"modern", "chrono", "paper", "authors"}, default="chrono"
        Start of the weights, see :class:`sfmts.networks.SFM`.  "chrono" spreads memories over the longest series of
        the training set; without it some seeds, or all, stay near chance on long series.
    network_params : dict or None, default=None
        Further options, those that only this network has, such as ``{"full": True}`` for
        ``network="clockwork_rnn"``.  A key that the network does not take is an error.
    head : {"linear", "none"}, default="linear"
        A linear layer on top, or z itself as logits, as in the authors' program.
    pooling : {"last", "mean"}, default="last"
        What the head reads: the state after the last step, or the mean over all steps.
    standardize : bool, default=True
        Shift and scale each channel to mean 0 and variance 1 over the training set.  Without it large values, such as
        time stamps, saturate the gates.
    optimizer : {"adam", "sgd", "rmsprop", "adadelta"}, default="adam"
        "sgd" has Nesterov momentum 0.9, "adadelta" the decay .95 of the paper.
    learning_rate : {"constant", "cosine"}, default="cosine"
        "cosine" falls to 0 within ``max_iter`` epochs.
    learning_rate_init : float, default=0.01
        Learning rate of the first update.
    max_iter : int, default=100
        Greatest number of epochs.
    batch_size : int, default=32
        Series in a mini-batch.  Batch mates are chosen at random among series of similar length.
    weight_decay : float, default=0.0
        Decay of the weights.
    clip_norm : float or None, default=1.0
        Greatest norm of a gradient; longer ones are scaled down to it.
    early_stopping : bool, default=False
        Set a share of the training set aside, stop when its score and loss do not improve, and keep the weights of
        the best epoch.
    validation_fraction : float, default=0.1
        The share, stratified by class.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training ends.  With ``learning_rate="cosine"`` and without
        ``early_stopping`` only epochs whose loss is below ``tol`` count, since the falling rate leads out of a plateau.
    tol : float, default=1e-4
        What counts as an improvement of the training loss or, with ``early_stopping``, of the validation score or loss.
    class_weight : dict, "balanced" or None, default=None
        As in :class:`sklearn.linear_model.LogisticRegression`.
    warm_start : bool, default=False
        Let the next ``fit`` go on from where this one ended, with the same network.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, order of batches, dropout and validation split.  None draws a fresh one, without regard
        to ``numpy.random.seed``.
    verbose : int, default=0
        Show a progress bar with the time left.
    device : str, default="auto"
        "auto" (a CUDA device if there is one), "cpu", "cuda" or "cuda:1".
    backend : {"auto", "reference", "fused", "native", "cuda"}, default="auto"
        Kernel of the SFM and, but for "cuda", of the resonator; other networks leave it aside.  "auto" takes the
        compiled one on the CPU ("native") and elsewhere "fused", in PyTorch alone.  "cuda", for NVIDIA GPUs, has been
        tested as a C++ program only, not yet on a GPU.
    memory : {"fast", "recompute"}, default="fast"
        What the SFM keeps of a training step.  "recompute" is for long series: it keeps the states of about sqrt(T)
        of the T steps and computes the rest a second time, at up to a quarter more time.  Other networks leave it
        aside.
    layout : {"ntc", "nct"}, default="ntc"
        Order of the axes of three-dimensional X: (series, time, channels) or, as in sktime, (series, channels, time).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    module_ : torch.nn.Module
        The trained network with scaling and head.
    n_channels_in_ : int
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.
    n_iter_ : int
        Epochs trained.
    loss_curve_ : list of float
        Training loss after each epoch.
    validation_scores_ : list of float or None
        Accuracy on the validation set after each epoch.
    history_ : dict
        The above, validation losses, learning rates, number of updates, and why training stopped.
    n_parameters_ : int
        Trainable parameters of network and head.
    device_ : str
    backend_ : str
        The kernel that was at work.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> from sfmts import SFMClassifier
    >>> from sfmts.datasets import make_waves
    >>> X, y = make_waves(60, n_steps=30, variant="released", random_state=0)
    >>> model = SFMClassifier(n_states=8, max_iter=15, random_state=0).fit(X, y)
    >>> model.predict(X[:2]).shape
    (2,)
    >>> model.state_amplitudes(X[:2]).shape
    (2, 30, 8, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SequenceEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    classes_: NDArray[Any]

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_outputs: int | None = None,
        frequencies: str = "fixed",
        time: str = "index",
        time_channel: int | None = None,
        phase: str = "accumulated",
        n_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "chrono",
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        pooling: str = "last",
        standardize: bool = True,
        optimizer: str = "adam",
        learning_rate: str = "cosine",
        learning_rate_init: float = 0.01,
        max_iter: int = 100,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None,
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
        self.time_channel = time_channel
        self.phase = phase
        self.n_layers = n_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.init = init
        self.network_params = network_params
        self.head = head
        self.pooling = pooling
        self.standardize = standardize
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
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.backend = backend
        self.memory = memory
        self.layout = layout

    @with_callbacks
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on labelled series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
        y : array-like of shape (n,)
            Labels: numbers or strings.
        sample_weight : array-like of shape (n,), optional
            How much each series counts; 0 is as if it were not there.

        Returns
        -------
        self : SFMClassifier
            An interrupt (Ctrl-C) ends training and keeps what has been learned so far.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter will not do.  An earlier fit stays usable.
        """
        self._validate_params()
        watcher = CallbackWatcher(self, X, y, sample_weight, self.max_iter)
        with fitting(self):
            continued = self.warm_start and hasattr(self, "module_")
            batch = self._batch(X, reset=not continued)
            classes, codes = as_labels(y, len(batch))
            if continued and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"warm_start=True needs the classes of the last fit, {self.classes_}; y has {classes}."
                )
            self.classes_ = classes
            self._fit_codes(batch, codes, sample_weight, watcher, continued=continued)
        watcher.ended()
        return self

    @with_callbacks
    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on a part of the data.

        The channels' means and scales are those of the first part.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
        y : array-like of shape (n,)
        classes : array-like, optional
            All classes; needed at the first call.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self : SFMClassifier
        """
        self._validate_params()
        watcher = CallbackWatcher(self, X, y, sample_weight, 1)
        with fitting(self):
            continued = hasattr(self, "module_")
            known = known_classes(classes, self.classes_ if continued else None)
            batch = self._batch(X, reset=not continued)
            codes = as_codes(y, len(batch), known)
            self.classes_ = known
            self._fit_codes(batch, codes, sample_weight, watcher, continued=continued, epochs=1)
        watcher.ended()
        return self

    def _fit_codes(
        self,
        batch: SequenceBatch,
        codes: NDArray[np.int64],
        sample_weight: ArrayLike | None,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None = None,
    ) -> None:
        """Weigh the series by their classes, and train."""
        weights = as_weights(sample_weight, len(batch))
        if self.class_weight is not None:
            used = np.arange(len(batch)) if weights is None else np.flatnonzero(weights)
            weights = np.ones(len(batch)) if weights is None else weights
            weights[used] *= class_weights(self.class_weight, self.classes_, codes[used], weights[used])
        data = replace(batch, target=torch.from_numpy(codes))
        self._fit_batch(data, weights, watcher, continued=continued, epochs=epochs, stratify=codes)

    def _n_logits(self) -> int:
        return ClassificationHead.logits_for(len(self.classes_))

    def _make_head(
        self, kind: str, in_features: int, generator: torch.Generator | None, train: SequenceBatch | None
    ) -> ClassificationHead:
        return ClassificationHead(in_features, len(self.classes_), kind, generator)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)

        Returns
        -------
        y : ndarray of shape (n,)
        """
        best = self.predict_log_proba(X).argmax(axis=1)
        classes: NDArray[Any] = self.classes_[best]
        return classes

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)

        Returns
        -------
        p : ndarray of shape (n, n_classes)
        """
        return np.exp(self.predict_log_proba(X))

    @own_precision()
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithm of :meth:`predict_proba`, exact where a probability is tiny.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)

        Returns
        -------
        log_p : ndarray of shape (n, n_classes)
        """
        check_is_fitted(self)
        head = self.module_.head
        assert isinstance(head, ClassificationHead)
        log_p: NDArray[Any] = head.log_probabilities(self._outputs(self._batch(X, reset=False))).numpy()
        return log_p

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Logits.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)

        Returns
        -------
        logits : ndarray of shape (n,) for two classes, positive for the second; else (n, n_classes)
        """
        check_is_fitted(self)
        logits = self._outputs(self._batch(X, reset=False)).numpy()
        return logits[:, 0] if len(self.classes_) == 2 else logits
