"""What all estimators share: parameters and their checks, device, training, prediction, pickling."""

import copy
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self, get_origin

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions, validate_parameter_constraints
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sfmts._precision import own_precision
from sfmts.batch import (
    LAYOUTS,
    SequenceBatch,
    as_batch,
    bounded_batches,
    channel_scale,
    channel_statistics,
    unbatch,
)
from sfmts.estimators import persistence
from sfmts.heads import HEADS, POOLINGS, Head, SequenceModel
from sfmts.kernels import BACKENDS, MEMORIES
from sfmts.networks.base import INITIALISATIONS, WithoutStorage, make_network, network_class, network_options
from sfmts.networks.sfm import FREQUENCIES, PHASES
from sfmts.training import LEARNING_RATES, OPTIMIZERS, History, Trainer, TrainingSettings, outputs

_PREDICTION_BATCH = 256
_FREE_SIZE = 10_000  # of options of a file, however small the file is
_DEEPEST = 8  # levels of lists and dictionaries in which a parameter holds numbers
_MODEL_OPTIONS = ("network_params", "head", "pooling", "dropout", "time_channel", "standardize")
_NETWORK_OPTIONS = (
    "network",
    "n_states",
    "n_frequencies",
    "n_outputs",
    "frequencies",
    "time",
    "phase",
    "n_layers",
    "bidirectional",
    "recurrent_dropout",
    "init",
    "backend",
    "memory",
)
_SET_BY_FIT = ("max_length", "generator")  # options of networks, too


def resolve_device(device: str) -> torch.device:
    """The device that a name stands for; "auto" is the first CUDA device if there is one, else the CPU.

    Raises
    ------
    ValueError
        If PyTorch does not know the name, or the device is not there.
    """
    cuda = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Unknown device {device!r}; choose 'auto', 'cpu', 'cuda' or 'cuda:0'.") from error
    if resolved.type == "cuda" and not is_there(resolved):
        raise ValueError(
            f"device={device!r} was asked for, but PyTorch sees {torch.cuda.device_count() if cuda else 0} CUDA "
            "devices; use device='cpu', or device='auto' to take a GPU only where there is one."
        )
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; choose 'auto', 'cpu', 'cuda' or 'cuda:0'.")
    return resolved


def is_there(device: torch.device) -> bool:
    """Whether a device is a CUDA device that PyTorch sees."""
    return device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()


def own_network_options(estimator: Any, parameters: Collection[str]) -> dict[str, Any]:
    """A copy of the estimator's ``network_params``, which may hold nothing but what the network alone knows.

    Raises
    ------
    ValueError
        If a key is one of the estimator's own ``parameters``, or is not an option of the network.
    """
    network, given = estimator.network, estimator.network_params or {}
    known_elsewhere = {*_NETWORK_OPTIONS, *_SET_BY_FIT, *parameters}
    own = [name for name in network_options(network) if name not in known_elsewhere]
    for name in given:
        if name not in own:
            hint = f", which is a parameter of {type(estimator).__name__} itself" if name in parameters else ""
            there = ", ".join(map(repr, own)) or "nothing"
            raise ValueError(f"network_params holds {name!r}{hint}; network={network!r} takes {there} there.")
    own_options: dict[str, Any] = plain(copy.deepcopy(given))
    return own_options


def plain(value: Any, depth: int = 0) -> Any:
    """Return a parameter with NumPy's numbers, also those in lists, tuples and dictionaries, as Python's.

    Estimators keep the parameters that they were given, as scikit-learn's ``clone`` asks for. Everything behind them
    gets what this function returns: PyTorch, for one, refuses many of NumPy's numbers.
    """
    if isinstance(value, np.generic):
        return value.item()
    if depth == _DEEPEST:  # so that what contains itself has an end
        return value
    if type(value) is dict:
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    return type(value)(plain(item, depth + 1) for item in value) if type(value) in (list, tuple) else value


def plain_parameters(estimator: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the named parameters of an estimator, with NumPy's numbers as Python's."""
    return {name: plain(getattr(estimator, name)) for name in names}


def refuse_booleans(constraints: dict[str, list[Any]], parameters: dict[str, Any], caller_name: str) -> None:
    """Raise an error if a boolean stands where a number is expected: Python would count it as 0 or 1.

    Raises
    ------
    InvalidParameterError
        A ValueError that names the parameter.
    """
    for name, value in parameters.items():
        allowed = constraints.get(name, ["boolean"])
        if isinstance(value, bool | np.bool_) and "boolean" not in allowed and "verbose" not in allowed:
            raise InvalidParameterError(
                f"The {name!r} parameter of {caller_name} must not be a boolean. Got {value!r} instead."
            )


def _has_amplitudes(estimator: Any) -> bool:
    options = getattr(estimator, "_module_options", None)  # a fitted model goes by the network it has
    network = estimator.network if options is None else options["network"]
    if not network_class(network).has_amplitudes:
        raise AttributeError(f"network={network!r} has no state amplitudes; network='sfm' has.")
    return True


@contextmanager
def fitting(estimator: Any) -> Iterator[None]:
    """Enable gradients, turn autocast off, and restore the estimator's attributes if an error occurs."""
    before = estimator.__dict__.copy()
    try:
        with torch.inference_mode(False), torch.enable_grad(), own_precision():
            yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


class CallbackWatcher:
    """Tells scikit-learn's callbacks of a fit and of its epochs."""

    def __init__(self, estimator: "SequenceEstimator", X: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._root = estimator._init_callback_context(max_subtasks=int(epochs))
        self._root.call_on_fit_task_begin(estimator=estimator, **self._data)
        self._epoch = self._root
        self.model: SequenceModel | None = None

    def epoch_begins(self) -> None:
        """An epoch begins."""
        self._epoch = self._root.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def epoch_ended(self) -> bool:
        """An epoch has ended; a callback may ask to stop.  It may predict with the model as it is now."""
        fitted = {"module_": self.model, "device_": str(next(self.model.parameters()).device)} if self.model else {}
        return bool(
            self._epoch.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes=fitted)
        )

    def ended(self) -> None:
        """The fit has ended."""
        self._root.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes={})


class SequenceEstimator(CallbackSupportMixin, BaseEstimator, ABC):
    """Base of the estimators; a subclass adds ``__init__``, ``fit``, ``predict`` and a head."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "network": [str],
        "network_params": [dict, None],
        "n_states": [Interval(Integral, 1, None, closed="left")],
        "n_frequencies": [Interval(Integral, 1, None, closed="left")],
        "n_outputs": [Interval(Integral, 1, None, closed="left"), None],
        "frequencies": [StrOptions(set(FREQUENCIES))],
        "time": [StrOptions({"index", "normalized", "timestamps"})],
        "time_channel": [Integral, None],
        "phase": [StrOptions(set(PHASES))],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "bidirectional": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "recurrent_dropout": [Interval(Real, 0, 1, closed="left")],
        "init": [StrOptions(set(INITIALISATIONS))],
        "head": [StrOptions(set(HEADS))],
        "pooling": [StrOptions(set(POOLINGS))],
        "standardize": ["boolean"],
        "optimizer": [StrOptions(set(OPTIMIZERS))],
        "learning_rate": [StrOptions(set(LEARNING_RATES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str],
        "backend": [StrOptions(set(BACKENDS))],
        "memory": [StrOptions(set(MEMORIES))],
        "layout": [StrOptions(set(LAYOUTS))],
    }

    module_: SequenceModel
    _optimizer_state: tuple[str, dict[str, Any]] | None  # its name and state, for training that goes on
    _generator_state: Tensor | None  # likewise
    n_channels_in_: int
    history_: dict[str, Any]
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_iter_: int
    n_parameters_: int
    device_: str
    backend_: str

    @abstractmethod
    def _make_head(
        self, kind: str, in_features: int, generator: torch.Generator | None, train: SequenceBatch | None
    ) -> Head:
        """A head for the targets of this fit; without ``train`` its numbers will be read from a file."""

    @abstractmethod
    def _n_logits(self) -> int:
        """How many numbers the head puts out."""

    def _validate_params(self) -> None:
        """Raise an error if a parameter has a type or a value that is not allowed."""
        refuse_booleans(self._parameter_constraints, self.get_params(deep=False), type(self).__name__)
        super()._validate_params()

    # -- input

    def _batch(self, X: Any, reset: bool) -> SequenceBatch:
        fitted = None if reset else getattr(self, "_module_options", None)  # a fitted model goes by the time it has
        fitted = plain_parameters(self, ("time", "time_channel")) if fitted is None else fitted
        time, channel = fitted["time"], fitted["time_channel"]
        if time != "timestamps":
            channel = None
        elif channel is None:
            raise ValueError("time='timestamps' needs time_channel, the number of the channel of X that holds them.")
        return as_batch(X, self, reset=reset, layout=self.layout, time_channel=channel)

    # -- training

    def _fit_batch(
        self,
        data: SequenceBatch,
        weights: NDArray[np.float64] | None,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None = None,
        stratify: NDArray[np.int64] | None = None,
    ) -> None:
        """Leave out the series that have no weight, set the validation part aside, and train.

        ``weights`` are those of the items that have targets, series or steps.
        """
        random_state = new_random_state(self.random_state)
        train, valid = np.arange(len(data)), None
        if weights is not None:
            data = replace(data, weight=torch.from_numpy(weights))
            starts = (data.lengths.cumsum(0) - data.lengths).numpy() if data.target_per_step else train
            train = np.flatnonzero(np.maximum.reduceat(weights, starts))
        if self.early_stopping and epochs is None:
            train, valid = self._split(train, stratify, random_state)
        self._train(
            data.take(torch.from_numpy(train)),
            None if valid is None else data.take(torch.from_numpy(valid)),
            random_state,
            continued=continued,
            watcher=watcher,
            epochs=epochs,
        )

    def _split(
        self, used: NDArray[np.int64], stratify: NDArray[np.int64] | None, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        try:
            train, valid = train_test_split(
                used,
                test_size=plain(self.validation_fraction),
                stratify=None if stratify is None else stratify[used],
                random_state=random_state,
            )
        except ValueError as error:
            each = "" if stratify is None else ", some of each class,"
            raise ValueError(
                f"early_stopping=True sets validation_fraction={self.validation_fraction} of {len(used)} series aside"
                f"{each} and cannot: {error} Give more series, a greater fraction, or turn it off."
            ) from error
        return train, valid

    def _train(
        self,
        train: SequenceBatch,
        valid: SequenceBatch | None,
        random_state: np.random.RandomState,
        *,
        continued: bool,
        watcher: CallbackWatcher,
        epochs: int | None = None,
    ) -> None:
        """Train a new model, or a copy of the present one if ``continued``, and set the fitted attributes."""
        device = resolve_device(self.device)
        generator = torch.Generator().manual_seed(int(random_state.randint(2**31 - 1)))
        if continued:
            self._refuse_other_network()
            model = copy.deepcopy(self.module_)
            if self._generator_state is not None:  # else every part would come in the same order
                generator.set_state(self._generator_state)
            dtype = next(model.parameters()).dtype
        else:
            dtype = train.values.dtype if device.type == "cpu" else torch.float32
            model = self._make_module(train, generator).to(dtype)
        model.to(device)
        trainer = Trainer(model, self._settings(partial=epochs is not None), generator)
        if continued and self._optimizer_state is not None and self._optimizer_state[0] == self.optimizer:
            trainer.load_optimizer_state(self._optimizer_state[1])
        watcher.model = model
        history = trainer.fit(
            train.to(device, dtype), None if valid is None else valid.to(device, dtype), epochs, watcher
        )
        if history.stopped == "max_iter" and self.learning_rate == "constant" and epochs is None:
            warnings.warn(
                f"The loss was still falling after max_iter={self.max_iter} epochs; increase max_iter, or take "
                "learning_rate='cosine', which comes to rest within it.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.module_ = model.eval()
        self._optimizer_state = (self.optimizer, trainer.optimizer.state_dict())
        self._generator_state = generator.get_state()
        self._set_history(history, continued and epochs is not None)
        self.device_ = str(device)
        self.backend_ = model.network.backend
        self.n_parameters_ = sum(p.numel() for p in model.parameters() if p.requires_grad)

    def _make_module(self, train: SequenceBatch, generator: torch.Generator) -> SequenceModel:
        """A fresh model for this training set."""
        mean = scale = None
        if self.standardize:
            mean, variance = channel_statistics(train)
            scale = channel_scale(mean, variance)
        self._module_options = plain(self._current_options())
        return self._build_module(self._module_options, train, generator, mean, scale)

    def _current_options(self) -> dict[str, Any]:
        """The parameters that determine the model."""
        options = plain_parameters(self, (*_NETWORK_OPTIONS, *_MODEL_OPTIONS))
        options["network_params"] = own_network_options(self, self._get_param_names())
        if self.head == "none":
            options["n_outputs"] = self._n_logits()
            if self.bidirectional:
                raise ValueError("head='none' takes z as logits, which a bidirectional network doubles; use 'linear'.")
        return options

    def _refuse_other_network(self) -> None:
        """Training cannot go on with a network of other parameters."""
        old, new = self._module_options, plain(self._current_options())
        changed = [f"{name}={old[name]!r} is now {new[name]!r}" for name in old if not _same(old[name], new[name])]
        if changed:
            raise ValueError(
                f"Training goes on with the network that is there, but {', '.join(changed)}. Set it back, or fit anew: "
                "with warm_start=False, or after sklearn.base.clone."
            )

    def _build_module(
        self,
        options: dict[str, Any],
        train: SequenceBatch | None = None,
        generator: torch.Generator | None = None,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> SequenceModel:
        """A model of the shape that ``options`` describe, which may no longer be the estimator's parameters."""
        network = make_network(
            options["network"],
            self.n_channels_in_,
            **{name: options[name] for name in _NETWORK_OPTIONS if name != "network"},
            **options["network_params"],
            max_length=1 if train is None else int(train.lengths.max()),
            generator=torch.Generator() if generator is None else generator,
        )
        return SequenceModel(
            network,
            self._make_head(options["head"], network.output_size, generator, train),
            mean=mean,
            scale=scale,
            pooling=options["pooling"],
            dropout=options["dropout"],
            time_channel=options["time_channel"] if options["time"] == "timestamps" else None,
        )

    def _settings(self, partial: bool) -> TrainingSettings:
        settings = plain_parameters(self, TrainingSettings.__dataclass_fields__)
        if partial:
            settings["learning_rate"] = "constant"
        return TrainingSettings(**settings)

    def _set_history(self, history: History, appended: bool) -> None:
        new = history.as_dict()
        if appended:
            old = self.history_
            new = {key: old[key] + value if isinstance(value, list | int) else value for key, value in new.items()}
        self.history_ = new
        self.loss_curve_ = new["loss"]
        self.validation_scores_ = new["validation_score"] if self.early_stopping else None
        self.n_iter_ = len(self.loss_curve_)

    # -- after training

    def _outputs(self, batch: SequenceBatch) -> Tensor:
        """Return the raw output of the head for each series, or for each step.

        Raises
        ------
        ValueError
            If an output is not finite.
        """
        result = outputs(self._placed_module(), batch, _PREDICTION_BATCH)
        if not bool(result.isfinite().all()):
            raise ValueError(
                f"The network's output is not finite for some of these series, whose values go up to "
                f"{float(batch.values.abs().max()):.3g} in size. Look for fill values in X, or scale it."
            )
        return result

    def _placed_module(self) -> SequenceModel:
        """The module, moved back to its device if it was unpickled and the device is here."""
        device = torch.device(self.device_)
        if is_there(device):
            self.module_.to(device)
        return self.module_

    @available_if(_has_amplitudes)
    @own_precision()
    def state_amplitudes(self, X: Any) -> NDArray[Any] | list[NDArray[Any]]:
        """Amplitudes ``|S|`` of the states at each time step, as in the paper's Figure 5.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of arrays of shape (T_i, C)

        Returns
        -------
        amplitudes : array of shape (n, T, n_states, n_frequencies), or list of arrays of shape (T_i, ...)
            Of the last layer.  With ``bidirectional=True`` there are twice as many states, those that read forwards
            first.
        """
        check_is_fitted(self)
        batch = self._batch(X, reset=False)
        model = self._placed_module().eval()
        parameter = next(model.parameters())
        results = []
        for index in bounded_batches(batch.lengths, torch.arange(len(batch)), _PREDICTION_BATCH):
            part = batch.take(index).to(parameter.device, parameter.dtype)
            results.append(part.flat(model.state_amplitudes(part.x, part.lengths, part.t)).cpu())
        return unbatch(batch, torch.cat(results))

    def to_torch(self) -> SequenceModel:
        """A copy of the fitted network as a plain torch module on the CPU, scaling included.

        Returns
        -------
        module : SequenceModel
            ``module(x, lengths=None, time=None)`` takes raw series (B, T, C) and returns the head's raw output.
        """
        check_is_fitted(self)
        return copy.deepcopy(self.module_).cpu().eval()

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one file: JSON and safetensors, no pickle inside.

        The file appears whole or not at all; what stood there before stays until then.

        Parameters
        ----------
        path : str or Path
        """
        check_is_fitted(self)
        persistence.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an estimator that :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        ValueError
            If the file is damaged, of another program, or of another estimator.
        """
        return persistence.load(Path(path), cls)

    def _to_file(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        dtype = str(next(self.module_.parameters()).dtype).removeprefix("torch.")
        return {"dtype": dtype, "module": self._module_options}, self.module_.state_dict()

    def _from_file(self, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        options = {key: persistence.decode(value) for key, value in document["module"].items()}
        dtype = getattr(torch, str(document["dtype"]), None)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"weights cannot have the type {document['dtype']!r}")
        check_file_attributes(self)
        if self.history_.keys() != History().as_dict().keys():
            raise ValueError("its history is not that of a training")
        self._check_file_options(options, max(_FREE_SIZE, sum(value.numel() for value in tensors.values())))
        expected = self._without_storage(options, dtype, tensors).state_dict()
        check_tensors({name: (tuple(value.shape), value.dtype) for name, value in expected.items()}, tensors)
        self._module_options = options
        module = self._build_module(options).to(dtype)
        module.load_state_dict(tensors)
        self.module_ = module.eval()
        self._optimizer_state = self._generator_state = None

    def _without_storage(
        self, options: dict[str, Any], dtype: torch.dtype, tensors: dict[str, Tensor]
    ) -> SequenceModel:
        """Return the model that ``options`` describe without memory for its weights.

        What building it may cost is bounded by the size of the file, which holds as many numbers as the model.
        """
        n_numbers = sum(value.numel() for value in tensors.values())
        limits = _FREE_SIZE + 100 * len(tensors) + n_numbers, 100 * _FREE_SIZE + 4 * n_numbers
        try:
            with WithoutStorage(*limits):
                return self._build_module(options).to(dtype)
        except (RuntimeError, TypeError):
            if network_class(options["network"]).__module__.startswith("sfmts."):
                raise
            # A network of one's own may need the numbers themselves.
            return self._build_module(options).to(dtype)

    def _check_file_options(self, options: dict[str, Any], most: int) -> None:
        """Raise a ValueError unless the options of a file are complete, valid and no larger than the file."""
        expected = {*_NETWORK_OPTIONS, *_MODEL_OPTIONS, *({"n_hidden"} & {*self._get_param_names()})}
        lacking, unknown = sorted(expected - options.keys()), sorted(options.keys() - expected)
        if lacking or unknown:
            what = f"lacks {', '.join(lacking)}" if lacking else f"holds {', '.join(unknown)}, which is unknown"
            raise ValueError(f"its description of the model {what}")
        constraints = {**SequenceEstimator._parameter_constraints, **self._parameter_constraints}
        refuse_booleans(constraints, options, type(self).__name__)
        validate_parameter_constraints(constraints, options, caller_name=type(self).__name__)
        own = options["network_params"]
        if own is None:
            raise ValueError("its network_params are None, not a dictionary")
        unknown = sorted(own.keys() - {*network_options(options["network"])})
        if unknown:
            raise ValueError(f"its network_params hold {', '.join(unknown)}, which is unknown")
        for name, value in {**options, **own, "n_channels_in_": self.n_channels_in_}.items():
            if isinstance(value, int) and value > most:
                raise ValueError(f"{name}={value} is more than the file has numbers")

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__().copy()
        module = state.get("module_")
        if module is not None and next(module.parameters()).device.type != "cpu":
            state["module_"] = copy.deepcopy(module).cpu()
        if state.get("_optimizer_state") is not None:  # a file has none
            name, optimizer = state["_optimizer_state"]
            state["_optimizer_state"] = (name, _to_cpu(optimizer))
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def check_file_attributes(estimator: Any) -> None:
    """Raise a ValueError unless a file has all fitted attributes that are declared, with their types."""
    for cls in type(estimator).__mro__:
        for name, kind in inspect.get_annotations(cls).items():
            if not name.endswith("_") or name.startswith("_") or name == "module_":
                continue
            if name not in vars(estimator):
                raise ValueError(f"it lacks the fitted attribute {name!r}")
            value = vars(estimator)[name]
            expected: Any = get_origin(kind) or kind
            if expected in (int, str, list, dict) and type(value) is not expected:
                raise ValueError(f"its fitted attribute {name!r} is {value!r}, not of type {expected.__name__}")
    classes = getattr(estimator, "classes_", None)
    if classes is not None and not (isinstance(classes, np.ndarray) and classes.ndim == 1 and len(classes)):
        raise ValueError("its classes are not an array of one dimension")


def check_tensors(expected: dict[str, tuple[tuple[int, ...], torch.dtype]], found: dict[str, Tensor]) -> None:
    """Raise a ValueError unless tensors have the names, shapes and types that are expected."""
    if expected.keys() != found.keys():
        names = ", ".join(sorted(expected.keys() ^ found.keys())[:5])
        raise ValueError(f"its tensors are not those of its model: {names}")
    for name, (shape, dtype) in expected.items():
        given = found[name]
        if tuple(given.shape) != shape or given.dtype != dtype:
            raise ValueError(
                f"size mismatch: {name} is {given.dtype} of shape {tuple(given.shape)}, but its model needs "
                f"{dtype} of shape {shape}"
            )


def _same(old: Any, new: Any) -> bool:
    """Whether two parameters are equal, which may be dictionaries with arrays in them."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return bool(np.array_equal(old, new)) if isinstance(old, np.ndarray) or isinstance(new, np.ndarray) else old == new


def _to_cpu(value: Any) -> Any:
    """The same nest of dictionaries and lists with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    return [_to_cpu(item) for item in value] if isinstance(value, list) else value


def new_random_state(random_state: Any) -> np.random.RandomState:
    """A generator of one's own: that of ``random_state``, or a fresh one that leaves numpy's global one alone."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)
