"""Batches and the training loop."""

import itertools
import logging
import math

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sfmts import SFMClassifier
from sfmts._batch import SequenceBatch, bucketed_batches
from sfmts.heads import BernoulliHead, ClassificationHead, NADEHead, RegressionHead
from sfmts.model import SequenceModel
from sfmts.networks import LSTM, NetworkOutput, SequenceNetwork, register_network
from sfmts.networks import base as networks_base
from sfmts.training import Trainer, TrainingSettings, _Best, _Ranks, best_epoch, evaluate, is_better, outputs
from tests.helpers import make_panel


def make_batch(n=10, ragged=True, n_channels=2):
    X, y = make_panel(n=n, n_channels=n_channels, ragged=ragged)
    lengths = torch.tensor([len(series) for series in X])
    values = torch.cat([torch.tensor(series) for series in X])
    weight = torch.arange(1.0, n + 1, dtype=torch.float64)
    return SequenceBatch(values, lengths, values[:, 0].clone(), torch.tensor(y), weight), X


def make_trainer(**settings):
    network = LSTM(2, n_states=4, generator=torch.Generator().manual_seed(0))
    model = SequenceModel(network, ClassificationHead(4, 2, generator=torch.Generator().manual_seed(1))).double()
    return Trainer(model, TrainingSettings(**{"max_iter": 4, **settings}), torch.Generator().manual_seed(2))


@pytest.mark.parametrize("ragged", [False, True], ids=["equal", "ragged"])
def test_take_gives_the_series_asked_for(ragged):
    batch, X = make_batch(ragged=ragged)
    index = torch.tensor([7, 0, 3, 3])
    part = batch.take(index)
    assert part.x.shape == (4, int(batch.lengths[index].max()), 2)
    for row, number in enumerate(index.tolist()):
        length = len(X[number])
        assert torch.equal(part.x[row, :length], torch.tensor(X[number]))
        assert not part.x[row, length:].any()
        assert torch.equal(part.t[row, :length], torch.tensor(X[number][:, 0]))
    assert torch.equal(part.target, batch.target[index])
    assert torch.equal(part.weight, batch.weight[index])


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_each_series_once_an_epoch_with_mates_of_its_length(batch_size):
    lengths = torch.randint(1, 500, (300,), generator=torch.Generator().manual_seed(0))
    batches = bucketed_batches(lengths, batch_size, torch.Generator().manual_seed(1))
    assert torch.equal(torch.cat(list(batches)).sort().values, torch.arange(300))
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    at_random = sum(len(b) * int(lengths[b].max()) for b in torch.arange(300).split(batch_size))
    if 1 < batch_size < 300:
        assert padded < 0.8 * at_random
    again = bucketed_batches(lengths, batch_size, torch.Generator().manual_seed(1))
    other = bucketed_batches(lengths, batch_size, torch.Generator().manual_seed(2))
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(batches, other, strict=True))


def test_cosine_rate_falls_from_its_start_to_nothing():
    batch, _ = make_batch()
    trainer = make_trainer(max_iter=50, batch_size=5, tol=0.0, learning_rate_init=0.1)
    rates = trainer.fit(batch).learning_rate
    assert len(rates) == 50
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert rates[0] == pytest.approx(0.1 * 0.5 * (1 + math.cos(math.pi / 100)))
    assert rates[-1] < 1e-4


def test_constant_rate_is_constant():
    batch, _ = make_batch()
    assert make_trainer(schedule="constant").fit(batch).learning_rate == [0.01] * 4


def test_a_plateau_ends_training_at_a_constant_rate_but_not_at_a_falling_one():
    batch, _ = make_batch()
    settings = {"max_iter": 30, "n_iter_no_change": 3, "tol": 0.5}
    constant = make_trainer(schedule="constant", **settings).fit(batch)
    assert len(constant.loss) < 30
    assert constant.stopped == "loss"
    falling = make_trainer(learning_rate_init=1e-5, **settings).fit(batch)
    assert len(falling.loss) == 30
    assert falling.loss[-1] > 0.5


def test_gradients_are_clipped():
    batch, _ = make_batch()
    norms = []
    trainer = make_trainer(clip_norm=1e-3, optimizer="sgd")
    trainer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(float(torch.cat([p.grad.flatten() for p in trainer.parameters]).norm()))
    )
    trainer.fit(batch)
    assert max(norms) <= 1e-3 * (1 + 1e-6)


def test_weights_lost_in_the_last_update_are_noticed():
    batch, _ = make_batch()
    trainer = make_trainer(max_iter=1, batch_size=100, learning_rate_init=1e308, clip_norm=None)
    with pytest.raises(FloatingPointError, match=r"last update.*learning_rate_init \(now 1e\+308\) or set clip_norm"):
        trainer.fit(batch)


@pytest.mark.parametrize("batch_size", [3, 10])
def test_evaluation_is_a_weighted_mean_whatever_the_batches(batch_size):
    batch, _ = make_batch()
    trainer = make_trainer()
    trainer.fit(batch)
    score, loss = evaluate(trainer.model, batch, batch_size)
    logits = outputs(trainer.model, batch, 1)[:, 0]
    right = ((logits > 0).long() == batch.target).double()
    losses = torch.nn.functional.softplus(torch.where(batch.target == 1, -logits, logits))
    assert score == pytest.approx(float((right * batch.weight).sum() / batch.weight.sum()))
    assert loss == pytest.approx(float((losses * batch.weight).sum() / batch.weight.sum()))


def test_ones_own_network_with_a_loss_of_its_own(monkeypatch):
    """A network that is registered serves the estimators, and its extra loss is minimised with the rest."""
    monkeypatch.setattr(networks_base, "_REGISTRY", dict(networks_base._REGISTRY))

    @register_network("average")
    class Average(SequenceNetwork):
        def __init__(self, n_channels, *, penalty=0.0, generator=None):
            super().__init__()
            self.n_channels, self.output_size, self.causal = n_channels, n_channels, True
            self.scale = torch.nn.Parameter(torch.ones(n_channels))

        def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
            counts = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
            final = self.scale * x.square().sum(1) / counts[:, None].to(x)
            return NetworkOutput(x, final, None, extra_loss=(self.scale - 3.0).square().sum())

    X, y = make_panel(ragged=True)
    model = SFMClassifier("average", base=None, max_iter=200, tol=0.0, learning_rate_init=0.05, random_state=0).fit(
        X, y
    )
    torch.testing.assert_close(model.module_.network.scale.detach(), torch.full((2,), 3.0).double(), atol=0.5, rtol=0)
    assert not hasattr(model, "state_amplitudes")
    assert model.backend_ == "torch"


def overflow(monkeypatch, updates):
    """Let the gradient's norm be infinite in the updates numbered."""
    count = iter(range(10**6))
    clip = torch.nn.utils.clip_grad_norm_

    def clipped(parameters, norm):
        return torch.tensor(torch.inf) if next(count) in updates else clip(parameters, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipped)


def test_an_update_whose_gradient_overflowed_is_left_out(monkeypatch):
    X, y = make_panel()
    options = {"n_states": 4, "max_iter": 3, "batch_size": 8, "random_state": 0}
    expected = SFMClassifier(base=None, **options).fit(X, y)
    overflow(monkeypatch, {1, 2, 5})
    model = SFMClassifier(base=None, **options).fit(X, y)
    assert model.history_["n_updates"] == expected.history_["n_updates"] - 3
    assert all(torch.isfinite(p).all() for p in model.module_.parameters())


def test_gradients_that_always_overflow_end_training_with_advice(monkeypatch):
    X, y = make_panel()
    overflow(monkeypatch, set(range(100)))
    with pytest.raises(FloatingPointError, match=r"norm has been inf in 10 updates in a row.*learning_rate_init"):
        SFMClassifier(base=None, n_states=4, max_iter=20, batch_size=8, random_state=0).fit(X, y)


def test_masks_of_another_device_leave_the_order_of_batches(monkeypatch):
    generator, make = torch.Generator().manual_seed(0), torch.Generator
    before = generator.get_state()
    assert _Ranks(None, torch.device("cpu")).dropout_generator(generator) is generator
    monkeypatch.setattr(torch, "Generator", lambda device: make())  # there may be no such device here
    masks = _Ranks(None, torch.device("cuda")).dropout_generator(generator)
    assert torch.equal(generator.get_state(), before)
    assert not torch.equal(torch.rand(5, generator=masks), torch.rand(5, generator=generator.clone_state()))


def diverge(monkeypatch, epoch, updates_per_epoch):
    """Let the training loss be NaN from the second update of an epoch on, when weights are spoilt."""
    step, count = Trainer._train_step, iter(range(10**6))

    def broken(self, *arguments):
        number = next(count)
        if number == updates_per_epoch * (epoch - 1):
            with torch.no_grad():
                for parameter in self.parameters:
                    parameter.fill_(torch.nan)
                for state in self.optimizer.state.values():
                    state["exp_avg"].fill_(torch.nan)
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", broken)


def test_the_best_weights_outlive_a_divergence(monkeypatch):
    X, y = make_panel(n=40)
    options = {"n_states": 4, "batch_size": 9, "random_state": 0, "early_stopping": True, "tol": 0.0}
    options |= {"optimizer_params": {"schedule": "constant"}, "validation_fraction": 0.1}
    with pytest.warns(ConvergenceWarning, match="still falling"):
        expected = SFMClassifier(base=None, **options, max_iter=3).fit(X, y)
    with monkeypatch.context() as patch:
        diverge(patch, epoch=4, updates_per_epoch=4)
        with pytest.warns(ConvergenceWarning, match=r"training loss became nan in epoch 4.*keeps the weights of epoch"):
            model = SFMClassifier(base=None, **options, max_iter=9).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    assert model.history_["stopped"] == "diverged"
    assert model.validation_scores_ == expected.validation_scores_
    model.partial_fit(X, y)  # from moments that are finite
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(("early_stopping", "epoch"), [(False, 4), (True, 1)])
def test_a_divergence_without_weights_to_go_back_to_is_an_error(monkeypatch, early_stopping, epoch):
    X, y = make_panel(n=40)
    diverge(monkeypatch, epoch, updates_per_epoch=4)
    options = {"n_states": 4, "batch_size": 10 - early_stopping, "max_iter": 9, "random_state": 0}
    with pytest.raises(FloatingPointError, match=f"training loss became nan in epoch {epoch}"):
        SFMClassifier(
            base=None, **options, tol=0.0, optimizer_params={"schedule": "constant"}, early_stopping=early_stopping
        ).fit(X, y)


def test_a_score_that_is_no_number_is_never_the_best():
    best = _Best(0.0, 5)
    trainer = make_trainer()
    for key in ((math.nan, math.nan), (0.5, -1.0), (math.nan, -0.5), (0.25, -0.75)):
        best.update(key, trainer.model)
    assert (best.key, best.epoch) == ((0.5, -1.0), 2)
    _Best(0.0, 5).update((math.nan, 0.0), trainer.model)


@pytest.mark.parametrize(
    ("scores", "epoch"),
    [([], 1), ([0.1, 0.3, 0.3], 2), ([math.nan, -0.5, -0.2, math.nan], 3), ([math.nan] * 3, 1), ([-math.inf, -1.0], 2)],
)
def test_the_best_epoch_is_never_one_whose_score_is_nan(scores, epoch):
    assert best_epoch(scores) == epoch


def test_a_loss_that_ends_far_above_its_start_is_told():
    X, y = make_panel(n=40)
    options = {
        "network": "resonator",
        "pooling": "last",
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate_init": 10.0,
        "optimizer_params": {"clip_norm": None},
    }
    with pytest.warns(
        ConvergenceWarning, match=r"diverged: the loss rose from 0\.\d+ .*Lower learning_rate_init \(now 10"
    ):
        SFMClassifier(base=None, **options, max_iter=5, random_state=0).fit(X, y)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"learning_rate_init": 1e-5}], ids=str)
def test_a_loss_that_falls_is_not_told(settings, recwarn):
    batch, _ = make_batch(n=40)
    make_trainer(**settings).fit(batch)
    assert not recwarn.list


LONG = torch.tensor([3, 3, 4, 5, 5, 9, 30, 200])  # 8 x 200 padded steps, of which 259 are needed
HEADS = {
    "classifier": lambda: (ClassificationHead(4, 3), lambda n: torch.arange(n) % 3),
    "regressor": lambda: (RegressionHead(4, 2), lambda n: torch.randn(n, 2).double()),
    "labeler": lambda: (ClassificationHead(4, 2, per_step=True), lambda n: torch.arange(n) % 2),
    "density": lambda: (BernoulliHead(4, 2), lambda n: torch.randint(2, (n, 2)).double()),
    "nade": lambda: (NADEHead(4, 2, 3), lambda n: torch.randint(2, (n, 2)).double()),
}


class Measured(SequenceNetwork):
    """An LSTM with an extra loss, the mean over all steps; it notes how many padded steps it reads at once."""

    def __init__(self):
        super().__init__()
        self.lstm, self.sizes = LSTM(2, n_states=4), []
        self.n_channels, self.output_size, self.causal = 2, 4, True

    def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
        self.sizes.append(x.shape[:2])
        output = self.lstm(x, lengths)
        steps = x.shape[0] * x.shape[1] if lengths is None else int(lengths.sum())
        return output._replace(state=None, extra_loss=output.states.square().sum() / steps)


def one_update(head, bound=None, monkeypatch=None, **settings):
    """Return the gradient of a ragged, weighted mini-batch, the sizes read, and the trainer."""
    with torch.random.fork_rng(), monkeypatch.context() as patch:
        if bound is not None:
            patch.setattr("sfmts._batch._PADDED_STEPS", bound)
        torch.manual_seed(0)
        made, make_target = HEADS[head]()
        model = SequenceModel(Measured(), made, pooling="mean").double()
        values = torch.randn(int(LONG.sum()), 2).double()
        n = len(values) if made.per_step else len(LONG)
        batch = SequenceBatch(values, LONG, None, make_target(n), torch.rand(n).double(), "list", made.per_step)
        settings = TrainingSettings(max_iter=1, batch_size=8, clip_norm=None, **settings)
        trainer, gradients = Trainer(model, settings, torch.Generator().manual_seed(0)), []
        trainer.optimizer.register_step_pre_hook(
            lambda *_: gradients.append(torch.cat([p.grad.flatten() for p in trainer.parameters]))
        )
        trainer.fit(batch)
    (gradient,) = gradients
    return gradient, model.network.sizes, trainer


@pytest.mark.parametrize("head", HEADS)
def test_parts_of_a_mini_batch_have_its_gradient_and_bounded_sizes(head, monkeypatch):
    whole, sizes, expected = one_update(head, monkeypatch=monkeypatch)
    assert sizes == [(8, 200)]
    parts, sizes, trainer = one_update(head, 60, monkeypatch)
    assert sizes == [(6, 9), (1, 30), (1, 200)]
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(trainer.history.loss, expected.history.loss, rtol=1e-12)
    np.testing.assert_allclose(trainer._first_loss, expected._first_loss, rtol=1e-12)
    assert trainer.history.n_updates == 1


def test_parts_of_a_mini_batch_are_clipped_together(monkeypatch):
    batch, _ = make_batch()
    results = []
    for bound in (1 << 18, 30):
        monkeypatch.setattr("sfmts._batch._PADDED_STEPS", bound)
        trainer = make_trainer(clip_norm=1e-3, optimizer="sgd")
        trainer.fit(batch)
        results.append(torch.cat([p.detach().flatten() for p in trainer.parameters]))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-14)


class Scarce(SequenceNetwork):
    """An LSTM that runs out of memory, forwards or backwards, above a number of padded steps."""

    def __init__(self, most, backward=False, training=True):
        super().__init__()
        self.lstm = LSTM(2, n_states=4, generator=torch.Generator().manual_seed(0))
        self.most, self.fails_backward, self.only_training = most, backward, training
        self.n_channels, self.output_size, self.causal = 2, 4, True
        self.read, self.failures = [], 0

    def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
        size = x.shape[0] * x.shape[1]
        fails = size > self.most and self.training == self.only_training
        if fails and not self.fails_backward:
            self._run_out()
        output = self.lstm(x, lengths)
        steps = size if lengths is None else int(lengths.sum())
        final = output.final
        if fails:
            final = final + 0.0
            final.register_hook(lambda gradient: self._run_out())
        else:
            self.read.append(size)
        return output._replace(state=None, final=final, extra_loss=output.states.square().sum() / steps)

    def _run_out(self):
        self.failures += 1
        raise torch.OutOfMemoryError("CUDA out of memory")


SCARCE = torch.tensor([3, 3, 4, 5, 5, 9, 200, 200])


def scarce_trainer(most, head="classifier", dropout=0.0, backward=False, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made, make_target = HEADS[head]()
        values = torch.randn(int(SCARCE.sum()), 2).double()
        n = len(values) if made.per_step else len(SCARCE)
        data = SequenceBatch(values, SCARCE, None, make_target(n), torch.rand(n).double(), "list", made.per_step)
    pooling = "last" if backward else "mean"
    model = SequenceModel(Scarce(most, backward), made, pooling=pooling, dropout=dropout).double()
    options = {"max_iter": 5, "batch_size": 4, "learning_rate_init": 0.05, **settings}
    return Trainer(model, TrainingSettings(**options), torch.Generator().manual_seed(0)), data


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.parameters])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1e-2, "optimizer": "sgd"}], ids=["adam", "clipped sgd"])
def test_a_fit_short_of_memory_is_that_with_enough(head, settings, caplog):
    expected, data = scarce_trainer(10**9, head, **settings)
    expected.fit(data)
    short, _ = scarce_trainer(200, head, **settings)
    with caplog.at_level(logging.WARNING, "sfmts"):
        short.fit(data)
    torch.testing.assert_close(weights(short), weights(expected), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(short.history.loss, expected.history.loss, rtol=1e-9)
    assert short.history.n_updates == expected.history.n_updates == 10
    network = short.model.network
    assert max(network.read) <= 200 < max(expected.model.network.read)
    assert network.failures == 2  # 4 x 200, 2 x 200; later mini-batches are cut beforehand
    (record,) = caplog.records
    assert "at most 200 padded steps" in record.getMessage()


def test_memory_that_runs_out_in_the_backward_pass():
    results = []
    for most in (10**9, 200):
        trainer, data = scarce_trainer(most, backward=True)
        trainer.fit(data)
        results.append(weights(trainer))
    assert trainer.model.network.failures == 2
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-12)


def test_a_failed_attempt_leaves_random_numbers_alone():
    fits = [scarce_trainer(200, dropout=0.5) for _ in range(2)]
    fits[1][0]._room.steps = 200  # known beforehand
    for trainer, data in fits:
        trainer.fit(data)
    (short, _), (known, _) = fits
    assert (short.model.network.failures, known.model.network.failures) == (2, 0)
    assert torch.equal(weights(short), weights(known))


def test_a_series_that_does_not_fit_is_an_error_with_advice():
    trainer, data = scarce_trainer(150)
    with pytest.raises(torch.OutOfMemoryError, match=r'single series of 200 steps.*"memory": "recompute".*CUDA out'):
        trainer.fit(data, epochs=1)
    assert trainer.model.network.failures == 3


def test_a_mini_batch_whose_statistics_matter_is_not_cut():
    trainer, data = scarce_trainer(200)
    model = trainer.model
    model.head.projection = torch.nn.Sequential(torch.nn.BatchNorm1d(4), model.head.projection).double()
    trainer = Trainer(model, trainer.settings, torch.Generator().manual_seed(0))
    with pytest.raises(torch.OutOfMemoryError, match=r"4 series .* statistics of a mini-batch.*smaller batch_size"):
        trainer.fit(data)
    assert model.network.failures == 1


@pytest.mark.parametrize("head", ["classifier", "labeler"])
def test_predictions_short_of_memory_are_those_with_enough(head, caplog):
    trainer, data = scarce_trainer(10**9, head)
    model = trainer.model
    expected = outputs(model, data, 8)
    model.network.most, model.network.only_training = 200, False
    with caplog.at_level(logging.WARNING, "sfmts"):
        found = outputs(model, data, 8)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert model.network.failures == 2
    assert [record.getMessage().split("most ")[1] for record in caplog.records] == [
        f"{steps} padded steps." for steps in (800, 200)
    ]
    model.network.most = 100
    with pytest.raises(torch.OutOfMemoryError, match=r"single series of 200 steps\. Shorten the series, or compute on"):
        outputs(model, data, 8)


def test_a_fit_with_validation_short_of_memory():
    results = []
    for most in (10**9, 200):
        trainer, data = scarce_trainer(most)
        trainer.model.network.only_training = False
        results.append(trainer.fit(data, data).validation_loss)
    np.testing.assert_allclose(*results, rtol=1e-9)
    assert trainer.model.network.failures == 2  # batches of 4; remembered over the epochs


def test_a_mini_batch_within_the_bound_is_read_at_once(monkeypatch):
    expected, sizes, _ = one_update("classifier", 1600, monkeypatch)
    assert sizes == [(8, 200)]
    assert torch.equal(expected, one_update("classifier", monkeypatch=monkeypatch)[0])


def test_a_part_whose_loss_is_not_finite_leaves_the_weights(monkeypatch):
    monkeypatch.setattr("sfmts._batch._PADDED_STEPS", 30)
    batch, _ = make_batch()
    batch.values[0] = torch.inf
    trainer = make_trainer()
    before = [p.detach().clone() for p in trainer.parameters]
    with pytest.raises(FloatingPointError, match="training loss became nan in epoch 1"):
        trainer.fit(batch)
    assert all(map(torch.equal, before, trainer.parameters))


@pytest.mark.parametrize("rank", range(4))
def test_ranks_without_series_share_one_without_weight(rank):
    batch = SequenceBatch(torch.ones(5, 1), torch.tensor([3, 2]), target=torch.tensor([0, 1]))
    ranks = _Ranks(None, torch.device("cpu"))
    ranks.rank, ranks.size = rank, 4
    share, part = ranks.share(batch)
    assert part == (0.6, 0.4, 0.0, 0.0)[rank]
    assert share.total_weight == (1.0 if rank < 2 else 0.0)


def test_what_is_better_has_to_prove_itself():
    losses = torch.ones(100, dtype=torch.float64)
    noise = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean()) / noise.std(correction=0)
    assert is_better(losses, losses + 1.0, 10)
    assert not is_better(losses, losses, 10)
    assert is_better(losses, losses + 0.2 + noise, 900)  # the standard error is 0.03
    assert not is_better(losses, losses + 0.2 + noise, 5)  # 0.5, of which half is more than 0.2
    assert not is_better(losses, losses + 0.2 + noise, 1)  # one item proves nothing
    weight = torch.cat([torch.ones(50), torch.zeros(50)]).double()
    others = losses + torch.cat([torch.full((50,), 0.2), torch.full((50,), -9.0)])
    assert is_better(losses, others, 10, weight)
    assert not is_better(losses, others, 10)
