"""The door to the kernels: names, memory, autocast, export and compilation."""

import io
import weakref

import pytest
import torch

from sfmts import SFMClassifier
from sfmts.kernels import SFMState, SFMWeights, resolve_backend, sfm, sfm_layer
from sfmts.kernels._sfm import recompute
from sfmts.kernels._workspace import Workspace
from sfmts.networks import SFM
from tests.helpers import (
    FAST_KERNELS,
    KERNELS,
    assert_same,
    case_id,
    every_fast_kernel,
    every_kernel,
    every_pair,
    make_panel,
    needs_loops,
)
from tests.test_kernels import fresh, make_case, outputs_and_gradients


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Let short series, too, be computed again in several chunks."""
    monkeypatch.setattr(recompute, "_LEAST_STEPS", 1)


def network(seed=0, n_channels=2, **options):
    options = {"n_states": 5, "n_frequencies": 3, "n_outputs": 4, **options}
    return SFM(n_channels, **options, generator=torch.Generator().manual_seed(seed))


def batch(B=4, T=9, C=2, seed=0):
    """A padded batch and lengths, in no order."""
    x = torch.randn(B, T, C, generator=torch.Generator().manual_seed(seed))
    lengths = 1 + torch.arange(B) * 5 % T
    lengths[B // 2] = T
    return x, lengths


def gradients(output, module):
    """Of some function of everything a network gives."""
    loss = output.final.square().sum() + output.states.sin().sum() + output.state[0].re.sum()
    return torch.autograd.grad(loss, list(module.parameters()))


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# -- names


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("backend", "Unknown backend 'quick'; choose one of 'auto', 'reference', 'fused', 'native', 'cuda'"),
        ("memory", "Unknown memory 'quick'; choose one of 'fast', 'recompute'"),
    ],
)
def test_unknown_names(option, message):
    case = make_case()
    with pytest.raises(ValueError, match=message):
        sfm(case.x, case.batch_sizes, case.t, case.weights, case.state, **{option: "quick"})
    with pytest.raises(ValueError, match=message):
        SFM(2, **{option: "quick"})


@pytest.mark.parametrize(
    ("backend", "reason"),
    [("native", "the compiled kernel takes float32 or float64, not torch.float16"), ("cuda", "")],
)
def test_a_named_kernel_that_cannot_serve_says_why(backend, reason):
    """The other choices are named; nothing else takes its place unasked."""
    layer = network().half()
    with pytest.raises(RuntimeError, match=f"backend='{backend}' is unavailable here: {reason}.* Use backend='auto'"):
        resolve_backend(backend, layer.layers[0].weights())


def test_auto_takes_what_can_serve():
    layer = network().layers[0]
    assert resolve_backend("auto", layer.weights()) == "native"
    assert resolve_backend("auto", layer.half().weights()) == "fused"
    assert network().half()(batch()[0].half()).final.dtype == torch.float16


@every_kernel
def test_time_stamps_that_want_a_gradient_are_refused(backend):
    case = make_case()
    case.t.requires_grad_()
    with pytest.raises(ValueError, match=r"t requires a gradient.*pass t.detach\(\)"):
        case.run(backend)


# -- memory="recompute"


# Steps whose number is a square, or one more or less; chunks in which sequences end, and whose last is short.
RECOMPUTED = {
    "one step": {"lengths": (1,)},
    "two steps": {"lengths": (2, 1)},
    "nine steps": {"lengths": (9, 9, 9), "frequencies": "learned"},
    "ten steps, ragged": {"lengths": (10, 9, 7, 6, 3, 1), "frequencies": "learned"},
    "eight steps, mask": {"lengths": (8, 8, 6), "mask": True},
    "adaptive": {"lengths": (13, 13, 5, 1), "frequencies": "adaptive", "mask": True, "timestamps": True},
    "accumulated": {"lengths": (17, 12, 12, 4), "frequencies": "adaptive", "accumulated": True, "timestamps": True},
    "tiles": {"lengths": (23,) * 9 + (11,) * 24, "frequencies": "learned"},
}


@every_pair(name=RECOMPUTED, backend=KERNELS, start=["continued", "new"])
def test_recompute_changes_no_result(backend, start, name):
    case = make_case(**RECOMPUTED[name])
    case = fresh(case) if start == "new" else case
    got = outputs_and_gradients(case, backend, memory="recompute")
    assert_same(outputs_and_gradients(case, backend), got, 1e-12)


@every_kernel
def test_recompute_with_gradients_of_some_inputs_only(backend):
    for wanted in ("x", "V", "omega", "re", "z"):
        case = make_case(lengths=(10, 7), frequencies="learned")
        for name, leaf in case.leaves().items():
            leaf.requires_grad_(name == wanted)
        results = outputs_and_gradients(case, backend, memory="recompute")
        assert set(case.leaves()) == {wanted}
        assert_same(outputs_and_gradients(case, backend), results, 1e-12)


@every_kernel
@pytest.mark.parametrize("train", [False, True])
def test_amplitudes_of_recompute(backend, train):
    case, got = make_case(lengths=(11, 11, 8, 3)), []
    with torch.set_grad_enabled(train):
        z, _ = case.run(backend, memory="recompute", amplitudes=got)
    if train:
        z.sum().backward()  # which runs the steps again
    assert [A.shape for A in got] == [(n, 5, 3) for n in case.batch_sizes]
    for A, wanted in zip(got, case.amplitudes(backend), strict=True):
        torch.testing.assert_close(A, wanted)


@every_kernel
def test_recompute_refuses_second_derivatives(backend):
    case = make_case()
    z, _ = case.run(backend, memory="recompute")
    with pytest.raises(RuntimeError, match="first derivatives only; use memory='fast'"):
        torch.autograd.grad(z.sum(), case.x, create_graph=True)


@pytest.fixture
def peak(monkeypatch):
    """The most bytes of working memory that were held at once, as a list of one number."""
    held, most = [0], [0]
    take = Workspace._take

    def give_back(size):
        held[0] -= size

    def watched(like, elements):
        block = take(like, elements)
        weakref.finalize(block, give_back, block.nbytes)
        held[0] += block.nbytes
        most[0] = max(most[0], held[0])
        return block

    monkeypatch.setattr(Workspace, "_take", staticmethod(watched))
    return most


@every_fast_kernel
def test_recompute_holds_the_memory_of_few_steps(backend, peak):
    peaks = {}
    for memory, steps in [("fast", 400), ("recompute", 400), ("recompute", 1600)]:
        case = make_case(D=8, M=8, lengths=(steps,) * 16, dtype=torch.float32)
        peak[0] = 0
        case.run(backend, memory=memory)[0].sum().backward()
        peaks[memory, steps] = peak[0]
    assert 0 < peaks["recompute", 400] < peaks["fast", 400] / 4
    assert peaks["recompute", 1600] < 2.5 * peaks["recompute", 400]  # not four times as much


def test_recompute_holds_little_in_the_graph():
    """What autograd itself saves, of the kernel that leaves everything to it."""
    saved = {}
    for memory in ("fast", "recompute"):
        case, sizes = make_case(lengths=(100,) * 4), []
        with torch.autograd.graph.saved_tensors_hooks(lambda v, sizes=sizes: sizes.append(v.nbytes) or v, lambda v: v):
            case.run("reference", memory=memory)
        saved[memory] = sum(sizes)
    assert saved["recompute"] < saved["fast"] / 5


@every_kernel
@pytest.mark.parametrize(
    "options", [{}, {"frequencies": "adaptive", "recurrent_dropout": 0.3}], ids=["fixed", "adaptive"]
)
def test_recompute_in_a_network(backend, options):
    """Stacked, in both directions, ragged."""
    x, lengths = batch(T=11)
    results = []
    for memory in ("fast", "recompute"):
        module = network(n_layers=2, bidirectional=True, backend=backend, memory=memory, **options).double()
        output = module(x.double(), lengths, generator=torch.Generator().manual_seed(1))
        results.append([output.states, output.final, *gradients(output, module)])
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-12, rtol=1e-9)


# -- the padded door


@every_kernel
@pytest.mark.parametrize("memory", ["fast", "recompute"])
def test_everything_of_a_sequence_stays_with_it(backend, memory):
    """Lengths in no order: x, time, state, mask, outputs, amplitudes and gradients are those of the sequence alone."""
    case = make_case(lengths=(9,) * 5, frequencies="adaptive", accumulated=True, mask=True, timestamps=True)
    lengths = torch.tensor([4, 9, 1, 6, 9])
    x, t = case.x.detach().view(9, 5, 2).transpose(0, 1), case.t.view(9, 5).T

    def run(rows, lengths, steps):
        given = x[rows, :steps].clone().requires_grad_()
        amplitudes = []
        z, state = sfm_layer(
            given,
            lengths,
            t[rows, :steps],
            case.weights,
            SFMState(*(value[rows] for value in case.state)),
            backend=backend,
            memory=memory,
            accumulated=True,
            feedback_mask=case.feedback_mask[rows],
            amplitudes=amplitudes,
        )
        (dx,) = torch.autograd.grad(z.square().sum() + state.re.sum(), given)
        return z, amplitudes[0], dx, state

    *together, state = run(torch.arange(5), lengths, 9)
    for b, length in enumerate(lengths.tolist()):
        *alone, state_alone = run(torch.tensor([b]), None, length)
        for value, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(value[b, :length], expected[0], atol=1e-10, rtol=1e-10)
            assert not value[b, length:].any()
        for value, expected in zip(state, state_alone, strict=True):
            torch.testing.assert_close(value[b], expected[0], atol=1e-10, rtol=1e-10)


# -- autocast


@every_kernel
@pytest.mark.parametrize("memory", ["fast", "recompute"])
def test_autocast_changes_nothing(backend, memory):
    x, lengths = batch()
    module = network(n_layers=2, frequencies="adaptive", backend=backend, memory=memory)
    expected = module(x, lengths)
    expected_gradients = gradients(expected, module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
        got = module(x, lengths)
        if (backend, memory) != ("reference", "fast"):  # where autograd runs the backward, it follows autocast
            assert equal(gradients(module(x, lengths), module), expected_gradients)
    assert got.states.dtype == got.final.dtype == torch.float32
    assert equal([got.states, got.final], [expected.states, expected.final])
    assert equal(gradients(got, module), expected_gradients)


@every_kernel
def test_autocast_input_of_another_layer(backend):
    """What a linear layer under autocast gives is bfloat16; the kernel reads it in the type of its weights."""
    x, lengths = batch()
    module = network(backend=backend)
    x = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(x.requires_grad_(), lengths).final
    assert torch.equal(got, module(x.float(), lengths).final)
    got.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert torch.isfinite(x.grad).all()


@every_kernel
def test_autocast_around_a_whole_model(backend):
    X, y = make_panel(n_classes=3)
    options = {"network_params": {"backend": backend}, "device": "cpu", "random_state": 0}
    module = SFMClassifier(base=None, n_states=4, n_frequencies=2, max_iter=2, **options).fit(X, y).module_
    x = torch.as_tensor(X, dtype=next(module.parameters()).dtype)
    expected = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(x)
        loss = torch.nn.functional.cross_entropy(got, torch.as_tensor(y))
    loss.backward()
    torch.testing.assert_close(got.to(expected.dtype), expected, atol=0.05, rtol=0.05)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


# -- torch.export


class Exported(torch.nn.Module):
    """A network whose outputs are a plain tuple."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x, lengths=None):
        output = self.module(x, lengths)
        return output.states, output.final


def exported(module, x, lengths):
    """A program for any number of sequences and steps."""
    sequences, steps = torch.export.Dim("sequences", min=2, max=64), torch.export.Dim("steps", min=2, max=4096)
    shapes = {"x": {0: sequences, 1: steps}, "lengths": None if lengths is None else {0: sequences}}
    return torch.export.export(Exported(module), (x, lengths), dynamic_shapes=shapes, strict=False)


NETWORKS = [
    {},
    {"n_layers": 2},
    {"bidirectional": True},
    {"frequencies": "learned"},
    {"frequencies": "adaptive", "recurrent_dropout": 0.5},
    {"frequencies": "adaptive", "phase": "product", "time": "normalized", "n_layers": 2, "bidirectional": True},
]


@pytest.mark.parametrize("ragged", [False, True], ids=["one length", "lengths"])
@pytest.mark.parametrize("options", NETWORKS, ids=case_id)
def test_exported_network_is_the_network(options, ragged):
    """Bit for bit, for other batch sizes and other numbers of steps than those it was exported with, and reloaded."""
    module = network(**options).eval()
    x, lengths = batch()
    program = exported(module, x, lengths if ragged else None)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    for B, T in [(4, 9), (2, 3), (33, 20)]:
        x, lengths = batch(B, T, seed=1)
        lengths = lengths if ragged else None
        with torch.no_grad():
            expected = module(x, lengths)
            for one in (program, loaded):
                assert equal(one.module()(x, lengths), (expected.states, expected.final))


@pytest.mark.parametrize("backend", [pytest.param("reference", marks=needs_loops), *FAST_KERNELS])
def test_exported_network_of_each_kernel(backend):
    module = network(backend=backend).double().eval()
    x, _ = batch()
    program = torch.export.export(Exported(module), (x.double(),), strict=False)
    with torch.no_grad():
        assert torch.equal(program.module()(x.double())[0], module(x.double()).states)


def test_exported_network_has_no_gradient():
    module = network().eval()
    x, _ = batch()
    states, _ = exported(module, x, None).module()(x, None)
    with pytest.raises(RuntimeError, match="sfmts"):
        states.sum().backward()


def test_export_in_training_mode_is_refused():
    module = network(recurrent_dropout=0.5).train()
    with pytest.raises(RuntimeError, match="in evaluation mode"):
        torch.export.export(Exported(module), batch()[:1], strict=False)
    torch.export.export(Exported(module.eval()), batch()[:1], strict=False)


def test_export_of_amplitudes_is_refused():
    module = network().eval()
    module.forward = module.state_amplitudes
    with pytest.raises(RuntimeError, match="without state_amplitudes"):
        torch.export.export(module, batch()[:1], strict=False)


# -- torch.compile


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_network_trains_as_it_is():
    x, lengths = batch()
    module = network(n_layers=2)
    compiled = torch.compile(lambda x, lengths: module(2 * x, lengths), backend="aot_eager")
    expected, got = module(2 * x, lengths), compiled(x, lengths)
    assert equal([got.states, got.final], [expected.states, expected.final])
    assert equal(gradients(got, module), gradients(expected, module))


# -- the operator


def operator_arguments(options, continued, ragged):
    module = network(**options).double()
    weights = module.layers[0].weights()
    x, lengths = batch()
    B, T = x.shape[:2]
    t = torch.arange(1.0, T + 1, dtype=torch.float64).expand(B, T)
    state = list(SFMState.zeros(B, weights)) if continued else []
    V, W, b, U_o, W_z, b_z, omega = (None if w is None else w.detach() for w in weights)
    lengths = lengths if ragged else None
    return x.double(), lengths, t, [V, W, b, U_o, W_z, b_z], omega, state, "auto", omega is None


@every_pair(options=[{}, {"frequencies": "adaptive"}], continued=[False, True], ragged=[False, True])
def test_operator_is_what_it_says(options, continued, ragged):
    """Its schema (nothing is changed, outputs share no memory with inputs) and the shapes of its fake outputs."""
    arguments = operator_arguments(options, continued, ragged)
    torch.library.opcheck(torch.ops.sfmts.layer.default, arguments, test_utils=("test_schema", "test_faketensor"))


def test_operator_is_the_layer():
    x, lengths, t, weights, omega, _, _, _ = operator_arguments({}, False, True)
    z, *after = torch.ops.sfmts.layer(x, lengths, t, weights, omega, [], "native", False)
    expected, state = sfm_layer(x, lengths, t, SFMWeights(*weights, omega), None, backend="native")
    assert equal([z, *after], [expected, *state])
