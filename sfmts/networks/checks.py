"""The contract of networks as checks that users can run on their own networks."""

import copy
import functools
import inspect
import io
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from sfmts._choices import check_size
from sfmts.networks._common import INITIALISATIONS
from sfmts.networks.base import CONTRACT_ATTRIBUTES, NetworkOutput, SequenceNetwork, network_class

_LENGTHS = (9, 3, 7, 1)
_STEPS = max(_LENGTHS)
_N_STATES = 10  # even, and a multiple of five: some networks divide their states into pairs or modules
_TOLERANCE = 1e-12  # absolute and relative, in float64
_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"n_layers": 2},
    {"bidirectional": True},
    {"n_layers": 2, "bidirectional": True},
    {"recurrent_dropout": 0.4},
    {"time": "timestamps"},
    {"time": "timestamps", "bidirectional": True},
)


def check_network(network: str | Callable[..., SequenceNetwork], *, n_channels: int = 3, **options: Any) -> None:
    """Check that a network keeps the contract of :class:`sfmts.networks.SequenceNetwork`.

    Parameters
    ----------
    network : str, class or callable
        A registered name, or a callable that builds a network: ``network(n_channels, generator=..., **options)``.
    n_channels : int
        Width of the input.
    **options
        Options of every network under test; ``n_states`` is 10 by default.

    Raises
    ------
    AssertionError
        If a check fails. The message names the network, its options and the failure.

    Notes
    -----
    ``network_checks`` takes the same arguments and yields the checks one by one, for pytest.

    Examples
    --------
    >>> from sfmts.networks import GRU, check_network
    >>> check_network("gru", init="chrono")
    >>> check_network(GRU, n_states=4)
    """
    for _, check in network_checks(network, n_channels=n_channels, **options):
        check()


def network_checks(
    network: str | Callable[..., SequenceNetwork], *, n_channels: int = 3, **options: Any
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield all checks of :func:`check_network`, for pytest to run one by one.

    Each check runs on the plain network and on the variants that the network supports: two layers, two directions,
    both, recurrent dropout, and time stamps in one and in two directions.

    Parameters
    ----------
    network : str, class or callable
        See :func:`check_network`.
    n_channels : int
        Width of the input.
    **options
        See :func:`check_network`. A variant never changes them.

    Yields
    ------
    name : str
        Name of the check and its variant.
    check : callable
        Takes no argument and raises AssertionError if the network fails.

    Examples
    --------
    In a test module, ``pytest.mark.parametrize("check", [pytest.param(c, id=name) for name, c in
    network_checks("lstm")])`` makes each check a test:

    >>> from sfmts.networks import network_checks
    >>> names = [name for name, _ in network_checks("lstm")]
    >>> names[:3]
    ['attributes', 'shapes', 'final']
    >>> "chunks-n_layers=2" in names
    True
    """
    n_channels = check_size("n_channels", n_channels)
    factory = network_class(network) if isinstance(network, str) else network
    if not callable(factory):
        raise TypeError(
            f"network must be a registered name, a class or a function that builds a network, not {network!r}."
        )
    parameters = inspect.signature(factory).parameters
    if "n_states" in parameters:
        options = {"n_states": _N_STATES, **options}
    for variant in _VARIANTS:
        if variant.keys() <= parameters.keys() - options.keys():
            subject = _Subject(factory, n_channels, {**options, **variant})
            suffix = "".join(f"-{option}={value}" for option, value in variant.items())
            for check in _CHECKS:
                if check not in _OPTION_CHECKS or subject.asks_for(*_OPTION_CHECKS[check]):
                    yield check.__name__.removeprefix("_check_") + suffix, functools.partial(check, subject)
    if "init" in parameters.keys() - options.keys():
        for init in (None, *INITIALISATIONS):
            subject = _Subject(factory, n_channels, {**options, "init": init})
            yield f"initialisation-{init}", functools.partial(_check_initialisation, subject)


@dataclass(frozen=True)
class _Subject:
    """A network under test: how to build it, and its input."""

    factory: Callable[..., SequenceNetwork]
    n_channels: int
    options: Mapping[str, Any]

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{getattr(self.factory, '__qualname__', repr(self.factory))}({self.n_channels}, {options})"

    def asks_for(self, option: str, neutral: Any) -> bool:
        """Return whether an option, as given or by default, differs from a neutral value."""
        parameter = inspect.signature(self.factory).parameters.get(option)
        default = neutral if parameter is None or parameter.default is parameter.empty else parameter.default
        return bool(self.options.get(option, default) != neutral)

    def build(self, seed: int = 0, **changes: Any) -> SequenceNetwork:
        """Build a network in float64, in training mode."""
        generator = torch.Generator().manual_seed(seed)
        return self.factory(self.n_channels, generator=generator, **{**self.options, **changes}).double()

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return sequences, their lengths and their time stamps, always the same."""
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(len(_LENGTHS), _STEPS, self.n_channels, dtype=torch.float64, generator=generator)
        gaps = torch.rand(x.shape[:2], dtype=torch.float64, generator=generator) + 0.1
        return x, torch.tensor(_LENGTHS), gaps.cumsum(1)

    def require(self, holds: bool, broken: str) -> None:
        """Raise AssertionError with a sentence unless a condition holds."""
        if not holds:
            raise AssertionError(f"{self}: {broken}")

    def require_close(
        self, found: Tensor, expected: Tensor, broken: str, atol: float = _TOLERANCE, rtol: float = _TOLERANCE
    ) -> None:
        """Raise AssertionError with a sentence and the largest difference unless two tensors are close."""
        same_shape = found.shape == expected.shape
        self.require(same_shape, f"{broken} Shapes are {tuple(found.shape)} and {tuple(expected.shape)}.")
        close = torch.allclose(found, expected, atol=atol, rtol=rtol)
        self.require(close, f"{broken} The largest difference is {float((found - expected).detach().abs().max()):.1e}.")


def _seeded(seed: int = 0) -> dict[str, torch.Generator]:
    """Return the keyword argument with a generator for a forward pass in training."""
    return {"generator": torch.Generator().manual_seed(seed)}


def _check_attributes(subject: _Subject) -> None:
    network = subject.build()
    subject.require(isinstance(network, SequenceNetwork), "it is not a SequenceNetwork.")
    for name in CONTRACT_ATTRIBUTES:
        subject.require(hasattr(network, name), f"it does not set `{name}`.")
    subject.require(
        network.n_channels == subject.n_channels, f"`n_channels` is {network.n_channels}, not {subject.n_channels}."
    )
    subject.require(isinstance(network.causal, bool), f"`causal` must be True or False, not {network.causal!r}.")
    whole = isinstance(network.output_size, int) and network.output_size > 0
    subject.require(whole, f"`output_size` must be a positive integer, not {network.output_size!r}.")


def _check_shapes(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build()
    for steps, given in ((_STEPS, lengths), (_STEPS, None), (1, None)):
        output = network(x[:, :steps], given, time=time[:, :steps], **_seeded())
        subject.require(
            isinstance(output, NetworkOutput), f"it returns a {type(output).__name__} instead of a NetworkOutput."
        )
        shapes = tuple(output.states.shape), tuple(output.final.shape)
        right = (len(x), steps, network.output_size), (len(x), network.output_size)
        subject.require(shapes == right, f"shapes of `states` and `final` are {shapes} instead of {right}.")


def _check_final(subject: _Subject) -> None:
    """Compare the summary with the last output of each direction; other networks summarise in their own way."""
    x, lengths, time = subject.batch()
    network, both = subject.build(), subject.asks_for("bidirectional", False)
    if not (network.causal or both):
        return
    for given in (lengths, None):
        states, final, *_ = network(x, given, time=time, **_seeded())
        ahead = network.output_size // 2 if both else network.output_size
        last = states[torch.arange(len(x)), -1 if given is None else given - 1, :ahead]
        first = states[:, 0, ahead:]
        where = "after the last step" + (", or at the first step in the second half" if both else "")
        subject.require_close(final, torch.cat([last, first], dim=1), f"`final` is not the output {where}.")


def _check_padding(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build().eval()
    output = network(x, lengths, time=time)
    behind = torch.arange(_STEPS) >= lengths[:, None]
    subject.require(not output.states[behind].any(), "`states` are not zero after the end of a sequence.")
    for value in (99.0, torch.nan):
        changed = network(x.masked_fill(behind[..., None], value), lengths, time=time.masked_fill(behind, value))
        for name in ("states", "final", "extra_loss"):
            old, new = getattr(output, name), getattr(changed, name)
            same = old is None or torch.equal(old, new)
            subject.require(same, f"`{name}` depends on the padding (here {value}).")
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, lengths, time=time).final.sum(), x)
    subject.require(not gradient[behind].any(), "a gradient reaches the padding.")


def _check_batch_mates(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build().eval()
    output = network(x, lengths, time=time)
    for b, length in enumerate(_LENGTHS):
        alone = network(x[b : b + 1, :length], time=time[b : b + 1, :length])
        broken = f"the result for a sequence of {length} steps alone differs from that in a batch."
        subject.require_close(output.states[b, :length], alone.states[0], broken)
        subject.require_close(output.final[b], alone.final[0], broken)


def _check_causality(subject: _Subject) -> None:
    """Change the later steps, or cut them off, because a normalised time depends on the length alone."""
    x, _, time = subject.batch()
    network = subject.build().eval()
    cut, changed = 6, x.clone()
    changed[:, cut:] += 1.0
    states = network(x, time=time).states[:, :cut]
    others = network(changed, time=time).states[:, :cut], network(x[:, :cut], time=time[:, :cut]).states
    depends = not all(torch.allclose(other, states, atol=_TOLERANCE, rtol=_TOLERANCE) for other in others)
    truth = "depends on later steps" if depends else "does not depend on later steps"
    subject.require(depends != network.causal, f"causal is {network.causal}, but a state {truth}.")


def _check_directions(subject: _Subject) -> None:
    """Check which steps each half of the output sees; with several layers both halves see all steps."""
    if subject.asks_for("n_layers", 1):
        return
    x, lengths, time = subject.batch()
    network = subject.build()
    subject.require(network.output_size % 2 == 0, "two directions have an odd output_size.")
    changed = x.clone()
    changed[0, 4] += 1.0
    before, after = (network(given, lengths, time=time, **_seeded()).states[0] for given in (x, changed))
    ahead, behind = (after - before).chunk(2, dim=1)
    subject.require(not ahead[:4].any(), "the first half of the output, which reads forwards, sees later steps.")
    subject.require(not behind[5:].any(), "the second half of the output, which reads backwards, sees earlier steps.")
    acts = bool(ahead[4:].any() and behind[:5].any())
    subject.require(acts, "one of the two directions does not read its input.")


def _check_state_dict(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network, other = subject.build().eval(), subject.build(seed=1).eval()
    other.load_state_dict(network.state_dict())
    same = torch.equal(other(x, lengths, time=time).states, network(x, lengths, time=time).states)
    subject.require(
        same, "another network that loads its state_dict gives different results. Register all constants as buffers."
    )


def _check_copies(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build().eval()
    expected = network(x, lengths, time=time).states
    try:
        copies = {"deepcopy": copy.deepcopy(network), "pickle": _pickled(network)}
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"{subject}: it cannot be pickled or copied: {error}") from error
    for how, copied in copies.items():
        same = torch.equal(copied(x, lengths, time=time).states, expected)
        subject.require(same, f"its {how} gives different results.")
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.zero_()
        same = torch.equal(network(x, lengths, time=time).states, expected)
        subject.require(same, f"its {how} shares parameters with it.")


def _pickled(network: SequenceNetwork) -> SequenceNetwork:
    """Return a network after a round trip through pickle; classes are kept by reference.

    Classes of a notebook or a function cannot be pickled, but their networks should pass.
    """
    classes: list[type] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> int | None:
            if not isinstance(obj, type):
                return None
            classes.append(obj)
            return len(classes) - 1

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: int) -> type:
            return classes[pid]

    stream = io.BytesIO()
    Pickler(stream).dump(network)
    stream.seek(0)
    copied: SequenceNetwork = Unpickler(stream).load()
    return copied


def _check_randomness(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    given, before = x.clone(), _global_generators()
    network, twin, other = subject.build(), subject.build(), subject.build(seed=1)
    trained = [network(x, lengths, time=time, **_seeded()).states for _ in range(2)]
    network.eval()
    states = [network(x, lengths, time=time).states for _ in range(2)]
    untouched = _global_generators() == before
    subject.require(torch.equal(x, given), "it changes its input in place.")
    subject.require(untouched, "it draws from a global generator. Draw everything from `generator`.")
    subject.require(_same_numbers(network, twin), "equal generators give different initial parameters.")
    if network.n_parameters:
        subject.require(not _same_numbers(network, other), "different generators give the same initial parameters.")
    subject.require(torch.equal(*trained), "two training passes with equal generators differ.")
    subject.require(torch.equal(*states), "two passes in eval mode differ.")


def _global_generators() -> bytes:
    """Return the states of the global generators of PyTorch, NumPy and Python."""
    of_numpy = np.random.get_state()  # noqa: NPY002 (to check that it is not used)
    return pickle.dumps((torch.get_rng_state().tolist(), of_numpy, random.getstate()))


def _same_numbers(one: SequenceNetwork, other: SequenceNetwork) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _check_types(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    double = subject.build().eval()
    single = copy.deepcopy(double).float()
    output = single(x.float(), lengths, time=time)
    types = {output.states.dtype, output.final.dtype}
    subject.require(types == {torch.float32}, f"for float32 input it returns {types}.")
    expected = double(x, lengths, time=time).states
    subject.require(expected.dtype == torch.float64, f"for float64 input it returns {expected.dtype}.")
    subject.require_close(
        output.states.double(), expected, "results in float32 are far from those in float64.", atol=1e-4, rtol=1e-3
    )


def _check_gradients(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build()
    names, parameters = zip(*((name, p) for name, p in network.named_parameters() if p.requires_grad), strict=True)

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, values, strict=True))
        output = torch.func.functional_call(network, given, (x, lengths), {"time": time, **_seeded()})
        return tuple(part for part in (output.states, output.final, output.extra_loss) if part is not None)

    try:
        gradcheck(run, (x.requires_grad_(), *parameters), atol=1e-6, fast_mode=True)
    except GradcheckError as error:
        raise AssertionError(f"{subject}: its gradients differ from finite differences.\n{error}") from error


def _check_gradients_at_zero(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build()
    x = torch.zeros_like(x).requires_grad_()
    output = network(x, lengths, time=time, **_seeded())
    loss = output.states.sum() + output.final.sum()
    loss = loss if output.extra_loss is None else loss + output.extra_loss
    used = [x, *(p for p in network.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(loss, used, allow_unused=True)
    finite = all(g is None or bool(g.isfinite().all()) for g in gradients)
    subject.require(finite, "gradients for all-zero input are not finite.")


def _check_extra_loss(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    network = subject.build()
    extra = network(x, lengths, time=time, **_seeded()).extra_loss
    if extra is None:
        return
    subject.require(extra.ndim == 0, f"`extra_loss` must be a scalar, but has shape {tuple(extra.shape)}.")
    subject.require(bool(extra.isfinite()), f"`extra_loss` is {float(extra.detach())}.")
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(extra, parameters, allow_unused=True) if extra.requires_grad else []
    subject.require(any(g is not None for g in gradients), "`extra_loss` depends on no parameter.")


def _check_chunks(subject: _Subject) -> None:
    """Compare chunks, one of a single step and one ragged, with the whole: values and gradients."""
    x, _, time = subject.batch()
    dropping = subject.asks_for("recurrent_dropout", 0.0)  # almost never, to run the code that has masks
    changes: dict[str, Any] = {"recurrent_dropout": 1e-12} if dropping else {}
    network = subject.build(**changes).train(dropping)
    if not network.causal:
        _check_that_states_are_refused(subject, network)
        return
    if network(x[:, :2], time=time[:, :2]).state is None:  # it does not support continuation
        return
    parameters = [p for p in network.parameters() if p.requires_grad]
    ends = torch.tensor([4, 1, 3, 2])  # of the last chunk
    whole = network(x, ends + 5, time=time)
    expected = torch.autograd.grad(whole.final.square().sum(), parameters, allow_unused=True)
    state, parts = None, []
    for begin, end, lengths in ((0, 2, None), (2, 3, None), (3, 5, None), (5, 9, ends)):
        output = network(x[:, begin:end], lengths, time=time[:, begin:end], state=state)
        again = network(x[:, begin:end], lengths, time=time[:, begin:end], state=state)
        subject.require(torch.equal(output.states, again.states), "it changes the given state in place.")
        state = output.state
        parts.append(output.states)
    subject.require_close(torch.cat(parts, dim=1), whole.states, "the states of chunks differ from those of the whole.")
    subject.require_close(output.final, whole.final, "`final` after chunks differs from that of the whole.")
    found = torch.autograd.grad(output.final.square().sum(), parameters, allow_unused=True)
    for got, wanted in zip(found, expected, strict=True):
        if wanted is not None:
            got = torch.zeros_like(wanted) if got is None else got
            subject.require_close(
                got, wanted, "gradients through chunks differ from those of the whole.", atol=1e-10, rtol=1e-8
            )


def _check_chunks_of_unequal_length(subject: _Subject) -> None:
    """Check that each sequence continues from its own last step, not from that of the longest one."""
    x, _, time = subject.batch()
    network = subject.build().eval()
    if not network.causal or network(x, time=time).state is None:
        return
    first = torch.tensor([5, 1, 4, 2])
    state = network(x[:, :5], first, time=time[:, :5]).state
    shape = (len(x), 3)
    index = first[:, None] + torch.arange(shape[1])
    rest = network(x.gather(1, index[..., None].expand(*shape, x.shape[2])), time=time.gather(1, index), state=state)
    whole = network(x, first + shape[1], time=time)
    subject.require_close(
        rest.final, whole.final, "after sequences of unequal length it does not continue from their ends."
    )


def _check_that_states_are_refused(subject: _Subject, network: SequenceNetwork) -> None:
    x, _, time = subject.batch()
    try:
        network(x, time=time, state=object())
    except ValueError:
        return
    raise AssertionError(f"{subject}: it needs whole sequences, but does not raise ValueError for a state.")


def _check_recurrent_dropout(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    plain, dropping = subject.build(recurrent_dropout=0.0), subject.build()
    one, other = (dropping(x, lengths, time=time, **_seeded(seed)).states for seed in (0, 1))
    subject.require(not torch.equal(one, other), "recurrent dropout drops nothing in training.")
    hardly = subject.build(recurrent_dropout=1e-12)
    expected = plain(x, lengths, time=time).states
    found = hardly(x, lengths, time=time, **_seeded()).states
    subject.require_close(found, expected, "masks of ones change the recurrence.", atol=1e-9)
    plain.eval()
    found, expected = (n.eval()(x, lengths, time=time).states for n in (dropping, plain))
    subject.require(torch.equal(found, expected), "recurrent dropout is active in eval mode.")


def _check_time_stamps(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    stamped, counting = subject.build().eval(), subject.build(time="index").eval()
    irregular = stamped(x, lengths, time=time).states
    steps = torch.arange(1, _STEPS + 1, dtype=torch.float64).expand(x.shape[:2])
    expected = counting(x, lengths, time=time).states
    subject.require(not torch.allclose(irregular, expected), "time stamps have no effect.")
    subject.require_close(
        stamped(x, lengths, time=steps).states, expected, "time stamps 1, 2, 3, ... differ from time='index'."
    )
    try:
        stamped(x, lengths)
    except ValueError:
        return
    raise AssertionError(f"{subject}: it does not raise ValueError if time stamps are missing.")


def _check_initialisation(subject: _Subject) -> None:
    x, lengths, time = subject.batch()
    for parameter in subject.build().parameters():
        subject.require(bool(parameter.isfinite().all()), "it has parameters that are unset or infinite.")
    _check_randomness(subject)
    states = subject.build()(x, lengths, time=time, **_seeded()).states
    subject.require(bool(states.isfinite().all()), "its initial states are not finite.")


_CHECKS = (
    _check_attributes,
    _check_shapes,
    _check_final,
    _check_padding,
    _check_batch_mates,
    _check_causality,
    _check_directions,
    _check_state_dict,
    _check_copies,
    _check_randomness,
    _check_types,
    _check_gradients,
    _check_gradients_at_zero,
    _check_extra_loss,
    _check_chunks,
    _check_chunks_of_unequal_length,
    _check_recurrent_dropout,
    _check_time_stamps,
)
# Checks for networks that are built with an option, and the option's neutral value.
_OPTION_CHECKS: dict[Callable[[_Subject], None], tuple[str, Any]] = {
    _check_directions: ("bidirectional", False),
    _check_recurrent_dropout: ("recurrent_dropout", 0.0),
    _check_time_stamps: ("time", "index"),
}
