"""scikit-learn's own conformance suite: default instances and networks alone, nothing expected to fail or skipped."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.helpers import SUITE_ESTIMATORS


@parametrize_with_checks(SUITE_ESTIMATORS)
@pytest.mark.filterwarnings("error::sklearn.exceptions.SkipTestWarning")
def test_conformance(estimator, check):
    check(estimator)
