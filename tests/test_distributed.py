"""Training one model in two processes, started as a user would: by torchrun, with gloo.

``python -m tests.test_distributed FOLDER`` is what each of the processes runs.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sfmts import _batch
from sfmts._batch import SequenceBatch
from sfmts.heads import ClassificationHead
from sfmts.model import SequenceModel
from sfmts.networks import LSTM, SFM, NetworkOutput, SequenceNetwork
from sfmts.training import Trainer, TrainingSettings
from tests.helpers import make_panel

N_RANKS = 2
CHECKPOINT = Path(sys.argv[-1]) / "checkpoint"  # in the processes, which share a folder
CONSTANT = {"schedule": "constant", "tol": 0.0}


class Penalised(SequenceNetwork):
    """A mean of squares, times weights that are drawn to 3 and to where they make the mean over all steps small."""

    def __init__(self):
        super().__init__()
        self.n_channels, self.output_size, self.causal = 2, 2, True
        self.scale = torch.nn.Parameter(torch.ones(2))

    def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
        counts = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        energy = x.square().sum(1) / counts[:, None].to(x)
        penalty = (self.scale - 3.0).square().sum() + (self.scale * x.square()).sum() / counts.sum()
        return NetworkOutput(x, self.scale * energy, None, extra_loss=penalty)


def make_data(n, ragged=True, weighted=True, per_step=False, seed=0):
    X, y = make_panel(n=n, ragged=ragged, seed=seed)
    lengths = torch.tensor([len(series) for series in X])
    values = torch.cat([torch.tensor(series) for series in X])
    target = torch.tensor(y)
    if per_step:
        target = (values[:, 0] > 0).long()
    weight = torch.arange(1, len(target) + 1).double().remainder(5) if weighted else None
    return SequenceBatch(values, lengths, target=target, weight=weight, target_per_step=per_step)


def make_trainer(group, network=None, per_step=False, seed=0, dropout=0.0, **settings):
    generator = torch.Generator().manual_seed(seed)
    network = LSTM(2, n_states=4, generator=generator) if network is None else network
    head = ClassificationHead(network.output_size, 2, generator=generator, per_step=per_step)
    model = SequenceModel(network, head, dropout=dropout).double()
    settings = TrainingSettings(**{"max_iter": 4, "batch_size": 8, "learning_rate_init": 0.02, **settings})
    return Trainer(model, settings, generator, group)


def result(trainer, train, valid=None, **options):
    history = trainer.fit(train, valid, **options).as_dict()
    return history, {name: value.clone() for name, value in trainer.model.state_dict().items()}


# What is the same in any number of processes.


def equal_lengths(group):
    return result(make_trainer(group), make_data(24, ragged=False, weighted=False))


def ragged_weighted(group):
    """The last mini-batch has one series, so that one rank has none."""
    network = SFM(2, n_states=3, frequencies="learned", generator=torch.Generator().manual_seed(1))
    return result(make_trainer(group, network), make_data(25))


def every_step_labelled(group):
    return result(make_trainer(group, per_step=True), make_data(17, per_step=True))


def clipped_sgd(group):
    settings = {"clip_norm": 1e-2, "optimizer": "sgd", "weight_decay": 0.1}
    return result(make_trainer(group, **settings), make_data(25))


def not_clipped(group):
    return result(make_trainer(group, clip_norm=None), make_data(25))


def extra_loss(group):
    return result(make_trainer(group, Penalised()), make_data(24))


def in_parts(group):
    """Mini-batches above the bound of padded steps; the ranks read theirs in different numbers of parts."""
    bound, _batch._PADDED_STEPS = _batch._PADDED_STEPS, 40
    try:
        return result(make_trainer(group, Penalised()), make_data(25))
    finally:
        _batch._PADDED_STEPS = bound


def early_stopping(group):
    """Validation on three series, of which one rank has two; the best epoch is not the last."""
    settings = {"max_iter": 40, "n_iter_no_change": 3, "learning_rate_init": 0.1, "tol": 1e-3}
    return result(make_trainer(group, **settings), make_data(25), make_data(3, seed=1))


def validation_on_one_series(group):
    return result(make_trainer(group), make_data(9), make_data(1, seed=1, weighted=False))


SCENARIOS = [
    equal_lengths,
    ragged_weighted,
    every_step_labelled,
    clipped_sgd,
    not_clipped,
    extra_loss,
    in_parts,
    early_stopping,
    validation_on_one_series,
]

# What only several processes can show.


class Watcher:
    """Does something as each epoch begins, and stops training after the epoch ``last``."""

    def __init__(self, action=lambda epoch: None, last=None):
        self.action, self.last, self.epoch = action, last, 0

    def epoch_begins(self):
        self.epoch += 1
        self.action(self.epoch)

    def epoch_ended(self):
        return self.epoch == self.last


def different_seeds(group):
    return result(make_trainer(group, seed=dist.get_rank()), make_data(25))


def nobody_asked(group):
    """One rank trains for itself."""
    return result(make_trainer(None), make_data(25)) if dist.get_rank() else None


def dropout(group):
    trainer = make_trainer(group, dropout=0.5)
    masks = torch.rand(20, generator=trainer.dropout_generator.clone_state())
    return *result(trainer, make_data(25)), masks


def overflow_on_one_rank(group):
    """The second of two updates is left out."""
    trainer = make_trainer(group, max_iter=2, batch_size=24, **CONSTANT)
    calls = iter([False, dist.get_rank() == 1])
    trainer.parameters[0].register_hook(lambda gradient: gradient * torch.inf if next(calls) else gradient)
    return result(trainer, make_data(24))


def stopped_on_one_rank(group):
    return result(make_trainer(group), make_data(25), watcher=Watcher(last=2) if dist.get_rank() else None)


def interrupted_on_one_rank(group, epoch=3):
    def interrupt(now):
        if now == epoch and dist.get_rank() == 1:
            signal.raise_signal(signal.SIGINT)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            history, weights = result(make_trainer(group, **CONSTANT), make_data(25), watcher=Watcher(interrupt))
        except KeyboardInterrupt:
            return "KeyboardInterrupt"
    handler_is_back = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return history, weights, [str(warning.message) for warning in caught], handler_is_back


def interrupted_before_the_first_update(group):
    return interrupted_on_one_rank(group, epoch=1)


def resumed(group):
    """Training that fails in its third epoch, and is started again; dropout needs the generator of each rank."""
    expected = result(make_trainer(group, dropout=0.5), make_data(25))

    def fail(epoch):
        if epoch == 3:
            raise ArithmeticError

    files = []
    for watcher in (Watcher(fail), Watcher()):
        trainer = make_trainer(group, dropout=0.5, checkpoint_seconds=0.0)
        with contextlib.suppress(ArithmeticError):
            found = result(trainer, make_data(25), watcher=watcher, checkpoint=CHECKPOINT)
        dist.barrier()
        files.append(CHECKPOINT.exists())
        dist.barrier()
    return expected, found, watcher.epoch, files


def terminated_on_one_rank(group):
    """The file is that of the update after which training ended."""

    def terminate(epoch):
        if epoch == 3 and dist.get_rank() == 1:
            signal.raise_signal(signal.SIGTERM)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(group)
        history, _ = result(trainer, make_data(25), watcher=Watcher(terminate), checkpoint=CHECKPOINT)
    dist.barrier()
    again = result(make_trainer(group), make_data(25), checkpoint=CHECKPOINT)
    dist.barrier()
    return history, [str(warning.message) for warning in caught], again


def file_on_one_rank(group):
    """Ranks without a common file system."""
    for name in ("0", str(dist.get_rank())):
        try:
            trainer = make_trainer(group, checkpoint_seconds=0.0)
            trainer.fit(make_data(25), watcher=Watcher(fail_in_second), checkpoint=CHECKPOINT.with_name(name))
        except ArithmeticError:
            dist.barrier()
        except ValueError as error:
            return str(error)
    return None


def fail_in_second(epoch):
    if epoch == 2:
        raise ArithmeticError


def different_data(group):
    try:
        make_trainer(group).fit(make_data(20 + dist.get_rank()))
    except ValueError as error:
        return str(error)


def unused_parameter(group):
    network = LSTM(2, n_states=4, generator=torch.Generator().manual_seed(0))
    network.spare = torch.nn.Parameter(torch.ones(2))
    try:
        make_trainer(group, network, max_iter=1, batch_size=24).fit(make_data(24))
    except ValueError as error:
        return str(error)


def progress(group):
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        make_trainer(group, verbose=1).fit(make_data(25))
    return stream.getvalue()


ONLY_TOGETHER = [
    different_seeds,
    nobody_asked,
    dropout,
    overflow_on_one_rank,
    stopped_on_one_rank,
    interrupted_on_one_rank,
    interrupted_before_the_first_update,
    resumed,
    terminated_on_one_rank,
    file_on_one_rank,
    different_data,
    unused_parameter,
    progress,
]


def main(folder):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    dist.init_process_group("gloo")
    results = {scenario.__name__: scenario(dist.group.WORLD) for scenario in (*SCENARIOS, *ONLY_TOGETHER)}
    torch.save(results, Path(folder) / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each rank brought back."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={N_RANKS}"]
    done = subprocess.run(
        [*torchrun, "--module", "tests.test_distributed", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(N_RANKS)]


def assert_same(actual, expected, tolerance=1e-9):
    history, weights = actual[:2]
    expected_history, expected_weights = expected[:2]
    for name, value in expected_history.items():
        assert history[name] == (value if isinstance(value, str | int) else pytest.approx(value, rel=tolerance)), name
    assert weights.keys() == expected_weights.keys()
    for name, value in expected_weights.items():
        torch.testing.assert_close(weights[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_two_processes_train_as_one(scenario, ranks):
    expected = scenario(None)
    for results in ranks:
        assert_same(results[scenario.__name__], expected)


@pytest.mark.parametrize("scenario", [*SCENARIOS, different_seeds, dropout], ids=lambda scenario: scenario.__name__)
def test_all_ranks_have_the_same_model_to_the_bit(scenario, ranks):
    first, second = (results[scenario.__name__] for results in ranks)
    assert_same(second, first, tolerance=0.0)


def test_scenarios_are_what_they_say():
    history, weights = early_stopping(None)
    assert history["stopped"] == "validation_score"
    assert len(history["loss"]) < 40
    assert history["validation_score"].index(max(history["validation_score"])) < len(history["loss"]) - 1
    assert not torch.equal(clipped_sgd(None)[1]["head.projection.bias"], weights["head.projection.bias"])


def test_model_and_order_are_those_of_rank_0(ranks):
    expected = result(make_trainer(None, seed=0), make_data(25))
    assert_same(ranks[1]["different_seeds"], expected)


def test_without_a_group_a_process_trains_alone(ranks):
    assert ranks[0]["nobody_asked"] is None
    assert_same(ranks[1]["nobody_asked"], result(make_trainer(None), make_data(25)), tolerance=1e-12)


def test_each_rank_draws_its_own_dropout_masks(ranks):
    (history, weights, masks), (_, _, other_masks) = (results["dropout"] for results in ranks)
    assert not (masks == other_masks).any()
    without = equal_lengths(None)[1]
    assert not torch.equal(weights["head.projection.weight"], without["head.projection.weight"])
    assert history["stopped"] == "max_iter"


def test_an_overflow_on_one_rank_leaves_the_update_out_on_all(ranks):
    one_update = result(make_trainer(None, max_iter=1, batch_size=24, **CONSTANT), make_data(24))
    for results in ranks:
        history, weights = results["overflow_on_one_rank"]
        assert history["n_updates"] == 1
        assert len(history["loss"]) == 2
        for name, value in one_update[1].items():
            torch.testing.assert_close(weights[name], value, rtol=1e-9, atol=1e-9)


def test_a_watcher_of_one_rank_stops_all(ranks):
    for results in ranks:
        history, _ = results["stopped_on_one_rank"]
        assert history["stopped"] == "callback"
        assert len(history["loss"]) == 2


def test_an_interrupt_of_one_rank_stops_all_after_the_same_update(ranks):
    two_epochs = result(make_trainer(None, max_iter=2, **CONSTANT), make_data(25))
    for results in ranks:
        history, weights, messages, handler_is_back = results["interrupted_on_one_rank"]
        assert history["stopped"] == "interrupted"
        assert_same(({**history, "stopped": "max_iter"}, weights), two_epochs)
        assert messages == ["Training was interrupted; the model keeps what it has learned so far."]
        assert handler_is_back
        assert results["interrupted_before_the_first_update"] == "KeyboardInterrupt"


def test_ranks_go_on_from_a_checkpoint(ranks):
    for results in ranks:
        expected, found, n_epochs, files = results["resumed"]
        assert_same(found, expected, tolerance=0.0)
        assert n_epochs == 3  # the end of the second, and two more
        assert files == [True, False]


def test_sigterm_of_one_rank_ends_training_on_all(ranks):
    for results in ranks:
        history, messages, again = results["terminated_on_one_rank"]
        assert (history["stopped"], history["n_updates"]) == ("terminated", 9)
        assert len(messages) == 1
        assert "Training was ended by SIGTERM" in messages[0]
        assert_same(again, result(make_trainer(None), make_data(25)))


def test_ranks_have_to_share_the_file(ranks):
    for results in ranks:
        assert "Only some ranks found the checkpoint" in results["file_on_one_rank"]


def test_ranks_with_data_of_their_own_are_told(ranks):
    for results in ranks:
        assert "different data (20, 21 series)" in results["different_data"]
        assert "Pass all series in the same order" in results["different_data"]


def test_parameters_that_cannot_be_exchanged_are_named(ranks):
    for results in ranks:
        assert "does not depend on network.spare" in results["unused_parameter"]
        assert "requires_grad_(False)" in results["unused_parameter"]


def test_only_rank_0_shows_progress(ranks):
    assert "batch" in ranks[0]["progress"]
    assert ranks[1]["progress"] == ""


if __name__ == "__main__":
    main(sys.argv[1])
