"""What makes a GPU slow, found without one: launches of the fused kernel, and waits of the CPU for the device."""

import sys
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfmts import SFMClassifier
from sfmts.kernels import _checks
from sfmts.kernels._sfm.gpu.layout import FUSED_LAUNCHES
from sfmts.networks import make_network
from sfmts.training import Trainer
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


@pytest.mark.parametrize("name", [name for name in ALL_NETWORKS if name not in WAITS])
@pytest.mark.parametrize("lengths", [None, torch.tensor([7, 3, 5])], ids=["equal", "ragged"])
def test_networks_never_wait_for_the_device(name, lengths, monkeypatch):
    check, patched = _checks.check_tensor, [module for module in sys.modules.values() if "sfmts" in module.__name__]
    for module in patched:  # which refuses tensors without values
        if getattr(module, "check_tensor", None) is check:
            monkeypatch.setattr(module, "check_tensor", lambda name, value, *others, **more: value)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)  # autocast knows no device "meta"
    monkeypatch.setattr(torch, "autocast", lambda *device, **options: nullcontext())
    network = make_network(name, 2, n_states=10, max_length=7, generator=torch.Generator().manual_seed(0)).to("meta")
    x = torch.empty(3, 7, 2, device="meta")  # has no values, so reading one is an error
    output = network(x, lengths)
    assert output.states.is_meta
    total = output.final.abs().sum()
    total.backward()
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
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer: None)  # which reads the number of updates
    X = torch.randn(12, 5, 1, generator=torch.Generator().manual_seed(0)).numpy()
    options = {"optimizer_params": {"clip_norm": clip_norm}, "random_state": 0, "max_iter": 2}
    SFMClassifier("gru", base=None, n_states=4, **options).fit(X, [0, 1] * 6)
    assert readings.count == 0
