"""Sizes for fair comparisons: those of the paper's Table 1, and those of a given number of parameters."""

import copy
from typing import Any

import torch

from sfmts._choices import check_choice, check_size
from sfmts.networks.base import WithoutStorage, make_network

_LONGEST_GAP = 64  # after so many invalid sizes in a row, the options must be invalid for another reason
_MOST_CALLS = 10**6  # calls of PyTorch's functions allowed for building a network


def match_budget(
    network: str,
    n_parameters: int,
    n_channels: int,
    n_outputs: int,
    *,
    head: str = "linear",
    multiple_of: int = 1,
    **options: Any,
) -> int:
    """Return the ``n_states`` that brings a network with its output layer closest to a number of parameters.

    Sizes that are invalid for the network, such as odd ones for ``"associative_lstm"``, are skipped. If two sizes are
    equally close, the smaller one is returned. If the budget is below that of the smallest network, that is returned.

    Parameters
    ----------
    network : str
        A name from :func:`sfmts.networks.network_names`.
    n_parameters : int
        Trainable parameters to aim at.
    n_channels : int
        Width of the input.
    n_outputs : int
        Width of the output: the number of classes, labels or targets, or 1 for two classes.
    head : {"linear", "none"}
        "linear" is a linear layer with biases on top of the network. "none" is the network's own output, whose width
        must be ``n_outputs``; the SFM supports it.
    multiple_of : int
        Consider only multiples of this number, such as 5 for Clockwork modules of equal size.
    **options
        Options of the network except ``n_states``, as for :func:`sfmts.networks.make_network`.

    Returns
    -------
    n_states : int
        The size.

    Raises
    ------
    ValueError
        If the network, the head or an option is invalid, if the network does not grow with ``n_states``, or if a size
        is less than 1.
    TypeError
        If a size is not an integer.

    Examples
    --------
    >>> from sfmts.networks import match_budget
    >>> match_budget("lstm", 139_000, n_channels=88, n_outputs=88)
    139
    >>> match_budget("recurrent_highway", 139_000, n_channels=88, n_outputs=88, depth=4)
    116
    """
    check_choice("head", head, ("linear", "none"))
    n_parameters, n_outputs = check_size("n_parameters", n_parameters), check_size("n_outputs", n_outputs)
    multiple_of = check_size("multiple_of", multiple_of)

    def first_from(multiple: int) -> tuple[int, int]:  # the first valid size from this multiple on, and its count
        for n_states in range(multiple * multiple_of, (multiple + _LONGEST_GAP) * multiple_of, multiple_of):
            try:
                return n_states, _count(network, n_channels, n_outputs, head, {**options, "n_states": n_states})
            except ValueError as error:
                refusal = error
        raise refusal

    above = 1
    while first_from(above)[1] < n_parameters:
        above *= 2
        if above > 2 * n_parameters:
            raise ValueError(f"network={network!r} does not grow to {n_parameters} parameters with n_states.")
    below = above // 2  # too small, or 0
    while above - below > 1:
        middle = (above + below) // 2
        if first_from(middle)[1] < n_parameters:
            below = middle
        else:
            above = middle
    candidates = [first_from(multiple) for multiple in (below, above) if multiple]
    return min(candidates, key=lambda candidate: abs(candidate[1] - n_parameters))[0]


def _count(network: str, n_channels: int, n_outputs: int, head: str, options: dict[str, Any]) -> int:
    """Count the trainable parameters of a network with its head."""
    if head == "none":
        options = {**options, "n_outputs": n_outputs}
    options = {**options, "generator": torch.Generator()}
    try:
        with WithoutStorage(most_calls=_MOST_CALLS):
            module = make_network(network, n_channels, **options)
    except (RuntimeError, TypeError):  # a registered network of a user that needs real numbers
        module = make_network(network, n_channels, **options)
    if head == "linear":
        return module.n_parameters + (module.output_size + 1) * n_outputs
    if module.output_size != n_outputs:
        raise ValueError(
            f"head='none' needs a network whose output has n_outputs={n_outputs} numbers, but that of {network!r} has "
            f"{module.output_size}. Use head='linear'."
        )
    return module.n_parameters


# n_states for each task, None where the table has no entry, and the options that reproduce its parameter counts.
_TASKS = ("waves", "music", "timit")
_TABLE_1: dict[str, tuple[tuple[int | None, int | None, int | None], dict[str, Any]]] = {
    "a_sfm": ((50, 50, 30), {"network": "sfm", "network_params": {"frequencies": "adaptive"}, "head": "none"}),
    "act": ((18, 164, 141), {"network_params": {"cell": "gru"}}),
    "associative_lstm": ((14, 130, 114), {}),
    "bi_lstm": ((None, None, 93), {"network": "lstm", "bidirectional": True}),
    "clockwork_rnn": ((30, 295, 245), {"network_params": {"full": True}}),
    "gru": ((18, 164, 141), {}),
    "lstm": ((15, 139, 122), {}),
    "phased_lstm": ((15, 139, 122), {}),
    "recurrent_highway": ((9, 94, 76), {"network_params": {"depth": 4, "coupled": False}}),
    "sfm": ((50, 50, 30), {"head": "none"}),
}


def paper_preset(task: str, network: str) -> dict[str, Any]:
    """Return parameters that give an estimator the size of a row of the paper's Table 1.

    A preset sets sizes only, not training. Its options are those that reproduce the table's counts of 1 k, 139 k and
    80 k: a full recurrent matrix in the Clockwork RNN, separate carry gates in the recurrent highway network, a GRU in
    adaptive computation time, and the SFM's own output as logits. In classifiers ``base`` is None and ``pooling`` is
    "last", because the paper's networks predict alone, after the last step. The associative LSTM has the sizes of
    :func:`match_budget`, because the table's 15 and 139 are odd and cannot be split into real and imaginary parts. At
    those sizes it would also have one eighth too many weights.

    Parameters
    ----------
    task : {"waves", "music", "timit"}
        Task, for :class:`sfmts.SFMClassifier`, :class:`sfmts.SFMDensity` and :class:`sfmts.SFMLabeler`.
    network : str
        "sfm", "lstm", "gru", "clockwork_rnn", "act", "recurrent_highway", "associative_lstm", "phased_lstm", "a_sfm"
        (the SFM with adaptive frequencies) or, for TIMIT, "bi_lstm" (the LSTM in both directions).

    Returns
    -------
    parameters : dict
        Keyword arguments of the estimator.

    Raises
    ------
    ValueError
        If the table does not have the task or the row.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> from sfmts import SFMClassifier
    >>> from sfmts.networks import paper_preset
    >>> paper_preset("waves", "clockwork_rnn")
    {'network': 'clockwork_rnn', 'network_params': {'full': True}, 'n_states': 30, 'base': None, 'pooling': 'last'}
    >>> model = SFMClassifier(**paper_preset("waves", "lstm"))
    """
    check_choice("task", task, _TASKS)
    sizes = {row: states[_TASKS.index(task)] for row, (states, _) in _TABLE_1.items()}
    rows = [row for row, size in sizes.items() if size is not None]
    if not isinstance(network, str) or network not in rows:
        known = ", ".join(map(repr, rows))
        raise ValueError(f"The paper's Table 1 has no network={network!r} for task={task!r}; choose one of {known}.")
    preset = {"network": network, **copy.deepcopy(_TABLE_1[network][1]), "n_states": sizes[network]}
    if task == "waves":
        preset |= {"base": None, "pooling": "last"}
    return {**preset, "n_frequencies": 8 if task == "timit" else 4} if preset["network"] == "sfm" else preset
