"""The parameters of all estimators: types, constraints and meanings, each written once.

An estimator lists its parameters and their defaults in the signature of its ``__init__``. The decorator
:func:`documented` takes everything else from :data:`PARAMETERS`.
"""

import copy
import inspect
import json
import os
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions, validate_parameter_constraints

from sfmts._validation import LAYOUTS
from sfmts.features._signal import SCALES
from sfmts.heads import DENSITY_HEADS, HEADS
from sfmts.model import POOLINGS
from sfmts.networks.base import network_options
from sfmts.training import NOT_OF_THE_RESULT, OPTIMIZERS, SCHEDULES, TrainingSettings

BANK_BACKENDS = ("auto", "reference", "fused", "native")
NETWORK_PARAMETERS = ("network", "n_states", "n_frequencies", "n_layers", "bidirectional", "network_params")
_SET_BY_FIT = ("max_length", "generator")  # options of networks, too
_DEEPEST = 8  # levels of lists and dictionaries in which a parameter holds numbers
_WIDTH = 120


# -- the table


@dataclass(frozen=True)
class Parameter:
    """One parameter of the estimators.

    Attributes
    ----------
    type : str
        As numpydoc prints it, without the default.
    constraints : list
        As in scikit-learn's ``_parameter_constraints``.
    meaning : str
        A paragraph of reStructuredText. ``{network_defaults}`` stands for the defaults of an estimator's network.
    """

    type: str
    constraints: list[Any]
    meaning: str


def _choice(options: Iterable[str], meaning: str) -> Parameter:
    """Return a parameter that is one of several strings."""
    options = tuple(options)
    return Parameter("{" + ", ".join(f'"{option}"' for option in options) + "}", [StrOptions(set(options))], meaning)


def _count(meaning: str) -> Parameter:
    """Return a parameter that is a positive integer."""
    return Parameter("int", [Interval(Integral, 1, None, closed="left")], meaning)


def _optional_count(meaning: str) -> Parameter:
    """Return a parameter that is a positive integer or None."""
    return Parameter("int or None", [Interval(Integral, 1, None, closed="left"), None], meaning)


def _flag(meaning: str) -> Parameter:
    """Return a parameter that is true or false."""
    return Parameter("bool", ["boolean"], meaning)


# A name with a variant in parentheses is for the estimators that declare this variant.
PARAMETERS: dict[str, Parameter] = {
    # the network
    "network": Parameter(
        "str",
        [str],
        'Name of a network, see :func:`sfmts.networks.network_names`; "sfm" is that of the paper, "resonator" our own '
        "form of it, which learns more from the same number of series. Parameters that the network does not use, such "
        "as ``n_frequencies``, are ignored, so networks can be compared in one grid search. Several layers or two "
        "directions raise an error if the network does not support them. :class:`sfmts.SFMDensity` and "
        ":class:`sfmts.SFMForecaster` need a causal network, which reads forwards only.",
    ),
    "n_states": _count("Number of states: D of the SFM, the hidden width of other networks."),
    "n_frequencies": _count("Number of frequency components of each state: K of the SFM."),
    "n_layers": _optional_count(
        "Number of stacked layers. None is the default of the network: 2 for the resonator, 1 for all others."
    ),
    "bidirectional": _flag("Read each series in both directions."),
    "dropout": Parameter(
        "float",
        [Interval(Real, 0, 1, closed="left")],
        "Probability with which training drops each value that the head reads. In :class:`sfmts.SFMForecaster` these "
        "are the values of the network's summary and of each decoded horizon.",
    ),
    "network_params": Parameter(
        "dict or None",
        [dict, None],
        'Further options of the network, such as ``{"frequencies": "adaptive"}`` of '
        ":class:`sfmts.networks.SFM`; the class of the network documents them. An option that the network does not "
        "take raises an error. Defaults here, if the network takes them: {network_defaults}. With "
        '``head="none"``, ``n_outputs`` is the number of logits.',
    ),
    "head": _choice(
        HEADS,
        "What turns the network's output z into predictions: a linear layer, or z itself as logits or standardised "
        "targets, as in the authors' program.",
    ),
    "head (density)": _choice(
        DENSITY_HEADS,
        "How the channels of a frame depend on each other. Given the past, they are independent with a linear layer "
        '("linear") or with the network\'s output as logits ("none"). They form an autoregressive chain with an exact '
        'joint log-likelihood ("nade", RNN-NADE), or a restricted Boltzmann machine whose log-likelihood is an '
        'estimate ("rbm", RNN-RBM).',
    ),
    "n_hidden": _count('Number of hidden units of the heads "nade" and "rbm".'),
    "pooling": _choice(
        POOLINGS,
        "What the head reads: the output after the last step, the mean or the greatest output of all steps, or these "
        "three side by side.",
    ),
    "time_channel": Parameter(
        "int or None",
        [Integral, None],
        "Number of the channel of X that holds time stamps. None counts steps. Networks with the option ``time`` "
        "use the time stamps in their phases. The channel stays an input of all networks.",
    ),
    "time_channel (bank)": Parameter(
        "int or None",
        [Integral, None],
        "Number of the channel of X that holds time stamps. None counts steps. The channel does not drive the "
        "oscillators.",
    ),
    "base": Parameter(
        '"ridge" or None',
        [StrOptions({"ridge"}), None],
        'What stands beside the network. "ridge" is the fixed memory read by ridge regression, as in '
        ":class:`sfmts.SFMRidgeClassifier` and :class:`sfmts.SFMRidgeRegressor`. ``validation_fraction`` of the series "
        "is set aside and decides for how many epochs the network is trained, and on its weight beside the base's "
        "leave-one-out predictions, possibly none. With fewer than 1000 series the network is left out from the start. "
        "With None it predicts alone, as in the paper.",
    ),
    "base (forecaster)": Parameter(
        '"pool" or None',
        [StrOptions({"pool"}), None],
        'What the model is weighed against. "pool" is a pool of simple forecasts of each variable, each weighted by '
        "the errors that it made in the past. The weight of the model is decided on the part held out, and is 0 where "
        "that has fewer than 10 horizons or 32 windows. With None the model forecasts alone, with its network.",
    ),
    # training
    "optimizer": _choice(
        OPTIMIZERS,
        'Optimizer of the network. "sgd" has Nesterov momentum 0.9, "adadelta" the decay 0.95 of the paper.',
    ),
    "optimizer_params": Parameter(
        "dict or None",
        [dict, None],
        'Further options of the training. ``"schedule"`` is "cosine" (default), which lowers the learning rate to 0 '
        'within ``max_iter`` epochs, or "constant". ``"weight_decay"`` (default 0.0) is the decay of the weights. '
        '``"clip_norm"`` (default 1.0) is the greatest norm of a gradient, longer ones are scaled down; None keeps '
        'all gradients. ``"checkpoint_seconds"`` (default 60.0) is the time after which ``checkpoint`` is written '
        "again.",
    ),
    "learning_rate_init": Parameter(
        "float", [Interval(Real, 0, None, closed="neither")], "Learning rate of the first update."
    ),
    "max_iter": _count("Maximum number of epochs."),
    "batch_size": Parameter(
        'int or "auto"',
        [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        'Number of series in a mini-batch. Series of similar length are put together, in random order. "auto" is a '
        "tenth of the series, but from 2 to 32: the number of updates decides how well a network learns, and with few "
        "series larger mini-batches would leave too few of them.",
    ),
    "batch_size (forecaster)": Parameter(
        'int or "auto"',
        [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        'Number of windows in a mini-batch. "auto" is a 64th of all windows, at least 16 and at most 256.',
    ),
    "early_stopping": _flag(
        "Set a part of the training series aside, stop when neither its score nor its loss improves, and keep the "
        "weights of the best epoch. Validation data given to ``fit`` take the place of this part."
    ),
    "early_stopping (forecaster)": _flag(
        "Set the last part of each series aside, choose the simple forecast, the number of epochs and the width of "
        "the quantiles on it, keep a regression only if it is better there, and weigh the model against the base. "
        "Otherwise, or with fewer than 8 such windows and without a base, the network trains for ``max_iter`` epochs, "
        "quantiles are those of the training residuals, and the simple forecast is the season "
        "before (without a season the last value) without a regression."
    ),
    "validation_fraction": Parameter(
        "float",
        [Interval(Real, 0, 1, closed="neither")],
        "Share that ``early_stopping`` sets aside: of the series, stratified by class in "
        ":class:`sfmts.SFMClassifier`, or of the end of each series in :class:`sfmts.SFMForecaster`.",
    ),
    "n_iter_no_change": _count(
        "Number of epochs without improvement after which training stops. With the cosine schedule and without "
        "``early_stopping``, only epochs with a loss below ``tol`` count, because the falling learning rate leads out "
        "of a plateau."
    ),
    "tol": Parameter(
        "float",
        [Interval(Real, 0, None, closed="left")],
        "Least improvement of the training loss or, with ``early_stopping``, of the validation score or loss.",
    ),
    "class_weight": Parameter(
        'dict, "balanced" or None',
        [dict, StrOptions({"balanced"}), None],
        "Weights of the classes, as in :class:`sklearn.linear_model.RidgeClassifier`. If each step has a label, "
        '"balanced" counts steps.',
    ),
    "warm_start": _flag("Let the next ``fit`` continue the training of the same network."),
    "random_state": Parameter(
        "int, RandomState instance or None",
        ["random_state"],
        "Seed of everything random: initial weights, order of the series, dropout and validation part of a network, "
        "or the oscillators of a bank. None is a new seed for each fit, independent of ``numpy.random.seed``.",
    ),
    "checkpoint": Parameter(
        "str, path or None",
        [str, os.PathLike, None],
        "File from which the next ``fit`` with the same data and parameters continues if this one is cut off, by "
        "SIGTERM, Ctrl-C or a crash; it ends with the same model to the bit. With a folder, each fit has a file of "
        "its own there, as searches and cross-validation need. The file is removed when the fit is complete. A file "
        "of another fit raises an error.",
    ),
    "verbose": Parameter("int", ["verbose"], "Show a progress bar with the remaining time."),
    "device": Parameter(
        "str",
        [str],
        'Where to compute: "cpu", "cuda", "cuda:1", or "auto". That is an NVIDIA GPU if there is one, the fit is long '
        "enough to pay for its start, and the network is fast there. Otherwise it is the CPU.",
    ),
    "layout": _choice(
        LAYOUTS,
        "Order of the axes of three-dimensional X: (series, time, channels) or (series, channels, time), as in sktime.",
    ),
    # the bank of oscillators
    "n_features": _count(
        "Number of features, rounded up to a multiple of 56: groups of 8 oscillators with 7 summaries."
    ),
    "periods": Parameter(
        "(float or None, float or None) or None",
        [tuple, list, None],
        "Shortest and longest period, in steps or in the unit of the time stamps. Periods are drawn uniformly on a "
        "logarithmic scale in between. None is 2.5 typical steps for the shortest, and for the longest the median "
        "duration of the training series, at least 1.5 times the shortest.",
    ),
    "decays": Parameter("(float, float)", [tuple, list], "Range of the decay times, in periods."),
    "directions": _choice(
        ("both", "forward"), "Read series in both directions, or forwards only, as ``stream`` needs."
    ),
    "scale": _choice(
        SCALES,
        "Scale each channel to mean 0 and deviation 1 over all training series or over each series alone, or feed "
        'half of the bank with each. "series" removes levels. Cross-validated on the training parts of the '
        'collections of ``benchmarks/archive.py``, "train" is the best of the three.',
    ),
    "n_jobs": Parameter(
        "int or None",
        [Integral, None],
        "Number of threads of the compiled kernel and of matrix products. None is as many as PyTorch uses, -1 all. "
        "The result does not depend on it.",
    ),
    "backend": _choice(BANK_BACKENDS, "Kernel of the bank, see :func:`sfmts.kernels.summarize_bank`."),
    # forecasting
    "sp": Parameter(
        "int or list of int",
        [Interval(Integral, 1, None, closed="left"), list, tuple],
        "Seasonal periodicity: number of steps in a season; 1 if there is no season. A list holds several seasons, "
        "such as [24, 168] for hours of a day and of a week. Seasons of more than 1000 steps take a minute or more to "
        "fit.",
    ),
    "lower": Parameter(
        'float, "auto" or None',
        [Interval(Real, None, None, closed="neither"), StrOptions({"auto"}), None],
        'Least value that y can take; no forecast is below. "auto" is 0 for variables without negative values '
        "(``lower_`` says what was decided), None no bound.",
    ),
    "upper": Parameter(
        "float or None",
        [Interval(Real, None, None, closed="neither"), None],
        "Greatest value that y can take; no forecast is above. None is no bound.",
    ),
    "context_length": _optional_count(
        "Number of past steps that are read. None is an eighth of the (median) series, but at least two seasons and "
        "12 steps, and at most 14 seasons, twice the horizon, or 96 steps, whichever is longest. A context that is "
        "longer than the longest series is cut."
    ),
    "horizon": _optional_count(
        "Number of steps that are forecast in parallel. None is the last step of the ``fh`` given to ``fit``, or two "
        "seasons and at least 12 steps without it. For later steps ``predict`` continues from the medians."
    ),
    "segment_length": _optional_count(
        "Number of steps that the network reads at once. None is 1 for contexts up to 64 steps, otherwise a season if "
        "the context has 8 of at most 64 steps, otherwise a 16th of the context."
    ),
    "multivariate": _choice(
        ("independent", "joint"),
        "Give each variable of y its own windows, in one model, or let each window hold all variables, so that they "
        "can explain each other.",
    ),
    "past_covariates": Parameter(
        "list of column names or None",
        ["array-like", None],
        "Columns of X that are unknown from the forecast on, such as measurements. Only their past is read, and X in "
        "``predict`` may lack them. None is no such column.",
    ),
    "calendar_features": _flag(
        "Read the time of day, of the week and of the year as further covariates. y must be indexed by dates."
    ),
    "refit": _flag("Train once more on whole series after ``early_stopping``."),
    "fine_tune": _flag(
        "Let ``fit`` train a pretrained model on the series it is given. Otherwise they only become its context."
    ),
}

OPTIMIZER_PARAMETERS: dict[str, list[Any]] = {
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "schedule": [StrOptions(set(SCHEDULES))],
    "checkpoint_seconds": [Interval(Real, 0, None, closed="left")],
}


# -- classes


Class = TypeVar("Class", bound=type)


def documented(variant: str = "") -> Callable[[Class], Class]:
    """Return a class decorator that adds the constraints and the documentation of an estimator's parameters.

    It sets ``_parameter_constraints``, and replaces ``{parameters}`` in the docstring by an entry for each parameter,
    in the order of the signature.
    """

    def decorate(cls: Class) -> Class:
        parameters = parameters_of(cls, variant)
        cls._parameter_variant = variant  # type: ignore[attr-defined]
        cls._parameter_constraints = {  # type: ignore[attr-defined]
            name: parameter.constraints for name, parameter in parameters.items()
        }
        if cls.__doc__ is not None:  # Python was not started with -OO
            cls.__doc__ = _with_entries(cls, parameters)
        return cls

    return decorate


def signature_of(cls: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class's ``__init__``, in order."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def parameters_of(cls: type, variant: str = "") -> dict[str, Parameter]:
    """Return the entry of the table for each parameter of a class."""
    return {name: PARAMETERS.get(f"{name} ({variant})") or PARAMETERS[name] for name in signature_of(cls)}


def _with_entries(cls: type, parameters: dict[str, Parameter]) -> str:
    """Return the docstring of a class with the entries of its parameters."""
    before, placeholder, after = (cls.__doc__ or "").partition("{parameters}")
    if not placeholder:
        raise ValueError(f"The docstring of {cls.__name__} has no {{parameters}}.")
    indent = before[before.rfind("\n") + 1 :]
    defaults = getattr(cls, "_network_defaults", {})
    network_defaults = " and ".join(f"``{name}={default_text(value)}``" for name, value in defaults.items())
    lines = []
    for name, parameter in signature_of(cls).items():
        lines.append(f"{name} : {parameters[name].type}, default={default_text(parameter.default)}")
        meaning = parameters[name].meaning.replace("{network_defaults}", network_defaults)
        width = _WIDTH - len(indent)
        lines += textwrap.wrap(meaning, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return before + f"\n{indent}".join(lines) + after


def default_text(value: Any) -> str:
    """Return a default as documentation shows it."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def store_parameters(estimator: Any, parameters: dict[str, Any]) -> None:
    """Set the parameters of an estimator, which are the local variables of its ``__init__``."""
    for name, value in parameters.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


# -- values


def plain(value: Any, depth: int = 0) -> Any:
    """Return a parameter with NumPy's numbers, also those in lists, tuples and dictionaries, as Python's.

    Estimators keep the parameters that they were given, because scikit-learn's ``clone`` requires it. Everything
    behind them gets what this function returns, because PyTorch refuses many of NumPy's numbers.
    """
    if isinstance(value, np.generic):
        return value.item()
    if depth == _DEEPEST:  # a list may contain itself
        return value
    if type(value) is dict:
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    return type(value)(plain(item, depth + 1) for item in value) if type(value) in (list, tuple) else value


def plain_parameters(estimator: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the named parameters of an estimator, with NumPy's numbers as Python's."""
    return {name: plain(getattr(estimator, name)) for name in names}


def validate_parameters(estimator: Any) -> None:
    """Raise an error if a parameter of a trained estimator, or an entry of ``optimizer_params``, is invalid.

    Raises
    ------
    InvalidParameterError
        A ValueError that names the parameter.
    """
    parameters = estimator.get_params(deep=False)
    validate(estimator._parameter_constraints, parameters, type(estimator).__name__)
    given = parameters["optimizer_params"] or {}
    for name in given:
        if name not in OPTIMIZER_PARAMETERS:
            known = ", ".join(map(repr, OPTIMIZER_PARAMETERS))
            raise InvalidParameterError(f"optimizer_params has {name!r}, which is unknown; it takes {known}.")
    validate(OPTIMIZER_PARAMETERS, given, "optimizer_params")


def validate(constraints: dict[str, list[Any]], parameters: dict[str, Any], caller_name: str) -> None:
    """Raise an InvalidParameterError if a parameter has a type or a value that is not allowed."""
    refuse_booleans(constraints, parameters, caller_name)
    validate_parameter_constraints(constraints, parameters, caller_name=caller_name)


def refuse_booleans(constraints: dict[str, list[Any]], parameters: dict[str, Any], caller_name: str) -> None:
    """Raise an error if a boolean is given instead of a number: Python would count it as 0 or 1.

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


def own_network_options(estimator: Any) -> dict[str, Any]:
    """Return a copy of ``network_params`` with the estimator's defaults for options that the network takes.

    Raises
    ------
    ValueError
        If a key is not an option of the network, or is set by a parameter of the estimator or by ``fit``.
    """
    network, given = estimator.network, estimator.network_params or {}
    own = [name for name in network_options(network) if name not in (*NETWORK_PARAMETERS, *_SET_BY_FIT)]
    parameters = signature_of(type(estimator))
    for name in given:
        if name not in own:
            hint = f", which is a parameter of {type(estimator).__name__} itself" if name in parameters else ""
            known = ", ".join(map(repr, own)) or "nothing"
            raise ValueError(f"network_params has {name!r}{hint}; network={network!r} takes {known} in it.")
    if given.get("time") == "timestamps":
        hint = "set time_channel instead" if "time_channel" in parameters else f"{type(estimator).__name__} has none"
        raise ValueError(f"network_params has time='timestamps', but no channel with time stamps; {hint}.")
    defaults = {name: value for name, value in estimator._network_defaults.items() if name in own}
    options: dict[str, Any] = plain({**defaults, **copy.deepcopy(given)})
    return options


def checkpoint_identity(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator on which its model depends, with those of ``optimizer_params`` apart."""
    parameters = plain(estimator.get_params(deep=False))
    settings = asdict(training_settings(estimator, batch_size=parameters["batch_size"]))
    left_out = ("checkpoint", "device", "optimizer_params", *NOT_OF_THE_RESULT)
    found = {name: value for name, value in {**parameters, **settings}.items() if name not in left_out}
    return {"estimator": type(estimator).__name__, **found}


def training_settings(estimator: Any, **changes: Any) -> TrainingSettings:
    """Return the training settings of an estimator with some of them changed."""
    names = TrainingSettings.__dataclass_fields__.keys() - OPTIMIZER_PARAMETERS.keys()
    given = plain(estimator.optimizer_params or {})
    return TrainingSettings(**{**plain_parameters(estimator, names), **given, **changes})
