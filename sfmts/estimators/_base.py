"""The base class of all trained estimators: input, training, prediction, pickling and files."""

import copy
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, get_origin

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted
from torch import Tensor

from sfmts import _persistence as persistence
from sfmts._batch import SequenceBatch, channel_scale, channel_statistics, unbatch
from sfmts._checkpoint import Checkpoint, Stage, digest, seeded
from sfmts._compat import CallbackSupportMixin
from sfmts._files import as_path
from sfmts._precision import own_precision
from sfmts._random import new_random_state
from sfmts._validation import as_batch, as_numbers
from sfmts.estimators._callbacks import CallbackWatcher
from sfmts.estimators._device import is_available, named_device, resolve_device, training_work
from sfmts.estimators._parameters import (
    NETWORK_PARAMETERS,
    checkpoint_identity,
    own_network_options,
    plain,
    plain_parameters,
    training_settings,
    validate,
    validate_parameters,
)
from sfmts.heads import Head
from sfmts.model import SequenceModel, pooled_size
from sfmts.networks.base import WithoutStorage, make_network, network_class, network_options, resolved_options
from sfmts.training import History, Trainer, in_batches, outputs, placed

_PREDICTION_BATCH = 256
_UPDATES, _SMALLEST_BATCH, _LARGEST_BATCH = 10, 2, 32  # updates in an epoch, and series in a mini-batch, with "auto"
_FREE_SIZE = 10_000  # of options of a file, however small the file is
_MODEL_PARAMETERS = (*NETWORK_PARAMETERS, "head", "n_hidden", "pooling", "dropout", "time_channel", "base")
_NO_ATTRIBUTES = ("module_", "base_")  # saved in another way


def _has_amplitudes(estimator: Any) -> bool:
    options = getattr(estimator, "_module_options", None)  # a fitted model keeps its network
    network = estimator.network if options is None else options["network"]
    if not network_class(network).has_amplitudes:
        raise AttributeError(f"network={network!r} has no state amplitudes; network='sfm' has.")
    return True


class RegressionScoreMixin(RegressorMixin):
    """scikit-learn's mixin of regressors, with a score that is a number for all targets that it takes."""

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R^2 of :meth:`predict`.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,) or (n, n_targets)
            True targets.
        sample_weight : array-like of shape (n,), optional
            Weight of each series.

        Returns
        -------
        score : float
            At most 1.

        Raises
        ------
        ValueError, TypeError
            If an argument is invalid.
        """
        y, ndim = as_numbers(y, _num_samples(X))
        return float(super().score(X, y[:, 0] if ndim == 1 else y, sample_weight))


@contextmanager
def fitting(estimator: Any) -> Iterator[None]:
    """Enable gradients, turn autocast off, and restore the estimator's attributes if an error occurs."""
    before = estimator.__dict__.copy()
    # sktime keeps some of its state in dictionaries that it changes in place.
    contents = {name: dict(value) for name, value in before.items() if type(value) is dict}
    try:
        with torch.inference_mode(False), torch.enable_grad(), own_precision():
            yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        for name, content in contents.items():
            before[name].clear()
            before[name].update(content)
        raise


class SavedEstimator(BaseEstimator, ABC):
    """Base of the estimators that can be saved: what of them a file holds, and how to restore them from it."""

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one file: JSON and safetensors, no pickle inside.

        Parameters
        ----------
        path : str or Path
            An existing file is replaced only after the new one is complete.
        """
        check_is_fitted(self)
        persistence.write(as_path(path), *self._contents())

    def _contents(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the document and the tensors of a file."""
        own, tensors = self._to_file()
        attributes = {
            key: persistence.encode(value, key)
            for key, value in vars(self).items()
            if key.endswith("_") and not key.startswith("_") and key not in (*_NO_ATTRIBUTES, *tensors)
        }
        # A checkpoint is a place on the machine of the fit.
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name != "checkpoint"}
        document = {
            "estimator": type(self).__name__,
            "parameters": {key: persistence.encode(value, key) for key, value in parameters.items()},
            "attributes": attributes,
            **{key: persistence.encode_entry(value, key) for key, value in own.items()},
        }
        return document, tensors

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an estimator that :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        estimator : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the file is damaged, has another origin, or holds another estimator.
        """
        path = as_path(path)
        document, tensors = persistence.read(path)
        with persistence.described(path), _callers_randomness():
            name = document["estimator"]
            if name == cls.__name__:
                return cls._restored(document, tensors)
        raise ValueError(f"{path} holds a {name}; load it with {name}.load.")

    @classmethod
    def _restored(cls, document: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Return the estimator that a file describes."""
        estimator = cls(**{key: persistence.decode(value) for key, value in document["parameters"].items()})
        for key, value in document["attributes"].items():
            if not key.endswith("_") or key.startswith("_"):
                raise ValueError(f"{key!r} is no fitted attribute")
            setattr(estimator, key, persistence.decode(value))
        torch.device(getattr(estimator, "device_", "cpu"))
        estimator._from_file(document, tensors)
        return estimator

    @abstractmethod
    def _to_file(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what a file holds besides parameters and fitted attributes: entries of its document, and tensors."""

    @abstractmethod
    def _from_file(self, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Set what :meth:`_to_file` returned; entries of the document are still encoded."""


class SequenceEstimator(CallbackSupportMixin, SavedEstimator):
    """Base of the trained estimators; a subclass adds ``__init__``, ``fit``, ``predict`` and a head."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]  # set by @documented
    _network_defaults: ClassVar[dict[str, Any]] = {"init": "chrono"}  # for networks that take them

    module_: SequenceModel
    _checkpoint: Checkpoint | None = None  # while fit uses it
    _optimizer_state: tuple[str, dict[str, Any]] | None  # name and state, to continue the training
    _generator_state: Tensor | None  # to continue the training
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
        """Return a head for the targets of this fit; without ``train`` its numbers will be read from a file."""

    @abstractmethod
    def _n_logits(self) -> int:
        """Return the number of outputs of the head."""

    def _validate_params(self) -> None:
        """Raise an error if a parameter has a type or a value that is not allowed."""
        validate_parameters(self)

    # -- input

    def _batch(self, X: Any, reset: bool) -> SequenceBatch:
        # A fitted model keeps its time channel, whatever the parameter is now.
        fitted = {} if reset else getattr(self, "_module_options", {})
        channel = fitted["time_channel"] if "time_channel" in fitted else plain(getattr(self, "time_channel", None))
        return as_batch(X, self, reset=reset, layout=self.layout, time_channel=channel)

    def _validation_batch(self, X_val: Any, y_val: Any, needs_y: bool = True) -> SequenceBatch | None:
        """Return the series of validation data, or None if there are none."""
        if X_val is None and y_val is None:
            return None
        if X_val is None or (y_val is None) == needs_y:
            raise ValueError("X_val and y_val belong together, but only one of them was given.")
        return as_batch(
            X_val, self, reset=False, layout=self.layout, time_channel=plain(getattr(self, "time_channel", None))
        )

    # -- training

    @contextmanager
    def _resumable(
        self,
        data: SequenceBatch,
        *,
        continued: bool,
        epochs: int | None = None,
        valid: SequenceBatch | None = None,
    ) -> Iterator[None]:
        """Let the fit within the context continue what its checkpoint holds; ``partial_fit`` has none."""
        if self.checkpoint is None or epochs is not None:
            yield
            return
        parts = {
            "X": digest(data.values, data.lengths, data.time),
            "y": digest(data.target),
            "sample_weight": digest(data.weight),
            "X_val, y_val": None if valid is None else digest(valid.values, valid.lengths, valid.time, valid.target),
            "the fitted model": digest(*self.module_.state_dict().values()) if continued else None,
        }
        with Checkpoint(self.checkpoint, {**checkpoint_identity(self), **parts}) as self._checkpoint:
            yield
        del self._checkpoint

    @property
    def _random_state(self) -> Any:
        """``random_state``, or the seed of the checkpoint instead of None."""
        return seeded(self.random_state, self._checkpoint)

    @property
    def _stage(self) -> Stage | None:
        """The part of the checkpoint that belongs to the network."""
        return self._checkpoint.stage("network") if self._checkpoint else None

    def _warn_of_ignored(self) -> None:
        """Warn of parameters that were set and that ``partial_fit`` does not use."""
        schedule = (self.optimizer_params or {}).get("schedule", "constant")
        ignored = {
            "early_stopping=True": self.early_stopping,
            f"checkpoint={str(self.checkpoint)!r}": self.checkpoint is not None,
            f"the schedule {schedule!r}": schedule != "constant",
        }
        if any(ignored.values()):
            names = " and ".join(name for name, is_set in ignored.items() if is_set)
            warnings.warn(
                f"partial_fit ignores {names}: it trains for one epoch on all series that it is given, at a constant "
                "learning rate. Use fit, or reset the parameter.",
                stacklevel=4,
            )

    def _fit_batch(
        self,
        data: SequenceBatch,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None = None,
        stratify: NDArray[np.int64] | None = None,
        valid: SequenceBatch | None = None,
    ) -> None:
        """Leave out the series without weight, set a validation part aside if one is needed, and train."""
        random_state = new_random_state(self._random_state)
        train = np.arange(len(data))
        if data.weight is not None:  # of series, or of steps
            starts = (data.lengths.cumsum(0) - data.lengths).numpy() if data.target_per_step else train
            train = np.flatnonzero(np.maximum.reduceat(data.weight.numpy(), starts))
        if valid is None and epochs is None and self._needs_validation(len(train)):
            train, aside = self._split(train, stratify, random_state)
            valid = data.take(torch.from_numpy(aside))
        self._train(
            data.take(torch.from_numpy(train)),
            valid,
            random_state,
            continued=continued,
            watcher=watcher,
            epochs=epochs,
        )

    def _needs_validation(self, n_series: int) -> bool:
        """Return whether a part of so many series is set aside."""
        return bool(self.early_stopping)

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
            each = "" if stratify is None else ", with some of each class"
            raise ValueError(
                f"early_stopping=True cannot set validation_fraction={self.validation_fraction} of {len(used)} series "
                f"aside{each}: {error} Give more series or a greater fraction, or set early_stopping=False."
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
        """Train a new model, or a copy of the fitted one if ``continued``, and set the fitted attributes."""
        generator = torch.Generator().manual_seed(int(random_state.randint(2**31 - 1)))
        if continued:
            self._refuse_other_network()
            model = copy.deepcopy(self.module_)
            if self._generator_state is not None:  # otherwise every part would come in the same order
                generator.set_state(self._generator_state)
            device = self._device_to_continue_on()
        else:
            model = self._make_module(train, generator)
            steps = int(train.lengths.sum()) * (plain(self.max_iter) if epochs is None else epochs)
            work = training_work(model.network.n_parameters, steps, model.network.gpu_obstacle)
            device = resolve_device(self.device, work)
            model.to(train.values.dtype if device.type == "cpu" else torch.float32)
        model.to(device)
        changes: dict[str, Any] = {} if epochs is None else {"schedule": "constant"}
        if self.batch_size == "auto":
            changes["batch_size"] = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, len(train) // _UPDATES))
        settings = training_settings(self, **changes)
        trainer = Trainer(model, settings, generator)
        if continued and self._optimizer_state is not None and self._optimizer_state[0] == self.optimizer:
            trainer.load_optimizer_state(self._optimizer_state[1])
        watcher.model = model
        history = self._run(trainer, train, valid, watcher, continued=continued, epochs=epochs)
        if history.stopped == "max_iter" and settings.schedule == "constant" and epochs is None:
            warnings.warn(
                f"The loss was still falling after max_iter={self.max_iter} epochs. Increase max_iter, or use "
                "optimizer_params={'schedule': 'cosine'}, which lowers the learning rate to 0 within it.",
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

    def _device_to_continue_on(self) -> torch.device:
        """Return the device of a fitted model: with "auto" the one of the fit, if it is available here."""
        if self.device != "auto":
            return named_device(self.device)
        fitted = torch.device(self.device_)
        return fitted if is_available(fitted) else torch.device("cpu")

    def _run(
        self,
        trainer: Trainer,
        train: SequenceBatch,
        valid: SequenceBatch | None,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None,
    ) -> History:
        """Train the model of ``trainer`` on series that may be elsewhere, and return the record."""
        place = trainer.device, trainer.dtype
        train = placed(train, *place)
        valid = None if valid is None else placed(valid, *place)
        return trainer.fit(train, valid, epochs, watcher, checkpoint=self._stage)

    def _make_module(self, train: SequenceBatch, generator: torch.Generator) -> SequenceModel:
        """Return a new model for this training set."""
        self._module_options = plain(self._current_options())
        return self._build_module(self._module_options, train, generator, *self._channel_scaling(train))

    def _channel_scaling(self, train: SequenceBatch) -> tuple[Tensor | None, Tensor | None]:
        """Return mean and scale of each channel; large values, such as time stamps, would saturate the gates."""
        mean, variance = channel_statistics(train)
        return mean, channel_scale(mean, variance)

    def _current_options(self) -> dict[str, Any]:
        """Return the parameters that determine the model; ``network_params`` include defaults and the time."""
        names = self._get_param_names()
        options = plain_parameters(self, [name for name in _MODEL_PARAMETERS if name in names])
        own, accepted = own_network_options(self), network_options(self.network)
        if options.get("time_channel") is not None:
            if "time" in own:
                raise ValueError(
                    f"network_params has time={own['time']!r}, but time_channel={options['time_channel']} makes time "
                    "stamps the time. Set only one of them."
                )
            if "time" in accepted:
                own["time"] = "timestamps"
        if options["head"] == "none":
            wider = "bidirectional=True doubles" if options.get("bidirectional") else None
            if options.get("pooling") == "all":
                wider = "pooling='all' triples"
            if wider:
                raise ValueError(
                    f"head='none' uses the network's output as logits, but {wider} its width. Use head='linear', or "
                    "one direction and pooling='last'."
                )
            if "n_outputs" in accepted:
                n_logits = self._n_logits()
                if own.get("n_outputs") not in (None, n_logits):
                    raise ValueError(
                        f"head='none' needs n_outputs={n_logits}, the number of logits, but network_params has "
                        f"n_outputs={own['n_outputs']!r}. Remove it, or use head='linear'."
                    )
                own["n_outputs"] = n_logits
        return {**options, "network_params": own}

    def _refuse_other_network(self) -> None:
        """Raise a ValueError if a parameter of the fitted network was changed; None is the default of the network."""
        old, new = self._module_options, plain(self._current_options())
        old_values, new_values = _resolved(old), _resolved(new)
        changed = [
            f"{name}={old[name]!r} is now {new[name]!r}"
            for name in old
            if not (_same(old[name], new[name]) or _same(old_values[name], new_values[name]))
        ]
        if changed:
            raise ValueError(
                f"Training continues with the fitted network, but {', '.join(changed)}. Restore the old value, or fit "
                "a new network with warm_start=False or after sklearn.base.clone."
            )

    def _build_module(
        self,
        options: dict[str, Any],
        train: SequenceBatch | None = None,
        generator: torch.Generator | None = None,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> SequenceModel:
        """Return a model of the shape that ``options`` describe; the estimator's parameters may have changed since."""
        common = {name: options[name] for name in NETWORK_PARAMETERS if name in options}
        network = make_network(
            common.pop("network"),
            self.n_channels_in_,
            **common.pop("network_params"),
            **common,
            max_length=1 if train is None else int(train.lengths.max()),
            generator=torch.Generator() if generator is None else generator,
        )
        pooling = options.get("pooling", "last")
        return SequenceModel(
            network,
            self._make_head(options["head"], pooled_size(pooling, network.output_size), generator, train),
            mean=mean,
            scale=scale,
            pooling=pooling,
            dropout=options["dropout"],
            time_channel=options.get("time_channel"),
        )

    def _set_history(self, history: History, appended: bool) -> None:
        new = (History(**self.history_).followed_by(history) if appended else history).as_dict()
        self.history_ = new
        self.loss_curve_ = new["loss"]
        self.validation_scores_ = new["validation_score"] or None
        self.n_iter_ = len(self.loss_curve_)

    # -- after training

    def _outputs(self, batch: SequenceBatch) -> Tensor:
        """Return the raw output of the model for each series, or for each step.

        Raises
        ------
        ValueError
            If an output is not finite.
        """
        result = outputs(self._placed_module(), batch, _PREDICTION_BATCH)
        _check_output(result, batch)
        return result

    def _placed_module(self) -> SequenceModel:
        """Return the module, moved back to its device if it was unpickled and the device is available."""
        device = torch.device(self.device_)
        if is_available(device):
            self.module_.to(device)
        return self.module_

    @available_if(_has_amplitudes)
    @own_precision()
    def state_amplitudes(self, X: Any) -> NDArray[Any] | list[NDArray[Any]]:
        """Return the amplitudes ``|S|`` of the states at each time step, as in the paper's Figure 5.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of arrays of shape (T_i, C)
            The series.

        Returns
        -------
        amplitudes : array of shape (n, T, n_states, n_frequencies), or list of arrays of shape (T_i, ...)
            Those of the last layer. With ``bidirectional=True`` there are twice as many states; the states that read
            forwards come first.
        """
        check_is_fitted(self)
        self._require_network("state_amplitudes", alone=False)
        batch = self._batch(X, reset=False)
        model = self._placed_module().eval()
        parameter = next(model.parameters())

        def compute(part: SequenceBatch) -> Tensor:
            part = part.to(parameter.device, parameter.dtype)
            return part.flat(model.state_amplitudes(part.x, part.lengths, part.t)).cpu()

        results = [part for _, part in in_batches(compute, batch, torch.arange(len(batch)), _PREDICTION_BATCH)]
        amplitudes = torch.cat(results)
        _check_output(amplitudes, batch)
        return unbatch(batch, amplitudes)

    def to_torch(self, backend: str | None = None) -> SequenceModel:
        """Return a copy of the fitted network as a plain torch module on the CPU, including the scaling.

        Parameters
        ----------
        backend : str, optional
            Kernel of the copy; that of the fitted network by default. With "reference", `torch.export` records
            PyTorch's own operations only, so that SFM and resonator can be converted to ONNX.

        Returns
        -------
        module : SequenceModel
            ``module(x, lengths=None, time=None)`` takes raw series (B, T, C) and returns the head's raw output.
        """
        check_is_fitted(self)
        self._require_network("to_torch", alone=True)
        module = copy.deepcopy(self.module_).cpu().eval()
        if backend is not None:
            module.network.use_backend(backend)
        return module

    def _require_network(self, what: str, alone: bool) -> None:
        """Raise a ValueError unless the fitted model has a network or, if ``alone``, is nothing but a network."""

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
        # PyTorch 2.7 makes up to two calls for each number, 2.13 one.
        limits = _FREE_SIZE + 100 * len(tensors) + 2 * n_numbers, 100 * _FREE_SIZE + 4 * n_numbers
        try:
            with WithoutStorage(*limits):
                return self._build_module(options).to(dtype)
        except (RuntimeError, TypeError):
            if network_class(options["network"]).__module__.startswith("sfmts."):
                raise
            # A user's network may need the numbers themselves.
            return self._build_module(options).to(dtype)

    def _check_file_options(self, options: dict[str, Any], most: int) -> None:
        """Raise a ValueError unless the options of a file are complete, valid and no larger than the file."""
        expected = {*_MODEL_PARAMETERS} & {*self._get_param_names()}
        lacking, unknown = sorted(expected - options.keys()), sorted(options.keys() - expected)
        if lacking or unknown:
            what = f"lacks {', '.join(lacking)}" if lacking else f"holds {', '.join(unknown)}, which is unknown"
            raise ValueError(f"its description of the model {what}")
        validate(self._parameter_constraints, options, type(self).__name__)
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


def _check_output(result: Tensor, batch: SequenceBatch) -> None:
    """Raise a ValueError unless what a network gives for series is finite."""
    if not bool(result.isfinite().all()):
        raise ValueError(
            f"The network's output is not finite for some of these series, whose values go up to "
            f"{float(batch.values.abs().max()):.3g} in size. Look for fill values in X, or scale it."
        )


@contextmanager
def _callers_randomness() -> Iterator[None]:
    """Restore PyTorch's generator: a network that is built draws initial weights. ``fork_rng`` would ask CUDA."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def check_file_attributes(estimator: Any) -> None:
    """Raise a ValueError unless a file has all fitted attributes that are declared, with their types."""
    for cls in type(estimator).__mro__:
        for name, kind in inspect.get_annotations(cls).items():
            if not name.endswith("_") or name.startswith("_") or name in _NO_ATTRIBUTES:
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


def check_tensors(
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]], found: dict[str, Tensor], infinite: Container[str] = ()
) -> None:
    """Raise a ValueError unless tensors have the names, shapes and types that are expected, and are finite.

    Those that ``infinite`` names may hold any numbers.
    """
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
        if name not in infinite and not bool(given.isfinite().all()):
            raise ValueError(f"its {name} has values that are not finite")


def _resolved(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a model with its network's defaults in place of None and of what is left out."""
    common = {name: options[name] for name in NETWORK_PARAMETERS if name in options}
    values = resolved_options(common.pop("network"), {**common, **common.pop("network_params")})
    resolved = {**options, **{name: values.pop(name, None) for name in common}}
    return {**resolved, "network_params": values}


def _same(old: Any, new: Any) -> bool:
    """Return whether two parameters are equal, also if they are dictionaries that hold arrays."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return bool(np.array_equal(old, new)) if isinstance(old, np.ndarray) or isinstance(new, np.ndarray) else old == new


def _to_cpu(value: Any) -> Any:
    """Return nested dictionaries and lists with every tensor moved to the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    return [_to_cpu(item) for item in value] if isinstance(value, list) else value
