"""Stand-ins for what older releases of scikit-learn and sktime lack."""

import importlib.util
import sys
from functools import partial

import pytest
from sklearn.base import BaseEstimator

from sfmts import _compat


@pytest.fixture
def without_callbacks(monkeypatch):
    """Return the module as it is with scikit-learn < 1.9."""
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    spec = importlib.util.spec_from_file_location("compat_without_callbacks", _compat.__file__)
    old = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(old)
    return old


def test_callbacks_need_a_newer_scikit_learn(without_callbacks):
    estimator = without_callbacks.CallbackSupportMixin()
    with pytest.raises(ImportError, match=r"Callbacks need scikit-learn 1\.9 or newer, but .* is installed"):
        estimator.set_callbacks(object())


def test_without_callbacks_nothing_stops_a_fit(without_callbacks):
    context = without_callbacks.CallbackSupportMixin()._init_callback_context(max_subtasks=2)
    context.call_on_fit_task_begin(estimator=None, X=None, y=None, metadata=None)
    epoch = context.subcontext(task_name="epoch")
    assert epoch.call_on_fit_task_end(estimator=None, reconstruction_attributes={}) is False


def test_scorers_take_probabilities_of_any_estimator(without_callbacks):
    class Halves(BaseEstimator):
        def predict_proba(self, X):
            return [0.5] * len(X)

    scorer = without_callbacks.make_scorer(
        partial(lambda y, p, factor: factor * sum(p), factor=2.0),
        response_method="predict_proba",
        greater_is_better=False,
    )
    assert scorer(Halves(), [[0], [1], [2]], [0, 0, 1]) == -3.0
    assert repr(scorer).startswith("make_scorer(")


def test_tags_that_sktime_does_not_know_are_left_out():
    assert _compat.known_tags({"X_inner_mtype": "numpy3D", "no such tag": True}) == {"X_inner_mtype": "numpy3D"}


def test_forecasters_take_several_variables_in_each_sktime(monkeypatch):
    from sktime.forecasting.base import BaseForecaster

    assert _compat.forecaster_tags({"no such tag": True}).keys() <= {"scitype:y"}
    monkeypatch.setattr(BaseForecaster, "_tags", {"scitype:y": "univariate"})  # as before sktime 1.0
    assert _compat.forecaster_tags({"no such tag": True}) == {"scitype:y": "both"}


@pytest.mark.parametrize(("version", "expected"), [("0.37.0", True), ("1.1.0", True), ("1.2.0", False)])
def test_data_are_remembered_before_sktime_1_2(monkeypatch, version, expected):
    import sktime

    monkeypatch.setattr(sktime, "__version__", version)
    assert _compat.must_remember_data() is expected


def test_pretraining_needs_a_newer_sktime():
    with pytest.raises(ImportError, match=r"pretrain needs sktime 1\.0 or newer, but .* is installed"):
        _compat.require_pretrain(object)
