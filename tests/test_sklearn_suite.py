import os
os.environ["SCIPY_ARRAY_API"]="1"
from sklearn.utils.estimator_checks import parametrize_with_checks
from sfmts import SFMClassifier

@parametrize_with_checks([SFMClassifier()])
def test_sklearn_suite(estimator, check):
    check(estimator)
