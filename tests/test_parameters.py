"""Parameters of every estimator: one table documents them; NumPy's numbers count as Python's, booleans do not."""

import inspect
import itertools
import re
from numbers import Integral, Real

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from sfmts import (
    SFMClassifier,
    SFMDensity,
    SFMFeatures,
    SFMForecaster,
    SFMLabeler,
    SFMRegressor,
    SFMRidgeClassifier,
    SFMRidgeRegressor,
)
from sfmts import sktime as faces
from sfmts._choices import check_choice
from sfmts.estimators._parameters import OPTIMIZER_PARAMETERS, PARAMETERS, parameters_of
from sfmts.training import TrainingSettings
from tests.helpers import alone, make_panel

ESTIMATORS = {
    "classifier": SFMClassifier,
    "regressor": SFMRegressor,
    "labeler": SFMLabeler,
    "density": SFMDensity,
    "forecaster": SFMForecaster,
}
BANKS = [SFMFeatures, SFMRidgeClassifier, SFMRidgeRegressor]
FACES = [getattr(faces, name) for name in faces.__all__]
ALL = [*ESTIMATORS.values(), *BANKS, *FACES]
every_class = pytest.mark.parametrize("cls", ALL, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
every_estimator = pytest.mark.parametrize("cls", ESTIMATORS.values(), ids=ESTIMATORS)
NUMBERS = {
    "n_states": 4,
    "n_frequencies": 2,
    "n_layers": 1,
    "dropout": 0.25,
    "learning_rate_init": 0.25,
    "max_iter": 2,
    "batch_size": 8,
    "validation_fraction": 0.25,
    "n_iter_no_change": 2,
    "tol": 0.5,
    "random_state": 0,
    "verbose": 0,
    "time_channel": 1,
    "n_hidden": 3,
    "sp": 2,
    "lower": 0,
    "upper": 100,
    "context_length": 6,
    "horizon": 2,
    "segment_length": 2,
}
INTEGERS = (np.int64, np.int32, np.uint8)
REALS = (np.float32, np.float16, np.float64)


def fit(model):
    """Fit a model to data of its kind and return what it predicts."""
    X, y = make_panel(n=24)
    X[:, :, 1].sort(axis=1)  # time stamps do not decrease
    if isinstance(model, SFMForecaster):
        series = pd.DataFrame({"a": X[:4, :, 0].ravel() ** 2})
        return model.fit(series, fh=[1, 2]).predict().to_numpy()
    if isinstance(model, SFMDensity):
        return model.fit((X > 0).astype(float)).predict_proba((X > 0).astype(float))
    if isinstance(model, SFMLabeler):
        return model.fit(X, (X[:, :, 0] > 0).astype(int)).predict_proba(X)
    if isinstance(model, SFMRegressor):
        return model.fit(X, X.sum(axis=(1, 2))).predict(X)
    return model.fit(X, y).predict_proba(X)


def numbers_of(cls):
    """Return a value for each parameter of a class that takes numbers."""
    numbers = {name: value for name, value in NUMBERS.items() if name in cls().get_params()}
    taken = {
        name
        for name, allowed in cls._parameter_constraints.items()
        if any(isinstance(kind, Interval) or kind in (Integral, Real) for kind in allowed)
    }
    assert taken <= numbers.keys()
    return numbers


def defaults_of(cls):
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}


@every_class
def test_every_parameter_is_in_the_table(cls):
    """And defaults satisfy the constraints there."""
    entries = parameters_of(cls, cls._parameter_variant)
    assert list(entries) == list(inspect.signature(cls).parameters)
    assert cls._parameter_constraints == {name: entry.constraints for name, entry in entries.items()}
    defaults = defaults_of(cls)
    validate_parameter_constraints(cls._parameter_constraints, defaults, caller_name=cls.__name__)
    assert defaults == cls().get_params()


def test_every_entry_of_the_table_is_used():
    used = [entry for cls in ALL for entry in parameters_of(cls, cls._parameter_variant).values()]
    unused = [name for name, entry in PARAMETERS.items() if not any(entry is other for other in used)]
    assert unused == []


@every_class
def test_every_parameter_is_documented(cls):
    """In the order of the signature, with type, default and a meaning."""
    section = cls.__doc__.partition("Parameters\n")[2].partition("\n\n")[0]
    indent = re.match(r" *-+\n( *)", section)[1]
    entries = re.findall(rf"^{indent}(\w+) : (.+), default=(.+)\n((?:{indent}    .+\n?)+)", section, re.MULTILINE)
    defaults = defaults_of(cls)
    assert [name for name, *_ in entries] == list(defaults)
    for name, kind, default, meaning in entries:
        assert kind == parameters_of(cls, cls._parameter_variant)[name].type
        assert eval(default) == defaults[name]
        assert meaning.rstrip().endswith(".")
    assert max(map(len, section.splitlines())) <= 120
    assert "{" not in re.sub(r'\{"[^{}]*"\}|\{"\w+": "\w+"\}', "", section)


@every_class
def test_parameters_are_stored_and_unknown_ones_refused(cls):
    for name, value in defaults_of(cls).items():
        marker = object()
        model = cls(**{name: marker})
        assert model.get_params()[name] is marker
        assert cls().set_params(**{name: value}).get_params()[name] is value
    assert clone(cls()).get_params() == cls().get_params()
    assert not [name for name in vars(cls()) if name not in defaults_of(cls) and not name.startswith("_")]
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'nonsense'"):
        cls(nonsense=1)
    with pytest.raises(TypeError):
        cls(*[1] * (len(defaults_of(cls)) + 1))


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_a_face_has_the_parameters_of_its_native_estimator(face):
    native = dict(inspect.signature(face._native).parameters)
    assert native.pop("layout").default == "ntc"
    assert dict(inspect.signature(face).parameters) == native
    assert face.__init__.__qualname__ == f"{face.__name__}.__init__"


@every_estimator
def test_optimizer_params(cls):
    """Defaults are those of the training loop, and each entry reaches it."""
    settings = TrainingSettings()
    spelled_out = {name: getattr(settings, name) for name in OPTIMIZER_PARAMETERS}
    options = {"max_iter": 2, "random_state": 0, "n_states": 4}
    expected = fit(cls(**options))
    np.testing.assert_array_equal(fit(cls(optimizer_params=spelled_out, **options)), expected)
    with pytest.raises(ValueError, match="'clip_norm' parameter of optimizer_params must not be a boolean"):
        fit(cls(optimizer_params={"clip_norm": True}, **options))
    with pytest.raises(ValueError, match=r"optimizer_params has 'momentum', which is unknown; it takes 'weight_decay'"):
        fit(cls(optimizer_params={"momentum": 0.9}, **options))


@every_estimator
def test_defaults_of_the_network(cls):
    """They hold where network_params say nothing, and for networks that take them."""
    options = {"max_iter": 1, "random_state": 0, "n_states": 4, **alone(cls)}
    defaults = cls._network_defaults
    for network in ("sfm", "lstm", "resonator"):
        expected = fit(cls(network, **options))
        np.testing.assert_array_equal(fit(cls(network, network_params=defaults, **options)), expected)
    other = {"init": "paper"}
    assert (fit(cls(network_params=other, **options)) != fit(cls(**options))).any() or cls is SFMForecaster


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("number", range(3), ids=["int64, float32", "int32, float16", "uint8, float64"])
@every_estimator
def test_numbers_of_numpy(cls, number):
    """All numbers may be NumPy's; the fit is the same, and the parameters stay what was given."""
    plain = {**numbers_of(cls), "early_stopping": True, "optimizer": "rmsprop"}
    kinds = {bool: np.bool_, int: INTEGERS[number], float: REALS[number], str: np.str_}
    given = {name: kinds[type(value)](value) for name, value in plain.items()}
    model = cls(**given)
    np.testing.assert_array_equal(fit(model), fit(cls(**plain)))
    for name, value in given.items():
        assert model.get_params()[name] is value
        copied = clone(model).get_params()[name]
        assert type(copied) is type(value)
        assert copied == value


@every_estimator
def test_numbers_of_numpy_for_one_network_alone(cls):
    plain, given = ({"depth": number(2), "coupled": number(0)} for number in (int, np.int64))
    plain["coupled"], given["coupled"] = False, np.bool_(False)
    options = {"max_iter": 1, "random_state": 0, "n_states": 4}
    model = cls("recurrent_highway", network_params=given, **options)
    np.testing.assert_array_equal(fit(model), fit(cls("recurrent_highway", network_params=plain, **options)))
    assert model.network_params is given


def test_a_grid_of_numpy_numbers():
    X, y = make_panel(n=24)
    grid = {"batch_size": 2 ** np.arange(2, 5), "n_states": np.arange(2, 4)}
    search = GridSearchCV(SFMClassifier(base=None, max_iter=1, random_state=0), grid, cv=2, error_score="raise").fit(
        X, y
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@every_estimator
def test_booleans_are_no_numbers(cls):
    for name, value in itertools.product(numbers_of(cls).keys() - {"verbose"}, [True, False, np.bool_(True)]):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of {cls.__name__} must not be a boolean"):
            fit(cls(**{name: value}))


@pytest.mark.parametrize(
    "value",
    [["lstm"], {"lstm": 1}, {"lstm"}, np.array(["lstm", "gru"]), np.zeros(3), torch.zeros(3), None, 3, object()],
    ids=lambda value: type(value).__name__,
)
def test_a_choice_of_any_type_is_a_sentence(value):
    with pytest.raises(ValueError, match=r"Unknown network .*; choose one of 'gru', 'lstm'\."):
        check_choice("network", value, ("gru", "lstm"))


def test_a_long_choice_is_shortened():
    with pytest.raises(ValueError, match="Unknown network") as caught:
        check_choice("network", np.arange(900.0), ("gru",))
    assert len(str(caught.value)) < 300


def test_choices():
    check_choice("network", np.str_("gru"), ("gru", "lstm"))
    check_choice("n_phones", np.int64(39), (61, 39))
    for value in (True, np.array([1]), 1.5, "1"):
        with pytest.raises(ValueError, match="Unknown n_derivatives"):
            check_choice("n_derivatives", value, (0, 1, 2))


def test_network_params_are_checked():
    X, y = make_panel(n=24)
    with pytest.raises(TypeError, match="recurrent_dropout must be a number, not False"):
        SFMClassifier(base=None, network_params={"recurrent_dropout": False}).fit(X, y)
    with pytest.raises(ValueError, match=r"head='none' needs n_outputs=\d+, .* but network_params has n_outputs=7"):
        SFMClassifier("sfm", base=None, head="none", pooling="last", network_params={"n_outputs": 7}).fit(X, y)
    with pytest.raises(ValueError, match=r"head='none' .*, but pooling='all' triples its width. .*pooling='last'"):
        SFMClassifier("sfm", base=None, head="none").fit(X, y)
