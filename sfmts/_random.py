"""Generators of random numbers that are independent of NumPy's global one."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def new_random_state(random_state: Any) -> np.random.RandomState:
    """Return the generator of ``random_state``, or a new one for None; raise ValueError if it is no seed."""
    try:
        return np.random.RandomState() if random_state is None else check_random_state(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"random_state must be an integer, a RandomState or None: {error}") from error
