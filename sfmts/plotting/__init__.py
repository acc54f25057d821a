"""Displays that draw what a network read, remembered and predicted, in scikit-learn's convention.

A Display holds computed arrays, which are its attributes. ``plot`` draws them and sets attributes that end in an
underscore. The class methods compute and draw in one call. All of them need matplotlib: ``pip install '.[plot]'``.

Colours are those of Okabe and Ito or perceptually uniform maps. Lines also differ by marker and dashes, so that
pictures can be read without colour. A figure that is made here uses constrained layout; the layout of a figure that you
pass is not changed.
"""

from sfmts.plotting._amplitudes import AmplitudeDisplay
from sfmts.plotting._forecast import ForecastDisplay
from sfmts.plotting._frequency_importance import FrequencyImportanceDisplay
from sfmts.plotting._piano_roll import PianoRollDisplay
from sfmts.plotting._training_curve import TrainingCurveDisplay
from sfmts.plotting._waves import WaveDisplay

__all__ = [
    "AmplitudeDisplay",
    "ForecastDisplay",
    "FrequencyImportanceDisplay",
    "PianoRollDisplay",
    "TrainingCurveDisplay",
    "WaveDisplay",
]


def __dir__() -> list[str]:
    return [*__all__]
