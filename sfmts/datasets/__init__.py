"""Data sets."""

from sfmts.datasets.waves import count_distinct_values, make_waves

__all__ = ["count_distinct_values", "make_waves"]
