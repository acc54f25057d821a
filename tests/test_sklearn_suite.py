"""scikit-learn's own conformance suite, on default instances, with nothing expected to fail and nothing skipped."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.helpers import SUITE_ESTIMATORS


@parametrize_with_checks(SUITE_ESTIMATORS)
@pytest.mark.filterwarnings("error::sklearn.exceptions.SkipTestWarning")
def test_conformance(estimator, check):
    check(estimator)
