"""The conformance suite finds what is broken, and says what."""

import functools

import pytest
import torch
from torch import nn

from sfmts.networks import LSTM, SFM, check_network, network_checks


def built_by(make):
    """Return a factory whose networks come from ``make(build, options)``, with ``build(**options)`` a sound one."""

    def factory(
        n_channels,
        *,
        n_states=4,
        bidirectional=False,
        recurrent_dropout=0.0,
        time="index",
        init="modern",
        generator=None,
    ):
        options = {key: value for key, value in locals().items() if key not in ("n_channels", "make")}
        return make(functools.partial(SFM, n_channels, n_frequencies=2), options)

    return factory


def with_attributes(**values):
    """Return a factory of networks with these attributes."""

    def make(build, options):
        network = build(**options)
        for name, value in values.items():
            setattr(network, name, value)
        return network

    return built_by(make)


def with_options(**values):
    """Return a factory that builds with these options, whatever is asked for."""
    return built_by(lambda build, options: build(**{**options, **values}))


def with_forward(forward):
    """Return a factory of networks with ``forward(read, x, lengths, given)``; ``read`` is their own forward."""

    def make(build, options):
        network = build(**options)
        read = network.forward
        network.forward = lambda x, lengths=None, **given: forward(read, x, lengths, given)
        return network

    return built_by(make)


def with_output(change):
    """Return a factory of networks whose output has the fields that ``change(output, x, lengths)`` returns."""

    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(**change(output, x, lengths))

    return with_forward(forward)


def inside(x, lengths):
    return (torch.arange(x.shape[1]) < lengths[:, None])[..., None]


@built_by
def no_flag(build, options):
    network = build(**options)
    del network.causal
    return network


@built_by
def clock_that_counts_in_shares(build, options):
    network = build(**{**options, "time": "normalized"})
    network.causal = True
    return network


@built_by
def constant_that_is_no_buffer(build, options):
    network = build(**options)
    read, constant = network.forward, torch.randn(1, generator=options["generator"], dtype=torch.float64)
    network.forward = lambda x, lengths=None, **given: read(x * constant.to(x), lengths, **given)
    return network


class OneForAll(nn.Parameter):
    def __deepcopy__(self, memo):
        return self


@built_by
def copies_that_share(build, options):
    network = build(**options)
    network.layers[0].V.__class__ = OneForAll
    return network


@built_by
def always_the_same_start(build, options):
    return build(**{**options, "generator": torch.Generator().manual_seed(7)})


@built_by
def noise_of_its_own(build, options):
    network, noise = build(**options), torch.Generator().manual_seed(0)
    read = network.forward
    network.forward = lambda x, lengths=None, **given: read(
        x + torch.randn(x.shape, generator=noise).to(x), lengths, **given
    )
    return network


@with_forward
def state_in_place(read, x, lengths, given):
    output = read(x, lengths, **given)
    if given.get("state") is not None:
        with torch.no_grad():
            given["state"][0].z.add_(0.1)
    return output


@built_by
def dropout_for_ever(build, options):
    network = build(**options)
    read = network.forward

    def forward(x, lengths=None, **given):
        output = read(x, lengths, **given)
        return output._replace(states=output.states * (1.0 - options["recurrent_dropout"]))

    network.forward = forward
    return network


@built_by
def another_recurrence_with_dropout(build, options):
    network = build(**options)
    if options["recurrent_dropout"]:
        with torch.no_grad():
            network.layers[0].V.mul_(1.1)
    return network


@with_forward
def time_of_another_unit(read, x, lengths, given):
    time = given.pop("time", None)
    return read(x, lengths, time=time if time is None else 0.1 * time, **given)


@built_by
def one_start_unset(build, options):
    network = build(**options)
    if options["init"] == "authors":
        nn.init.constant_(network.layers[0].b, torch.nan)
    return network


def detached(state):
    return [type(s)(*(part.detach() for part in s)) for s in state]


forgetful = with_forward(lambda read, x, lengths, given: read(x, lengths, **{**given, "state": None}))
BACKWARDS, DROPOUT, TIME = (
    "bidirectional=True",
    "recurrent_dropout-recurrent_dropout=0.4",
    "time_stamps-time=timestamps",
)
# A check, what it must say, and how the output o for input x and lengths n is changed.
OUTPUTS = [
    ("shapes", "shapes of `states` and `final` are", lambda o, x, n: {"states": o.states.transpose(0, 1)}),
    ("final", r"`final` is not the output after the last step\.", lambda o, x, n: {"final": o.states[:, 0]}),
    ("padding", "`states` are not zero after the end", lambda o, x, n: {"states": o.states + 1.0}),
    (
        "padding",
        r"`final` depends on the padding \(here nan\)",
        lambda o, x, n: {} if n is None else {"final": o.final + (x * inside(x, n)).mean()},
    ),
    ("padding", "`extra_loss` depends on the padding", lambda o, x, n: {"extra_loss": x.sum()}),
    ("batch_mates", "alone differs from that in a batch", lambda o, x, n: {"final": o.final - o.final.mean(dim=0)}),
    (
        f"directions-{BACKWARDS}",
        "the first half of the output, which reads forwards, sees later steps",
        lambda o, x, n: {"states": o.states.roll(2, dims=2), "final": o.final.roll(2, dims=1)},
    ),
    (
        f"final-{BACKWARDS}",
        "`final` is not the output .*, or at the first step in the second half",
        lambda o, x, n: {} if n is None else {"final": o.states[torch.arange(len(x)), n - 1]},
    ),
    (
        "types",
        "for float32 input it returns {torch.float64}",
        lambda o, x, n: {"states": o.states.double(), "final": o.final.double()},
    ),
    (
        "gradients",
        "its gradients differ from finite differences",
        lambda o, x, n: {"final": o.final.detach() + o.final - o.final.clamp_min(0.0)},
    ),
    (
        "extra_loss",
        r"`extra_loss` must be a scalar, but has shape \(4,\)",
        lambda o, x, n: {"extra_loss": o.final.sum(dim=1)},
    ),
    ("extra_loss", "`extra_loss` depends on no parameter", lambda o, x, n: {"extra_loss": x.sum() * 0}),
    ("chunks", "gradients through chunks differ from those of the whole", lambda o, x, n: {"state": detached(o.state)}),
]
# How x and n are read, beside other arguments a.
FORWARDS = [
    ("shapes", "returns a tuple instead of a NetworkOutput", lambda read, x, n, a: tuple(read(x, n, **a))),
    (
        "padding",
        r"`final` depends on the padding \(here 99.0\)",
        lambda read, x, n, a: read(x, n, **a)._replace(final=read(x, None, **a).final),
    ),
    ("randomness", "it changes its input in place", lambda read, x, n, a: read(x.add_(0.1), n, **a)),
    (
        "gradients_at_zero",
        "gradients for all-zero input are not finite",
        lambda read, x, n, a: read(x.square().sum(dim=2, keepdim=True).sqrt() + x, n, **a),
    ),
    (
        "chunks_of_unequal_length",
        "it does not continue from their ends",
        lambda read, x, n, a: read(x, n, **a)._replace(state=read(x, None, **a).state),
    ),
    (
        TIME,
        "it does not raise ValueError if time stamps are missing",
        lambda read, x, n, a: read(x, n, **{"time": torch.zeros(x.shape[:2]), **a}),
    ),
]
FAULTS = [
    ("attributes", "does not set `causal`", no_flag),
    ("attributes", "`n_channels` is 1, not 3", with_attributes(n_channels=1)),
    ("attributes", "`causal` must be True or False, not 'yes'", with_attributes(causal="yes")),
    ("attributes", "`output_size` must be a positive integer, not 0", with_attributes(output_size=0)),
    (f"causality-{BACKWARDS}", "causal is True, but a state depends on later steps", with_attributes(causal=True)),
    ("causality", "causal is False, but a state does not depend on later steps", with_attributes(causal=False)),
    ("causality", "causal is True, but a state depends on later steps", clock_that_counts_in_shares),
    ("state_dict", "loads its state_dict gives different results. Register", constant_that_is_no_buffer),
    ("copies", "its deepcopy shares parameters with it", copies_that_share),
    ("copies", "it cannot be pickled or copied: .*lambda", with_attributes(squash=lambda x: x.tanh())),
    ("randomness", "it draws from a global generator", with_options(generator=None)),
    ("randomness", "different generators give the same initial parameters", always_the_same_start),
    ("randomness", "two training passes with equal generators differ", noise_of_its_own),
    ("chunks", "the states of chunks differ from those of the whole", forgetful),
    ("chunks", "it changes the given state in place", state_in_place),
    (f"chunks-{BACKWARDS}", "needs whole sequences, but does not raise ValueError", forgetful),
    (DROPOUT, "recurrent dropout drops nothing in training", with_options(recurrent_dropout=0.0)),
    (DROPOUT, "recurrent dropout is active in eval mode", dropout_for_ever),
    (DROPOUT, "masks of ones change the recurrence", another_recurrence_with_dropout),
    (TIME, "time stamps have no effect", with_options(time="index")),
    (TIME, r"time stamps 1, 2, 3, \.\.\. differ from time='index'", time_of_another_unit),
    ("initialisation-authors", "it has parameters that are unset or infinite", one_start_unset),
    *((check, sentence, with_output(change)) for check, sentence, change in OUTPUTS),
    *((check, sentence, with_forward(forward)) for check, sentence, forward in FORWARDS),
]


@pytest.mark.parametrize(("check", "sentence", "factory"), FAULTS)
def test_a_fault_is_found(check, sentence, factory):
    with pytest.raises(AssertionError, match=sentence):
        dict(network_checks(factory, n_states=2))[check]()


def test_nothing_is_found_where_nothing_is_wrong():
    check_network(built_by(lambda build, options: build(**options)))


def test_every_check_finds_a_fault():
    names = {name.partition("-")[0] for name, _ in network_checks(SFM)}
    assert {check.partition("-")[0] for check, _, _ in FAULTS} == names


def test_the_message_names_the_network_and_its_options():
    with pytest.raises(AssertionError, match=r"^functools\.partial.*\(3, n_states=10\): it does not set `causal`"):
        check_network(functools.partial(FAULTS[0][-1], bidirectional=False))


def test_a_name_a_class_and_a_factory_will_do():
    for network in ("lstm", LSTM, functools.partial(LSTM, n_layers=2)):
        check_network(network, n_states=3)


def test_variants_are_those_that_a_network_takes_and_that_are_left_open():
    names = [name for name, _ in network_checks("lstm")]
    assert len(set(names)) == len(names)
    assert "shapes-n_layers=2-bidirectional=True" in names
    assert not any("time" in name for name in names)
    open_ones = [name for name, _ in network_checks("lstm", n_layers=2, bidirectional=False)]
    assert {name.partition("-")[2] for name in open_ones if "initialisation" not in name} == {
        "",
        "recurrent_dropout=0.4",
    }
    assert not any("directions" in name for name in open_ones)


def test_options_reach_the_network():
    built = []

    def factory(n_channels, *, n_states, generator, **options):
        built.append((n_channels, n_states, options))
        return LSTM(n_channels, n_states=n_states, generator=generator)

    check_network(factory, n_channels=2, n_states=6, anything=1)
    assert set(map(str, built)) == {str((2, 6, {"anything": 1}))}


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (
            {"network": 3},
            TypeError,
            "network must be a registered name, a class or a function that builds a network, not 3",
        ),
        ({"n_channels": 0}, ValueError, "n_channels must be at least 1, not 0"),
        ({"n_channels": True}, TypeError, "n_channels must be an integer, not True"),
    ],
)
def test_what_cannot_be_checked_says_so(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        check_network(**{"network": "gru", **arguments})
