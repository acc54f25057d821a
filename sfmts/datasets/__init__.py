"""Data sets: generated waves, piano-rolls, ETTh1 and TIMIT."""

from sfmts.datasets.ett import fetch_etth1
from sfmts.datasets.piano_rolls import fetch_piano_rolls, midi_to_roll, roll_to_midi
from sfmts.datasets.timit import frame_labels, load_timit, mfcc
from sfmts.datasets.waves import count_distinct_values, make_periods, make_waves

__all__ = [
    "count_distinct_values",
    "fetch_etth1",
    "fetch_piano_rolls",
    "frame_labels",
    "load_timit",
    "make_periods",
    "make_waves",
    "mfcc",
    "midi_to_roll",
    "roll_to_midi",
]


def __dir__() -> list[str]:
    return [*__all__]
