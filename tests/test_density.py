"""What SFMDensity promises by itself; what it shares with others is in test_contract*.py."""

import math
import os

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from sfmts import SFMDensity
from sfmts.datasets.piano_rolls import fetch_piano_rolls
from sfmts.estimators import _base
from sfmts.metrics import bernoulli_log_likelihood, softmax_pressed_ceiling, softmax_pressed_log_likelihood
from sfmts.networks import register_network
from sfmts.networks.base import _REGISTRY, NetworkOutput, SequenceNetwork
from tests.helpers import NETWORKS
from tests.test_contract import copies_of

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

HEADS = ["linear", "none", "nade", "rbm"]
BERNOULLI = ["linear", "none"]  # channels are independent given the past: formulas are exact
RATED = ["linear"]  # have a bias that starts at the base rates

every_head = pytest.mark.parametrize("head", HEADS)
every_network = pytest.mark.parametrize("network", NETWORKS)
bernoulli = pytest.mark.parametrize("head", BERNOULLI)

FOLDER = os.environ.get("SFMTS_PIANO_ROLLS")


def tiny(**options):
    """A density that trains in a few milliseconds; dropout is left as it is by default."""
    return SFMDensity(**{"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0, **options})


def able(**options):
    return tiny(**{"n_states": 8, "max_iter": 60, **options})


def rolls(form="ragged", n=20, n_channels=3, seed=0):
    """Each frame is the last one, shifted by a channel, and some noise."""
    rng = np.random.RandomState(seed)
    lengths = rng.randint(4, 13, size=n) if form == "ragged" else np.full(n, 9)
    X = []
    for length in lengths:
        frames = [(rng.uniform(size=n_channels) < 0.4).astype(float)]
        for _ in range(length - 1):
            noise = rng.uniform(size=n_channels) < 0.1
            frames.append(np.abs(np.roll(frames[-1], 1) - noise))
        X.append(np.array(frames))
    return X if form == "ragged" else np.stack(X)


def turns(n=20, n_channels=3):
    """The channels take turns."""
    return [np.eye(n_channels)[(np.arange(8 + i % 5) + i) % n_channels] for i in range(n)]


def likelihoods(p, roll):
    """Log-likelihood of the frames of a roll from the second on, from the probabilities behind each frame."""
    return np.where(roll[1:] > 0, np.log(p[:-1]), np.log1p(-p[:-1])).sum(axis=1)


@pytest.fixture
def registered():
    """Register networks for one test."""
    names = []

    def register(name, cls):
        register_network(name)(cls)
        names.append(name)

    yield register
    for name in names:
        del _REGISTRY[name]


class TestScore:
    @bernoulli
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_is_the_mean_over_frames_from_the_second_on(self, head, form):
        X = rolls(form)
        model = tiny(head=head).fit(X)
        p = model.predict_proba(X)
        frames = np.concatenate([likelihoods(*pair) for pair in zip(p, X, strict=True)])
        assert len(frames) == sum(map(len, X)) - len(X)
        assert model.score(X) == pytest.approx(frames.mean(), rel=1e-10)
        metric = bernoulli_log_likelihood([roll[1:] for roll in X], [after[:-1] for after in p])
        assert model.score(X) == pytest.approx(metric, rel=1e-10)
        assert type(model.score(X)) is float

    @bernoulli
    def test_samples(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        found = model.score_samples(X)
        expected = [likelihoods(*pair).sum() for pair in zip(model.predict_proba(X), X, strict=True)]
        assert found.shape == (len(X),)
        np.testing.assert_allclose(found, expected, rtol=1e-10)

    @every_head
    def test_samples_are_sums_of_frames(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        found = model.score_samples(X)
        assert found.dtype == np.float64
        assert found.sum() / (sum(map(len, X)) - len(X)) == pytest.approx(model.score(X), rel=1e-10)
        np.testing.assert_allclose(np.append(model.score_samples(X[:7]), model.score_samples(X[7:])), found, rtol=1e-10)

    @bernoulli
    def test_chain_rule(self, head):
        """What more frames add is their log-likelihood given those before."""
        X = rolls()
        model = tiny(head=head).fit(X)
        p = model.predict_proba(X)
        begun = model.score_samples([roll[:3] for roll in X])
        rest = [likelihoods(*pair)[2:].sum() for pair in zip(p, X, strict=True)]
        np.testing.assert_allclose(begun + rest, model.score_samples(X), rtol=1e-10)

    @pytest.mark.parametrize("form", ["2-D", "3-D"])
    def test_samples_of_an_array(self, form):
        X = rolls("3-D")
        X = X[:, :, 0] if form == "2-D" else X
        model = tiny().fit(X)
        as_list = [roll[:, None] for roll in X] if form == "2-D" else list(X)
        np.testing.assert_array_equal(model.score_samples(X), model.score_samples(as_list))

    @every_head
    def test_a_single_frame_has_nothing_to_predict(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        mixed = [X[0][:1], X[1], X[2], X[3][:1]]
        found = model.score_samples(mixed)
        assert found[0] == found[3] == 0.0
        np.testing.assert_allclose(found[1:3], model.score_samples(X[1:3]), rtol=1e-10)
        assert model.score(mixed) == pytest.approx(model.score(X[1:3]), rel=1e-10)
        assert [p.shape for p in model.predict_proba(mixed)] == [roll.shape for roll in mixed]

    def test_samples_of_single_frames_only(self):
        X = rolls()
        model = tiny().fit(X)
        np.testing.assert_array_equal(model.score_samples([roll[:1] for roll in X]), np.zeros(len(X)))

    def test_no_score_without_a_second_frame(self):
        X = rolls()
        model = tiny().fit(X)
        for method in (model.score, model.fit):
            with pytest.raises(ValueError, match=r"X holds no series of two or more frames; at least one must"):
                method([roll[:1] for roll in X])

    def test_single_frames_do_not_sway_training(self):
        X = rolls()
        mixed = [X[0][:1], *X[1:], X[0][:1]]
        a, b = tiny(max_iter=2).fit(mixed), tiny(max_iter=2).fit(X[1:])
        np.testing.assert_array_equal(a.score_samples(X), b.score_samples(X))

    def test_the_first_frame_is_never_scored(self):
        """Where a frame says nothing about the next one, it may be anything."""
        X = rolls()
        model = tiny(network="lstm").fit(X)
        with torch.no_grad():
            for name, parameter in model.module_.network.named_parameters():
                if "weight" in name:
                    parameter.zero_()
        changed = [np.vstack([1 - roll[:1], roll[1:]]) for roll in X]
        np.testing.assert_allclose(model.score_samples(changed), model.score_samples(X), rtol=1e-12)
        changed = [np.vstack([roll[:1], 1 - roll[1:2], roll[2:]]) for roll in X]
        assert np.abs(model.score_samples(changed) - model.score_samples(X)).min() > 1e-6

    def test_y_is_ignored(self):
        X = rolls()
        model = tiny().fit(X, y=np.arange(len(X)))
        assert model.score(X, y=np.arange(len(X))) == tiny().fit(X).score(X)


def softmax_pressed(model, X):
    """Return what the SFM authors' program scores."""
    logits = [after[:-1] for after in model.decision_function(X)]
    return softmax_pressed_log_likelihood([roll[1:] for roll in X], logits)


class TestSoftmaxPressed:
    @bernoulli
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_logits_are_those_of_the_probabilities(self, head, form):
        X = rolls(form)
        model = tiny(head=head).fit(X)
        logits = [logit(p[:-1]) for p in model.predict_proba(X)]
        expected = softmax_pressed_log_likelihood([roll[1:] for roll in X], logits)
        assert softmax_pressed(model, X) == pytest.approx(expected, rel=1e-9)
        assert type(model.score(X)) is float
        assert model.score(X) != pytest.approx(expected, rel=1e-3)
        assert type(model.decision_function(X)) is (list if form == "ragged" else np.ndarray)

    @pytest.mark.parametrize("head", sorted(set(HEADS) - set(BERNOULLI)))
    def test_a_joint_head_has_no_logits(self, head):
        X = [np.tile(np.eye(3), (3, 1))] * 4
        model = SFMDensity(n_states=4, max_iter=1, head=head, n_hidden=3, random_state=0)
        assert not hasattr(model, "decision_function")
        model.fit(X).set_params(head="linear")
        with pytest.raises(AttributeError, match="has no attribute 'decision_function'") as caught:
            model.decision_function(X)
        assert f"head='{head}' has no logits of single channels; use head='linear'" in str(caught.value.__cause__)

    @pytest.mark.parametrize("head", BERNOULLI)
    def test_stays_below_its_ceiling(self, head):
        for X in (rolls(), turns()):
            model = tiny(head=head, max_iter=20).fit(X)
            assert softmax_pressed(model, X) < softmax_pressed_ceiling([roll[1:] for roll in X]) + 1e-12

    def test_single_frames_do_not_count(self):
        X = rolls()
        model = tiny().fit(X)
        assert model.score([*X, X[0][:1]]) == pytest.approx(model.score(X), rel=1e-12)


class TestPredictProba:
    @every_head
    @pytest.mark.parametrize("form", ["2-D", "3-D", "ragged"])
    def test_form(self, head, form):
        X = rolls("ragged" if form == "ragged" else "3-D")
        X = X[:, :, 0] if form == "2-D" else X
        p = tiny(head=head).fit(X).predict_proba(X)
        if form == "ragged":
            assert isinstance(p, list)
            assert [after.shape for after in p] == [roll.shape for roll in X]
        else:
            assert p.shape == (20, 9, 1 if form == "2-D" else 3)
        for after in p:
            assert ((after > 0) & (after < 1)).all()

    @every_head
    @every_network
    def test_knows_only_the_past(self, head, network):
        X = rolls()
        model = tiny(head=head, network=network, n_layers=2, n_states=3).fit(X)
        before = model.predict_proba(X)
        cut = model.predict_proba([roll[:2] for roll in X])
        changed = model.predict_proba([np.vstack([roll[:2], 1 - roll[2:]]) for roll in X])
        for a, b, c in zip(before, cut, changed, strict=True):
            np.testing.assert_allclose(a[:2], b, rtol=0, atol=1e-12)
            np.testing.assert_allclose(a[:2], c[:2], rtol=0, atol=1e-12)
            assert np.abs(a[2:] - c[2:]).max() > 1e-9

    @every_head
    def test_knows_all_of_the_past(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        changed = [np.vstack([1 - roll[:1], roll[1:]]) for roll in X]
        for a, b in zip(model.predict_proba(X), model.predict_proba(changed), strict=True):
            assert (np.abs(a - b).max(axis=1) > 0).all()

    @every_head
    def test_batch_mates_and_chunks_do_not_matter(self, head, monkeypatch):
        X = rolls()
        model = tiny(head=head).fit(X)
        p, samples = model.predict_proba(X), model.score_samples(X)
        monkeypatch.setattr(_base, "_PREDICTION_BATCH", 3)
        mates = [*X[::-1], *(np.tile(roll, (4, 1)) for roll in X)]
        for a, b, roll in zip(p, model.predict_proba(mates)[: len(X)][::-1], X, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
            np.testing.assert_allclose(a, model.predict_proba([roll])[0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(model.score_samples(mates)[: len(X)][::-1], samples, rtol=1e-9)

    def test_batch_mates_do_not_matter_where_frames_are_estimated(self):
        rng = np.random.default_rng(0)
        X = [(rng.random((length, 12)) < 0.3).astype(float) for length in (90, 7, 20)]
        model = tiny(head="rbm", n_hidden=12, max_iter=10).fit(X)  # 2^12 states are more than annealing visits
        together = model.score_samples(X)
        np.testing.assert_allclose([model.score_samples([roll])[0] for roll in X], together, rtol=1e-9)
        np.testing.assert_allclose(model.score_samples(X[::-1])[::-1], together, rtol=1e-9)


class TestHeads:
    """For each head what test_contract.py asks of the default one."""

    @every_head
    def test_copies_and_seeds(self, head, tmp_path):
        X = rolls()
        model = tiny(head=head).fit(X)
        for copied in [*copies_of(model, tmp_path / "model"), clone(model).fit(X)]:
            np.testing.assert_array_equal(copied.score_samples(X), model.score_samples(X))
            for a, b in zip(copied.predict_proba(X), model.predict_proba(X), strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(copied.sample(5, random_state=0), model.sample(5, random_state=0))
        other = tiny(head=head, random_state=1).fit(X)
        assert np.abs(other.score_samples(X) - model.score_samples(X)).max() > 1e-6

    @pytest.mark.slow
    @every_head
    @every_network
    def test_learns(self, head, network):
        X = turns()
        model = able(head=head, network=network, n_states=3 if head == "none" and network != "sfm" else 8).fit(X)
        assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]
        if head != "none":  # whose features are bounded: z is a tanh
            assert model.score(X) > -0.2

    @every_head
    def test_early_stopping_and_warm_start(self, head):
        X = rolls()
        model = tiny(head=head, early_stopping=True, validation_fraction=0.2, warm_start=True).fit(X)
        assert len(model.validation_scores_) == model.n_iter_
        before = model.score_samples(X)
        assert np.abs(model.fit(X).score_samples(X) - before).max() > 1e-6

    @every_head
    def test_dtype(self, head):
        for dtype in (np.float32, np.float64):
            X = [roll.astype(dtype) for roll in rolls()]
            model = tiny(head=head, device="cpu").fit(X)
            assert {p.dtype for p in model.predict_proba(X)} == {model.sample(3).dtype} == {np.dtype(dtype)}

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
    def test_other_types_of_rolls(self, dtype):
        X = rolls()
        converted = [roll.astype(dtype) for roll in X]
        a, b = tiny().fit(X), tiny().fit(converted)
        np.testing.assert_array_equal(a.score_samples(X), b.score_samples(converted))

    def test_width_of_the_output(self):
        X = rolls(n_channels=5)
        assert tiny().fit(X).module_.network.output_size == 5  # as many as channels, as in the paper
        assert tiny(network_params={"n_outputs": 2}).fit(X).module_.network.output_size == 2
        model = tiny(head="none", network_params={"n_outputs": 5}).fit(X)
        assert model.module_.network.output_size == 5
        assert not list(model.module_.head.parameters())


class Peeking(SequenceNetwork):
    """Knows the whole series at each step."""

    causal = False

    def __init__(self, n_channels, *, n_states=4, generator=None):
        super().__init__()
        self.n_channels, self.output_size = n_channels, n_states
        self.linear = nn.Linear(n_channels, n_states)

    def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
        states = self.linear(x.sum(dim=1, keepdim=True).expand_as(x))
        return NetworkOutput(states, states[:, -1], None)


class Counting(Peeking):
    """Counts what has been on so far.  Causal, but it cannot be continued."""

    causal = True

    def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
        states = self.linear(x.cumsum(dim=1))
        if lengths is None:
            return NetworkOutput(states, states[:, -1], None)
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        return NetworkOutput(states * inside[..., None], states[torch.arange(len(x)), lengths - 1], None)


class TestNetworks:
    @pytest.mark.parametrize("fitted", [False, True])
    def test_one_that_reads_the_future_is_refused(self, registered, fitted):
        registered("peeking", Peeking)
        X = rolls()
        model = tiny()
        before = model.fit(X).score_samples(X) if fitted else None
        message = r"network='peeking' reads what comes after a frame, so it cannot predict.*'sfm', 'lstm' or 'gru'"
        with pytest.raises(ValueError, match=message):
            model.set_params(network="peeking").fit(X)
        if fitted:
            np.testing.assert_array_equal(model.score_samples(X), before)
        else:
            assert not hasattr(model, "module_")

    def test_one_of_ones_own_serves(self, registered):
        registered("counting", Counting)
        X = rolls()
        model = tiny(network="counting").fit(X)
        assert type(model.module_.network) is Counting
        p = model.predict_proba(X)
        frames = np.concatenate([likelihoods(*pair) for pair in zip(p, X, strict=True)])
        assert model.score(X) == pytest.approx(frames.mean(), rel=1e-10)

    def test_one_that_cannot_be_continued_forgets_nothing(self, registered):
        """It must read everything again, or be refused; a sample from the last frame alone would be wrong."""
        registered("counting", Counting)
        X = rolls()
        model = tiny(network="counting", max_iter=20).fit(X)
        with torch.no_grad():
            model.module_.network.linear.weight.mul_(5.0)  # so that the past matters
        prompt = X[0][:4]
        try:
            found = model.sample(6, prompt=prompt, temperature=1e-9)
        except ValueError as error:
            assert "counting" in str(error)  # noqa: PT017 (a refusal is right, too)
            return
        for frame in found:
            np.testing.assert_array_equal(frame, model.predict_proba([prompt])[0][-1] > 0.5)
            prompt = np.vstack([prompt, frame])

    def test_what_is_no_choice(self):
        for name in ("bidirectional", "standardize", "time_channel", "pooling", "metric", "time"):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                SFMDensity(**{name: True})
            assert name not in SFMDensity().get_params()

    def test_time_is_the_index(self):
        with pytest.raises(ValueError, match="network='sfm' reads what comes after a frame"):
            tiny(network_params={"time": "normalized"}).fit(rolls())
        with pytest.raises(ValueError, match="time='timestamps', but no channel with time stamps; SFMDensity has none"):
            tiny(network_params={"time": "timestamps"}).fit(rolls())

    def test_search(self):
        X = rolls()
        search = GridSearchCV(tiny(), {"network": NETWORKS}, cv=2, error_score="raise").fit(X)
        test = [X[:10], X[10:]]
        for number, network in enumerate(search.cv_results_["param_network"]):
            for fold in (0, 1):
                model = tiny(network=network).fit(test[1 - fold])
                assert search.cv_results_[f"split{fold}_test_score"][number] == model.score(test[fold])
        assert search.best_score_ == max(search.cv_results_["mean_test_score"])

    def test_search_over_heads(self):
        X = rolls()
        search = GridSearchCV(tiny(), {"head": HEADS}, cv=2, error_score="raise").fit(X)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_better_networks_score_better_on_held_out_music(self):
        scores = {n: cross_val_score(able(n_states=n), turns(), cv=2).mean() for n in (1, 8)}
        assert scores[8] > scores[1]


class TestRolls:
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_not_binary(self, form):
        X = rolls(form)
        model = tiny().fit(X)
        for value in (0.5, 64.0, -1.0, 1e-9):
            X[3][2, 1] = value
            message = rf"X must be binary, 0 or 1, but holds {value:g} in channel 1 of series 3\. For rolls with velo"
            for method in ("fit", "score", "score_samples", "predict_proba"):
                with pytest.raises(ValueError, match=message):
                    getattr(model, method)(X)
        X[0][0, 0] = 0.5
        with pytest.raises(ValueError, match=r"holds 0\.5 in channel 0 of series 0"):
            tiny().fit(X)
        with pytest.raises(ValueError, match=r"holds 0\.5 in channel 0 of series 20"):  # a single frame counts, too
            tiny().fit([*rolls(), np.full((1, 3), 0.5)])

    def test_silence(self):
        X = [np.zeros((6, 3)) for _ in range(8)]
        model = tiny().fit(X)
        assert model.score(X) > -0.5
        assert np.isfinite(model.score([np.ones((6, 3))]))


class TestBaseRates:
    def make(self):
        rng = np.random.RandomState(0)
        rates = np.linspace(0.02, 0.6, 10)
        return [(rng.uniform(size=(rng.randint(5, 30), 10)) < rates).astype(float) for _ in range(40)]

    @staticmethod
    def rates(X):
        """By hand: of the frames that are predicted, with half a frame more of either kind."""
        frames = np.concatenate([roll[1:] for roll in X])
        return (frames.sum(axis=0) + 0.5) / (len(frames) + 1)

    @pytest.mark.parametrize("head", RATED)
    @every_network
    def test_an_untrained_model_starts_there(self, head, network):
        X = self.make()
        model = tiny(head=head, network=network, max_iter=1, learning_rate_init=1e-300).fit(X)
        rates = self.rates(X)
        marginal = bernoulli_log_likelihood(
            [roll[1:] for roll in X], [np.broadcast_to(rates, roll[1:].shape) for roll in X]
        )
        coins = -10 * math.log(2.0)
        assert model.score(X) > marginal + 0.2 * (coins - marginal)
        assert model.score(X) < marginal + 0.05

    def test_bias_is_the_logit_of_the_rates(self):
        X = self.make()
        X = [np.column_stack([roll, np.zeros(len(roll)), np.ones(len(roll))]) for roll in X]  # never and always
        bias = tiny(max_iter=1, learning_rate_init=1e-300).fit(X).module_.head.projection.bias
        rates = self.rates(X)
        np.testing.assert_allclose(bias.detach(), logit(rates), rtol=1e-6)
        n = sum(len(roll) - 1 for roll in X)
        np.testing.assert_allclose(rates[-2:], [0.5 / (n + 1), (n + 0.5) / (n + 1)])

    def test_rates_of_the_training_part_only(self):
        X = self.make()
        options = {"max_iter": 1, "learning_rate_init": 1e-300, "early_stopping": True, "validation_fraction": 0.5}
        bias = tiny(**options).fit(X).module_.head.projection.bias
        assert np.abs(bias.detach().numpy() - logit(self.rates(X))).max() > 1e-3

    def test_marginal_by_hand(self):
        X = self.make()
        rates, flat = self.rates(X), np.concatenate(X)
        on = flat.mean(axis=0)
        by_hand = on @ np.log(rates) + (1 - on) @ np.log(1 - rates)
        found = bernoulli_log_likelihood(X, [np.broadcast_to(rates, roll.shape) for roll in X])
        assert found == pytest.approx(by_hand, rel=1e-12)


class TestSample:
    @every_head
    @every_network
    def test_shape(self, head, network):
        X = rolls()
        model = tiny(head=head, network=network, n_states=3).fit(X)
        for prompt in (None, X[0], X[0][:1], X[0].tolist(), X[0].astype(bool), torch.from_numpy(X[0])):
            for n_frames in (1, 7):
                found = model.sample(n_frames, prompt=prompt, random_state=0)
                assert found.shape == (n_frames, 3)
                assert set(np.unique(found)) <= {0.0, 1.0}

    @every_head
    def test_seed(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        a, b, c = (model.sample(30, random_state=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
        np.testing.assert_array_equal(model.sample(30, random_state=np.random.RandomState(0)), a)
        np.random.seed(0)
        one = model.sample(30)
        np.random.seed(0)
        assert (model.sample(30) != one).any()  # numpy's own generator has no part in it
        assert (model.sample(30) != model.sample(30)).any()
        generator = np.random.RandomState(0)
        assert (model.sample(30, random_state=generator) != model.sample(30, random_state=generator)).any()

    @every_head
    def test_changes_nothing(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        names, before = set(vars(model)), model.score_samples(X)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        model.sample(5, random_state=0)
        assert set(vars(model)) == names
        np.testing.assert_array_equal(model.score_samples(X), before)
        assert torch.equal(torch.get_rng_state(), torch_state)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)

    @every_head
    def test_no_prompt_is_a_silent_frame(self, head):
        X = rolls()
        model = tiny(head=head).fit(X)
        found, expected = (model.sample(20, prompt=prompt, random_state=0) for prompt in (None, np.zeros((1, 3))))
        np.testing.assert_array_equal(found, expected)

    @every_network
    def test_prompt_is_continued(self, network):
        """A pattern that the model has learned goes on, wherever the prompt ends."""
        X = turns()
        model = able(network=network, max_iter=80).fit(X)
        for length in (1, 2, 3, 7):
            found = model.sample(6, prompt=X[0][:length], temperature=0.1, random_state=0)
            np.testing.assert_array_equal(found.argmax(axis=1), (np.arange(6) + length) % 3)
            np.testing.assert_array_equal(found.sum(axis=1), 1)

    @bernoulli
    @every_network
    def test_cold_is_the_likeliest_frame(self, head, network):
        """Step by step, with all frames before it read anew: nothing of the prompt is lost on the way."""
        X = rolls()
        model = tiny(head=head, network=network, n_states=3, n_layers=2, max_iter=20).fit(X)
        history = X[0]
        found = model.sample(12, prompt=history, temperature=1e-9, random_state=0)
        np.testing.assert_array_equal(found, model.sample(12, prompt=history, temperature=1e-9, random_state=1))
        for frame in found:
            np.testing.assert_array_equal(frame, model.predict_proba([history])[0][-1] > 0.5)
            history = np.vstack([history, frame])

    @bernoulli
    @pytest.mark.parametrize("frequencies", ["fixed", "learned", "adaptive"])
    def test_prompt_is_read_step_by_step(self, head, frequencies):
        """A sample goes on behind its own first frames."""
        X = rolls()
        model = tiny(head=head, network_params={"frequencies": frequencies}, max_iter=20).fit(X)
        whole = model.sample(10, prompt=X[0], temperature=1e-9)
        for cut in (1, 4, 9):
            prompt = np.vstack([X[0], whole[:cut]])
            np.testing.assert_array_equal(model.sample(10 - cut, prompt=prompt, temperature=1e-9), whole[cut:])

    @bernoulli
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_probabilities(self, head, temperature):
        """Many first frames have the rates that the logits and the temperature ask for."""
        X = rolls()
        model = tiny(head=head, max_iter=20).fit(X)
        p = expit(logit(model.predict_proba([X[0]])[0][-1]) / temperature)
        generator = np.random.RandomState(0)
        n = 600
        drawn = np.concatenate(
            [model.sample(1, prompt=X[0], temperature=temperature, random_state=generator) for _ in range(n)]
        )
        assert (np.abs(drawn.mean(axis=0) - p) < 4 * np.sqrt(p * (1 - p) / n)).all()

    def test_hot_is_a_fair_coin(self):
        model = able().fit(turns())
        drawn = model.sample(600, temperature=1e9, random_state=0)
        assert (np.abs(drawn.mean(axis=0) - 0.5) < 4 * 0.5 / math.sqrt(600)).all()

    def test_layout(self):
        X = rolls()
        plain = tiny().fit(X)
        model = tiny(layout="nct").fit([roll.T for roll in X])
        found = model.sample(5, prompt=X[0].T, random_state=0)
        np.testing.assert_array_equal(found, plain.sample(5, prompt=X[0], random_state=0))
        np.testing.assert_array_equal(model.sample(5, random_state=0), plain.sample(5, random_state=0))

    def test_rolls_of_one_channel(self):
        X = rolls("3-D")[:, :, 0]
        assert tiny().fit(X).sample(4, prompt=X[0][:, None]).shape == (4, 1)

    def test_sampled_music_scores_as_the_model_expects(self):
        """A model finds its own samples as likely as their entropy says, and likelier than coins."""
        X = turns()
        model = able().fit(X)
        own = [model.sample(20, prompt=X[i][:1], random_state=i) for i in range(5)]
        coins = np.random.RandomState(0).randint(0, 2, size=(5, 20, 3)).astype(float)
        assert model.score(own) > -1.0
        assert model.score(coins) < -2.0

    def test_bad(self):
        model = tiny().fit(rolls())
        for options, message in [
            ({"n_frames": 0}, "n_frames must be at least 1, not 0"),
            ({"n_frames": -3}, "n_frames must be at least 1, not -3"),
            ({"n_frames": 2.5}, "n_frames must be"),
            ({"n_frames": "many"}, "n_frames must be"),
            ({"temperature": 0.0}, r"temperature must be positive, not 0\.0; near 0 the most probable frame is drawn"),
            ({"temperature": -1.0}, r"temperature must be positive, not -1\.0"),
            ({"temperature": np.nan}, "temperature must be positive, not nan"),
            ({"temperature": "1"}, "temperature must be a number, not '1'"),
            ({"prompt": np.zeros((2, 4))}, "X has 4 channels, but SFMDensity was fitted with 3"),
            ({"prompt": np.full((2, 3), 0.5)}, r"must be binary, 0 or 1, but holds 0\.5 in channel 0"),
            ({"prompt": np.full((2, 3), np.nan)}, "contains NaN"),
            ({"prompt": np.zeros((0, 3))}, "length 0"),
            ({"prompt": np.zeros(3)}, r"(channels|has shape)"),
            ({"prompt": np.zeros((1, 4, 3))}, r"(channels|has shape)"),
            ({"random_state": "dice"}, "'dice' cannot be used to seed"),
        ]:
            with pytest.raises((ValueError, TypeError), match=message):
                model.sample(**{"n_frames": 3, **options})


@pytest.mark.real_data
@pytest.mark.skipif(not FOLDER, reason="SFMTS_PIANO_ROLLS does not name a folder with the four .mat files")
class TestRealRolls:
    """Numbers of the literature, of the test part's frames from the second on, as `score` counts.

    Over all frames the chorales' baseline would be -11.06 and Nottingham's ceiling -5.53.
    """

    @pytest.mark.parametrize(
        ("name", "nats"),
        [("jsb_chorales", 11.09), ("nottingham", 10.26), ("musedata", 11.51), ("piano_midi", 11.05)],
    )
    def test_marginal_baseline(self, name, nats):
        bunch = fetch_piano_rolls(name, data_home=FOLDER, download_if_missing=False)
        rates = TestBaseRates.rates(bunch.train)
        test = [roll[1:] for roll in bunch.test]
        found = bernoulli_log_likelihood(test, [np.broadcast_to(rates, roll.shape) for roll in test])
        assert found == pytest.approx(-nats, abs=0.02)

    @pytest.mark.parametrize(
        ("name", "ceiling"),
        [("jsb_chorales", -5.31), ("nottingham", -5.54), ("musedata", -3.93), ("piano_midi", -3.94)],
    )
    def test_softmax_pressed_ceiling(self, name, ceiling):
        test = fetch_piano_rolls(name, data_home=FOLDER, download_if_missing=False, subset="test").data
        assert softmax_pressed_ceiling([roll[1:] for roll in test]) == pytest.approx(ceiling, abs=0.01)
