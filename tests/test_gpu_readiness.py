"""What makes a GPU slow, found without one: launches of the fused kernel, and waits of the CPU for the device."""

import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm.auto import tqdm

from sfmts import SFMClassifier
from sfmts._batch import SequenceBatch, sent
from sfmts.forecasting.windows import window_set
from sfmts.heads import ClassificationHead
from sfmts.kernels import _checks
from sfmts.kernels._sfm.gpu.layout import FUSED_LAUNCHES
from sfmts.model import SequenceModel
from sfmts.networks import make_network
from sfmts.training import Trainer, TrainingSettings, _Best, _Ranks, _Run, placed
from tests.helpers import ALL_NETWORKS
from tests.test_kernels import make_case

VIEWS = {"permute", "slice", "view", "transpose", "select", "unbind", "unsqueeze", "_unsafe_view", "empty_like"}


class Launches(TorchDispatchMode):
    """Counts operations that would launch something on a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ not in VIEWS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("mode", "most"), [({"frequencies": "fixed"}, FUSED_LAUNCHES), ({"frequencies": "adaptive"}, 68)]
)
def test_launches_of_a_step_of_the_fused_kernel(mode, most):
    counts = []
    for steps in (20, 40):
        case = make_case(lengths=(steps,) * 3, dtype=torch.float32, **mode)
        with Launches() as launches:
            case.run("fused")[0].sum().backward()
        counts.append(launches.count)
    assert 0.8 * most < (counts[1] - counts[0]) / 20 <= most


# What reads values of the device: adaptive computation time asks after each pass whether to go on, and the shapes of a
# Clockwork RNN's steps depend on the time stamps, which it reads once.
WAITS = {"act", "clockwork_rnn"}


class Sendings(TorchDispatchMode):
    """Counts the copies to the device that the CPU waits for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function.overloadpacket.__name__ == "_to_copy" and not args[0].is_meta and result.is_meta:
            self.count += not kwargs.get("non_blocking")
        return result


@pytest.fixture
def on_meta(monkeypatch):
    """Let networks read tensors on the device "meta". They have no values, so reading one is an error."""
    check, patched = _checks.check_tensor, [module for module in sys.modules.values() if "sfmts" in module.__name__]
    for module in patched:  # which refuses tensors without values
        if getattr(module, "check_tensor", None) is check:
            monkeypatch.setattr(module, "check_tensor", lambda name, value, *others, **more: value)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)  # autocast knows no device "meta"
    monkeypatch.setattr(torch, "autocast", lambda *device, **options: nullcontext())


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("name", [name for name in ALL_NETWORKS if name not in WAITS])
@pytest.mark.parametrize("lengths", [None, torch.tensor([7, 3, 5])], ids=["equal", "ragged"])
def test_networks_never_wait_for_the_device(name, lengths):
    network = make_network(name, 2, n_states=10, max_length=7, generator=torch.Generator().manual_seed(0)).to("meta")
    x = torch.empty(3, 7, 2, device="meta")
    with Sendings() as sendings:
        output = network(x, lengths)
        output.final.abs().sum().backward()
    assert output.states.is_meta
    assert sendings.count == 0
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)


class Readings(TorchDispatchMode):
    """Counts the readings of single numbers."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        is_reading = function.overloadpacket.__name__ == "_local_scalar_dense"
        self.count += is_reading and args[0].is_floating_point()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_an_update_reads_loss_and_norm_together(clip_norm, monkeypatch):
    """They are read by one ``tolist``, and nothing else is."""
    readings, step = Readings(), Trainer._train_step

    def counted(*arguments):
        with readings:
            return step(*arguments)

    monkeypatch.setattr(Trainer, "_train_step", counted)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimizer: None)  # which reads the number of updates
    X = torch.randn(12, 5, 1, generator=torch.Generator().manual_seed(0)).numpy()
    options = {"optimizer_params": {"clip_norm": clip_norm}, "random_state": 0, "max_iter": 2}
    SFMClassifier("gru", base=None, n_states=4, **options).fit(X, [0, 1] * 6)
    assert readings.count == 0


def series(lengths, per_step=False):
    """Return weighted series with time stamps and labels."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(int(lengths.sum()), 2, generator=generator)
    n = len(values) if per_step else len(lengths)
    target, weight = torch.arange(n) % 3, torch.rand(n, generator=generator)
    return SequenceBatch(values, lengths, values[:, 0].double(), target, weight, target_per_step=per_step)


LENGTHS = {"equal": torch.full((9,), 5), "ragged": torch.tensor([5, 3, 4, 1, 5, 2, 2, 7, 3])}


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("per_step", "pooling"), [(False, "last"), (False, "mean"), (True, "last")])
@pytest.mark.parametrize("bound", [1 << 18, 6], ids=["whole", "in parts"])
def test_an_epoch_sends_the_order_and_reads_one_list_an_update(lengths, per_step, pooling, bound, monkeypatch):
    monkeypatch.setattr("sfmts._batch._PADDED_STEPS", bound)
    monkeypatch.setattr(_Ranks, "dropout_generator", lambda self, generator: generator)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimizer: None)
    lists, tolist = [], torch.Tensor.tolist

    def counted(tensor):
        if not tensor.is_meta:
            return tolist(tensor)
        lists.append(len(tensor))
        return [1.0] * len(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    network = make_network("gru", 2, n_states=4)
    model = SequenceModel(network, ClassificationHead(4, 3, per_step=per_step), pooling=pooling).to("meta")
    train = series(lengths, per_step).to(torch.device("meta"), torch.float32)
    monkeypatch.setattr(SequenceBatch, "total_weight", 1.0)  # read once an epoch
    trainer = Trainer(model, TrainingSettings(batch_size=4, max_iter=1), torch.Generator().manual_seed(0))
    with Sendings() as sendings:
        trainer._epoch(train, _Run(1, 3, _Best(0.0, 1), None), tqdm(disable=True))
    assert sendings.count == 1
    assert len(lists) == trainer.history.n_updates == 3


@pytest.mark.parametrize("joint", [False, True])
def test_windows_are_cut_on_the_device(joint):
    values, covariates = [np.random.default_rng(n).normal(size=(n, 2)) for n in (30, 20)], [np.ones((30, 1))] * 2
    windows = window_set(values, covariates, 6, 3, joint=joint, first=[4, 4], last=[20, 10])
    expected, index = windows.weight_of(torch.tensor([1, 5])), torch.tensor([1, 5])
    moved = windows.to(torch.device("meta"), torch.float32)
    with Sendings() as sendings:
        batch = moved.take(index, index.to("meta", non_blocking=True))
        part = batch.take(index[:1], index.new_zeros(1, device="meta"))
    assert sendings.count == 0
    assert part.past.is_meta
    assert windows.take(index).total_weight == expected


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("per_step", [False, True])
def test_mini_batches_of_the_cpu_leave_from_locked_memory(lengths, per_step, monkeypatch):
    locked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor.shape) or tensor)
    batch = series(lengths, per_step)
    with Sendings() as sendings:
        there = sent(batch, torch.device("meta"))
    assert sendings.count == 0
    assert len(locked) == 4
    assert all(getattr(there, name).is_meta for name in ("values", "time", "target", "weight"))
    assert there.lengths is batch.lengths
    assert there.target_per_step == per_step


def test_training_sends_mini_batches_of_data_that_are_elsewhere(monkeypatch):
    sent_to = []
    monkeypatch.setattr("sfmts.training.sent", lambda batch, device: sent_to.append((len(batch), device)) or batch)
    results = []
    for device in ("cpu", "meta"):
        model = SequenceModel(
            make_network("gru", 2, n_states=4, generator=torch.Generator().manual_seed(0)),
            ClassificationHead(4, 3, generator=torch.Generator().manual_seed(1)),
        )
        trainer = Trainer(model, TrainingSettings(batch_size=4, max_iter=2), torch.Generator().manual_seed(0))
        trainer.device = torch.device(device)  # where it takes the model to be
        results.append(trainer.fit(series(LENGTHS["ragged"])).loss)
    assert results[0] == results[1]
    assert sorted(sent_to, key=str) == [(1, trainer.device)] * 2 + [(4, trainer.device)] * 4


@pytest.mark.parametrize(("share", "device"), [(0.24, "meta"), (0.26, "cpu")])
def test_data_that_leave_no_room_for_training_stay_on_the_cpu(share, device, monkeypatch):
    data = series(LENGTHS["ragged"])
    data = replace(data, values=data.values.double())
    size = 32 * 2 * 4 + 32 * 8 + 9 * 8 + 9 * 8 + 9 * 4  # values as float32, time, lengths, target, weight
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (round(size / share), 10**12))
    to = SequenceBatch.to
    monkeypatch.setattr(
        SequenceBatch,
        "to",
        lambda self, place, dtype: to(self, torch.device("meta" if place.type == "cuda" else "cpu"), dtype),
    )
    found = placed(data, torch.device("cuda"), torch.float32)
    assert (found.values.device.type, found.values.dtype) == (device, torch.float32)


def test_the_order_of_rows_is_that_of_the_cpu():
    """Check that numbers on the device select the same rows as numbers on the CPU."""
    for lengths in LENGTHS.values():
        batch, index = series(lengths), torch.tensor([7, 0, 3, 3])
        taken = replace(batch, lengths_there=lengths.clone()).take(index, index.clone())
        expected = batch.take(index)
        assert torch.equal(taken.lengths_there, taken.lengths)
        for name in ("values", "lengths", "time", "target", "weight", "x", "t"):
            assert torch.equal(getattr(taken, name), getattr(expected, name))
