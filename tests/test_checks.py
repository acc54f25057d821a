"""The conformance suite finds what is broken, and says what."""

import functools

import pytest
import torch
from torch import nn

from sfmts.networks import LSTM, SFM, check_network, network_checks

FAULTS = []


def built_by(make):
    """A factory whose networks come from ``make(build, options)``, with ``build(**options)`` a sound one."""

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


def fault(check, sentence):
    """Collect a way to build networks that must fail this check with this sentence."""

    def collect(make):
        FAULTS.append(pytest.param(built_by(make), check, sentence, id=make.__name__))
        return make

    return collect


def rewired(network, forward):
    """The network with ``forward(read, x, lengths, given)`` in place of its own, which is ``read``."""
    read = network.forward
    network.forward = lambda x, lengths=None, **given: forward(read, x, lengths, given)
    return network


def inside(x, lengths):
    return (torch.arange(x.shape[1]) < lengths[:, None])[..., None]


@fault("attributes", "does not set `causal`")
def no_flag(build, options):
    network = build(**options)
    del network.causal
    return network


@fault("attributes", "`n_channels` is 1, not 3")
def other_channels(build, options):
    network = build(**options)
    network.n_channels = 1
    return network


@fault("attributes", "`causal` must be True or False, not 'yes'")
def flag_of_another_kind(build, options):
    network = build(**options)
    network.causal = "yes"
    return network


@fault("attributes", "`output_size` must be a positive integer, not 0")
def no_output(build, options):
    network = build(**options)
    network.output_size = 0
    return network


@fault("shapes", "shapes of `states` and `final` are")
def transposed(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(states=output.states.transpose(0, 1))

    return rewired(build(**options), forward)


@fault("shapes", "returns a tuple instead of a NetworkOutput")
def plain_tuple(build, options):
    return rewired(build(**options), lambda read, x, lengths, given: tuple(read(x, lengths, **given)))


@fault("shapes", "`final` is not the output after the last step")
def final_of_the_first_step(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(final=output.states[:, 0])

    return rewired(build(**options), forward)


@fault("padding", "`states` are not zero after the end of a sequence")
def states_behind_the_end(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(states=output.states + 1.0)

    return rewired(build(**options), forward)


@fault("padding", r"`final` depends on the padding \(here 99.0\)")
def final_of_the_padded_end(build, options):
    def forward(read, x, lengths, given):
        return read(x, lengths, **given)._replace(final=read(x, None, **given).final)

    return rewired(build(**options), forward)


@fault("padding", r"`final` depends on the padding \(here nan\)")
def padding_times_zero(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output if lengths is None else output._replace(final=output.final + (x * inside(x, lengths)).mean())

    return rewired(build(**options), forward)


@fault("padding", "`extra_loss` depends on the padding")
def extra_loss_of_padding(build, options):
    return rewired(
        build(**options), lambda read, x, lengths, given: read(x, lengths, **given)._replace(extra_loss=x.sum())
    )


@fault("batch_mates", "alone differs from that in a batch")
def batch_norm(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(final=output.final - output.final.mean(dim=0))

    return rewired(build(**options), forward)


@fault("causality-bidirectional=True", "causal is True, but a state depends on later steps")
def lying_flag(build, options):
    network = build(**options)
    network.causal = True
    return network


@fault("causality", "causal is False, but a state does not depend on later steps")
def needless_warning(build, options):
    network = build(**options)
    network.causal = False
    return network


@fault("causality", "causal is True, but a state depends on later steps")
def clock_that_counts_in_shares(build, options):
    network = build(**{**options, "time": "normalized"})
    network.causal = True
    return network


@fault("directions-bidirectional=True", "the first half of the output, which reads forwards, sees later steps")
def halves_exchanged(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(states=output.states.roll(2, dims=2), final=output.final.roll(2, dims=1))

    return rewired(build(**options), forward)


@fault("directions-bidirectional=True", "the second half of `final` is not the output at the first step")
def final_of_one_step(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output if lengths is None else output._replace(final=output.states[torch.arange(len(x)), lengths - 1])

    return rewired(build(**options), forward)


@fault("state_dict", "loads its state_dict gives different results. Register")
def constant_that_is_no_buffer(build, options):
    constant = torch.randn(1, generator=options["generator"], dtype=torch.float64)
    return rewired(build(**options), lambda read, x, lengths, given: read(x * constant.to(x), lengths, **given))


@fault("copies", "its deepcopy shares parameters with it")
def copies_that_share(build, options):
    network = build(**options)
    network.layers[0].V.__class__ = OneForAll
    return network


class OneForAll(nn.Parameter):
    def __deepcopy__(self, memo):
        return self


@fault("copies", "it cannot be pickled or copied: .*lambda")
def lambda_inside(build, options):
    network = build(**options)
    network.squash = lambda x: x.tanh()
    return network


@fault("randomness", "it draws from a global generator")
def global_generator(build, options):
    return build(**{**options, "generator": None})


@fault("randomness", "different generators give the same initial parameters")
def always_the_same_start(build, options):
    return build(**{**options, "generator": torch.Generator().manual_seed(7)})


@fault("randomness", "two training passes with equal generators differ")
def noise_of_its_own(build, options):
    noise = torch.Generator().manual_seed(0)

    def forward(read, x, lengths, given):
        return read(x + torch.randn(x.shape, generator=noise).to(x), lengths, **given)

    return rewired(build(**options), forward)


@fault("randomness", "it changes its input in place")
def input_in_place(build, options):
    return rewired(build(**options), lambda read, x, lengths, given: read(x.add_(0.1), lengths, **given))


@fault("types", "for float32 input it returns {torch.float64}")
def always_double(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(states=output.states.double(), final=output.final.double())

    return rewired(build(**options), forward)


@fault("gradients", "its gradients differ from finite differences")
def cut_gradient(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(final=output.final.detach() + output.final - output.final.clamp_min(0.0))

    return rewired(build(**options), forward)


@fault("gradients_at_zero", "gradients for all-zero input are not finite")
def root_of_zero(build, options):
    def forward(read, x, lengths, given):
        return read(x.square().sum(dim=2, keepdim=True).sqrt() + x, lengths, **given)

    return rewired(build(**options), forward)


@fault("extra_loss", r"`extra_loss` must be a scalar, but has shape \(4,\)")
def a_loss_for_each_series(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(extra_loss=output.final.sum(dim=1))

    return rewired(build(**options), forward)


@fault("extra_loss", "`extra_loss` depends on no parameter")
def a_loss_that_teaches_nothing(build, options):
    return rewired(
        build(**options), lambda read, x, lengths, given: read(x, lengths, **given)._replace(extra_loss=x.sum() * 0)
    )


@fault("chunks", "the states of chunks differ from those of the whole")
def forgetful(build, options):
    return rewired(build(**options), lambda read, x, lengths, given: read(x, lengths, **{**given, "state": None}))


@fault("chunks", "gradients through chunks differ from those of the whole")
def detached_state(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(state=[type(s)(*(part.detach() for part in s)) for s in output.state])

    return rewired(build(**options), forward)


@fault("chunks", "it changes the given state in place")
def state_in_place(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        if given.get("state") is not None:
            with torch.no_grad():
                given["state"][0].z.add_(0.1)
        return output

    return rewired(build(**options), forward)


@fault("chunks-bidirectional=True", "needs whole sequences, but does not raise ValueError")
def state_accepted(build, options):
    return rewired(build(**options), lambda read, x, lengths, given: read(x, lengths, **{**given, "state": None}))


@fault("chunks_of_unequal_length", "it does not continue from their ends")
def state_of_the_padded_end(build, options):
    def forward(read, x, lengths, given):
        return read(x, lengths, **given)._replace(state=read(x, None, **given).state)

    return rewired(build(**options), forward)


@fault("recurrent_dropout-recurrent_dropout=0.4", "recurrent dropout drops nothing in training")
def no_dropout(build, options):
    return build(**{**options, "recurrent_dropout": 0.0})


@fault("recurrent_dropout-recurrent_dropout=0.4", "recurrent dropout is active in eval mode")
def dropout_for_ever(build, options):
    def forward(read, x, lengths, given):
        output = read(x, lengths, **given)
        return output._replace(states=output.states * (1.0 - options["recurrent_dropout"]))

    return rewired(build(**options), forward)


@fault("recurrent_dropout-recurrent_dropout=0.4", "masks of ones change the recurrence")
def another_recurrence_with_dropout(build, options):
    network = build(**options)
    if options["recurrent_dropout"]:
        with torch.no_grad():
            network.layers[0].V.mul_(1.1)
    return network


@fault("time_stamps-time=timestamps", "time stamps have no effect")
def time_that_does_not_matter(build, options):
    return build(**{**options, "time": "index"})


@fault("time_stamps-time=timestamps", r"time stamps 1, 2, 3, \.\.\. differ from time='index'")
def time_of_another_unit(build, options):
    def forward(read, x, lengths, given):
        time = given.pop("time", None)
        return read(x, lengths, time=time if time is None else 0.1 * time, **given)

    return rewired(build(**options), forward)


@fault("time_stamps-time=timestamps", "it does not raise ValueError if time stamps are missing")
def time_that_is_made_up(build, options):
    def forward(read, x, lengths, given):
        given.setdefault("time", torch.zeros(x.shape[:2]))
        return read(x, lengths, **given)

    return rewired(build(**options), forward)


@fault("initialisation-authors", "it has parameters that are unset or infinite")
def one_start_unset(build, options):
    network = build(**options)
    if options["init"] == "authors":
        nn.init.constant_(network.layers[0].b, torch.nan)
    return network


@pytest.mark.parametrize(("factory", "check", "sentence"), FAULTS)
def test_a_fault_is_found(factory, check, sentence):
    with pytest.raises(AssertionError, match=sentence):
        dict(network_checks(factory, n_states=2))[check]()


def test_nothing_is_found_where_nothing_is_wrong():
    check_network(built_by(lambda build, options: build(**options)))


def test_every_check_finds_a_fault():
    names = {name.partition("-")[0] for name, _ in network_checks(SFM)}
    assert {param.values[1].partition("-")[0] for param in FAULTS} == names


def test_the_message_names_the_network_and_its_options():
    with pytest.raises(AssertionError, match=r"^functools\.partial.*\(3, n_states=10\): it does not set `causal`"):
        check_network(functools.partial(FAULTS[0].values[0], bidirectional=False))


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
