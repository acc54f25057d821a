"""Stand-ins for what older releases of scikit-learn and sktime lack.

Each entry names the release that makes it unnecessary.
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import sklearn

__all__ = [
    "CallbackSupportMixin",
    "forecaster_tags",
    "known_tags",
    "make_scorer",
    "must_remember_data",
    "require_pretrain",
    "with_callbacks",
]

Method = TypeVar("Method", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
    from sklearn.metrics import make_scorer
except ModuleNotFoundError:  # scikit-learn < 1.9 has no callbacks: setting one fails, and there is nobody to notify
    from sklearn.metrics._scorer import _Scorer

    class _Nobody:
        """A callback context without callbacks."""

        def subcontext(self, **_: Any) -> "_Nobody":
            return self

        def call_on_fit_task_begin(self, **_: Any) -> None:
            pass

        def call_on_fit_task_end(self, **_: Any) -> bool:
            return False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for scikit-learn's mixin."""

        def set_callbacks(self, *callbacks: Any) -> NoReturn:
            """Say that callbacks need a newer scikit-learn."""
            raise ImportError(
                f"Callbacks need scikit-learn 1.9 or newer, but {sklearn.__version__} is installed. Upgrade it, "
                "or do without: verbose=1 shows the progress, and history_ has the losses after fit."
            )

        def _init_callback_context(self, **_: Any) -> _Nobody:
            return _Nobody()

    def with_callbacks(method: Method) -> Method:
        """Return the method as it is."""
        return method

    class _PlainScorer(_Scorer):  # before scikit-learn 1.9, only classifiers may have probabilities
        """A scorer that calls any method of any estimator."""

        def _score(self, method_caller: Any, estimator: Any, X: Any, y_true: Any, **options: Any) -> float:
            def called(estimator: Any, method: str, X: Any, **_: Any) -> Any:
                return getattr(estimator, method)(X)

            return float(super()._score(called, estimator, X, y_true, **options))

        def __repr__(self) -> str:  # scikit-learn's needs the name of the function, which partial functions lack
            return f"make_scorer({self._score_func})"

    def make_scorer(
        score_func: Callable[..., float],
        *,
        response_method: str = "predict",
        greater_is_better: bool = True,
        **options: Any,
    ) -> Any:
        """Return a scorer as scikit-learn 1.9 makes it of an estimator that is no classifier."""
        return _PlainScorer(score_func, 1 if greater_is_better else -1, options, response_method)


def known_tags(tags: dict[str, Any]) -> dict[str, Any]:
    """Return those of an estimator's tags that the installed sktime knows; all of them from sktime 1.0 on."""
    from sktime.registry import ESTIMATOR_TAG_LIST

    known = set(ESTIMATOR_TAG_LIST)
    return {name: value for name, value in tags.items() if name in known}


def forecaster_tags(tags: dict[str, Any]) -> dict[str, Any]:
    """Return :func:`known_tags` of a forecaster of several variables, also under the names before sktime 1.0."""
    from sktime.forecasting.base import BaseForecaster

    old = {"scitype:y": "both"} if "scitype:y" in BaseForecaster._tags else {}
    return {**known_tags(tags), **old}


def must_remember_data() -> bool:
    """Return whether sktime sets the cutoff only of forecasters that remember their data, as before sktime 1.2."""
    import sktime
    from packaging.version import Version

    return Version(sktime.__version__) < Version("1.2")


def require_pretrain(base: type) -> None:
    """Raise an error if sktime's base of forecasters cannot pretrain, as before sktime 1.0."""
    if not hasattr(base, "pretrain"):
        import sktime

        raise ImportError(
            f"pretrain needs sktime 1.0 or newer, but {sktime.__version__} is installed. Upgrade it, or fit the "
            "forecaster to the whole panel at once."
        )
