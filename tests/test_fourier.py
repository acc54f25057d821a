"""Circulant matrices, Fourier transforms and the networks made of them, against their definitions."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from sfmts import SFMDensity
from sfmts.networks import GRU, FNet, RotationGRU
from sfmts.networks.fourier import CirculantUnitary, CirculantUnitary2d, ConvRotationGRU, DFTLayer, FourierMixing
from sfmts.networks.recurrent import RecurrentState
from tests.helpers import EXACT, normal, seeded


def complex_normal(*shape):
    return torch.complex(normal(*shape), normal(*shape, seed=1))


def circulant(n, seed=0, **options):
    return CirculantUnitary(n, **options, generator=seeded(seed)).double()


def circulant_2d(m, n, seed=0, **options):
    return CirculantUnitary2d(m, n, **options, generator=seeded(seed)).double()


# -- circulant matrices

LENGTHS = [1, 2, 3, 6, 7, 8]
SIZES = [(1, 1), (1, 4), (2, 2), (3, 4), (4, 3), (3, 5), (4, 6)]
both_forms = pytest.mark.parametrize("real", [False, True], ids=["complex", "real"])
every_length = pytest.mark.parametrize("n", LENGTHS)
every_size = pytest.mark.parametrize(("m", "n"), SIZES)


def input_like(real, *shape):
    return normal(*shape) if real else complex_normal(*shape)


@both_forms
@every_length
def test_circulant_is_its_matrix_and_a_circular_correlation_and_unitary(n, real):
    layer, x = circulant(n, real=real), input_like(real, 4, n)
    C = layer.matrix()
    first_row = C[0].detach().numpy()
    np.testing.assert_allclose(C.detach(), scipy.linalg.circulant(first_row).T, atol=1e-12)
    np.testing.assert_allclose(np.abs(np.fft.fft(first_row)), 1.0, atol=1e-12)
    assert np.isrealobj(first_row) == real
    torch.testing.assert_close(C.mH @ C, torch.eye(n, dtype=C.dtype), **EXACT)
    assert math.isclose(torch.linalg.cond(C).item(), 1.0, rel_tol=1e-12)
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1), **EXACT)
    if not real:
        F = torch.fft.fft(torch.eye(n, dtype=torch.complex128), norm="ortho")
        torch.testing.assert_close(C, F @ layer.spectrum().diag() @ F.mH, **EXACT)
    torch.testing.assert_close(layer(x), x @ C.T, **EXACT)
    c = C[0]
    correlation = [sum(c[(k - j) % n] * x[:, k] for k in range(n)) for j in range(n)]
    torch.testing.assert_close(layer(x), torch.stack(correlation, dim=1), **EXACT)


@both_forms
def test_product_of_circulants_adds_their_angles_and_none_is_the_identity(real):
    one, two, both = (circulant(8, seed, real=real) for seed in (0, 1, 2))
    with torch.no_grad():
        both.angles.copy_(one.angles + two.angles)
    torch.testing.assert_close(one.matrix() @ two.matrix(), both.matrix(), **EXACT)
    torch.testing.assert_close(one.matrix() @ two.matrix(), two.matrix() @ one.matrix(), **EXACT)
    identity = circulant(6, real=real, angles="identity").matrix().real
    torch.testing.assert_close(identity, torch.eye(6, dtype=torch.float64), **EXACT)


@both_forms
@pytest.mark.parametrize(("n", "steps"), [(7, 0), (7, 1), (8, 1), (8, 3)])
def test_linear_phase_shifts(n, steps, real):
    options = {"real": True, "signs": [1, (-1) ** steps][: 2 - n % 2]} if real else {}
    layer = circulant(n, **options)
    with torch.no_grad():
        m = torch.arange(n, dtype=torch.float64)
        m = m[1 : (n + 1) // 2] if real else m
        layer.angles.copy_(-2.0 * math.pi * m * steps / n)
    x = input_like(real, 3, n)
    torch.testing.assert_close(layer(x), x.roll(-steps, 1), **EXACT)
    torch.testing.assert_close(layer.matrix()[0].real, torch.eye(n, dtype=torch.float64)[steps], **EXACT)


def independent_angles(layer):
    """Rank of the derivatives of the matrix's first column by the angles."""
    one = torch.zeros(layer.shape, dtype=torch.float64)
    one.view(-1)[0] = 1.0

    def column(angles):
        y = torch.func.functional_call(layer, {"angles": angles}, (one,))
        return torch.view_as_real(y) if y.is_complex() else y

    J = torch.autograd.functional.jacobian(column, layer.angles.detach())
    return torch.linalg.matrix_rank(J.flatten(-layer.angles.ndim).flatten(0, -2)).item()


@every_length
def test_free_angles_of_a_circulant(n):
    assert circulant(n).angles.numel() == independent_angles(circulant(n)) == n
    real = circulant(n, real=True)
    assert real.angles.numel() == independent_angles(real) == (n - 1) // 2


@every_size
def test_free_angles_of_a_doubly_block_circulant(m, n):
    assert circulant_2d(m, n).angles.numel() == independent_angles(circulant_2d(m, n)) == m * n
    real, own = circulant_2d(m, n, real=True), (2 - m % 2) * (2 - n % 2)
    assert real.angles.numel() == independent_angles(real) == (m * n - own) // 2


@both_forms
@every_size
def test_doubly_block_circulant(m, n, real):
    layer = circulant_2d(m, n, real=real)
    C = layer.matrix().detach()
    assert C.is_complex() != real
    torch.testing.assert_close(C.mH @ C, torch.eye(m * n, dtype=C.dtype), **EXACT)
    images = input_like(real, 3, m, n)
    torch.testing.assert_close(layer(images).flatten(1), images.flatten(1) @ C.T, **EXACT)
    kernel, blocks = C[0].view(m, n), C.view(m, n, m, n)
    j, l, k, p = np.ix_(range(m), range(n), range(m), range(n))  # noqa: E741
    torch.testing.assert_close(blocks, kernel[(k - j) % m, (p - l) % n], **EXACT)
    torch.testing.assert_close(torch.fft.fft2(kernel).abs(), torch.ones(m, n, dtype=torch.float64), **EXACT)


def test_doubly_block_circulant_shifts_images():
    layer = circulant_2d(3, 5)
    j, k = torch.arange(3, dtype=torch.float64)[:, None], torch.arange(5, dtype=torch.float64)
    with torch.no_grad():
        layer.angles.copy_(-2.0 * math.pi * (j * 1 / 3 + k * 2 / 5))
    x = complex_normal(2, 3, 5)
    torch.testing.assert_close(layer(x), x.roll((-1, -2), (1, 2)), **EXACT)


@pytest.mark.parametrize(
    "build", [lambda **options: circulant(6, **options), lambda **options: circulant_2d(4, 3, **options)]
)
@both_forms
def test_each_channel_has_its_own_circulant(build, real):
    layers, single = build(real=real, n_channels=3), build(real=real)
    x = input_like(real, 2, 3, *layers.shape)
    C = layers.matrix()
    for channel in range(3):
        with torch.no_grad():
            single.angles.copy_(layers.angles[channel])
        torch.testing.assert_close(layers(x)[:, channel], single(x[:, channel]), **EXACT)
        torch.testing.assert_close(C[channel], single.matrix(), **EXACT)


@both_forms
def test_gradients_of_circulants(real):
    for layer in (circulant(6, real=real), circulant_2d(4, 3, real=real)):

        def run(x, angles, layer=layer):
            return torch.func.functional_call(layer, {"angles": angles}, (x,))

        x = input_like(real, 2, *layer.shape).requires_grad_()
        assert torch.autograd.gradcheck(run, (x, layer.angles))


def test_signs_are_part_of_the_state():
    minus, plain = circulant(6, real=True, signs=(1, -1)), circulant(6, seed=1, real=True)
    assert math.isclose(minus.matrix().det().item(), -1.0, rel_tol=1e-12)
    plain.load_state_dict(minus.state_dict())
    assert torch.equal(plain.matrix(), minus.matrix())


def test_circulant_angles_come_from_the_generator():
    before = torch.get_rng_state()
    one, two, other = (circulant(9, seed).angles for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


# -- the discrete Fourier transform

every_method = pytest.mark.parametrize("method", ["fft", "matrix"])


@every_method
@pytest.mark.parametrize("n", [1, 2, 7, 64, 509])
def test_dft_is_the_fft(n, method):
    layer = DFTLayer(n, method=method, dtype=torch.float64)
    for x in (normal(3, n), complex_normal(3, n)):
        expected = torch.fft.fft(x)
        torch.testing.assert_close(layer(x), expected, atol=1e-11, rtol=0)
        as_real = DFTLayer(n, method=method, as_real=True, dtype=torch.float64)(x)
        torch.testing.assert_close(as_real, torch.cat([expected.real, expected.imag], dim=1), atol=1e-11, rtol=0)
    torch.testing.assert_close(layer(layer(layer(layer(x)))), n**2 * x, atol=1e-10 * n, rtol=0)


def test_choice_of_a_method_and_training():
    assert DFTLayer(512).method == "fft"
    assert DFTLayer(512, trainable=True).method == "matrix"
    assert not list(DFTLayer(5, method="matrix").parameters())
    layer = DFTLayer(5, trainable=True, dtype=torch.float64)
    (weight,) = layer.parameters()
    assert weight.numel() == 2 * 5**2
    layer(normal(3, 5)).abs().square().sum().backward()
    assert weight.grad.abs().max() > 0
    layer = DFTLayer(16, dtype=torch.bfloat16, as_real=True)
    x = normal(3, 16, dtype=torch.bfloat16)
    expected = torch.fft.fft(x.double())
    torch.testing.assert_close(
        layer(x).double(), torch.cat([expected.real, expected.imag], dim=1), atol=0.1, rtol=2**-6
    )
    mixed = FourierMixing()(normal(2, 6, 8, dtype=torch.float16))
    assert mixed.dtype == torch.float16


@every_method
@pytest.mark.parametrize(("norm", "T", "H"), [("backward", 1, 1), ("backward", 7, 6), ("ortho", 7, 6), ("ortho", 8, 5)])
def test_mixing_is_the_real_part_of_a_transform_in_two_dimensions(T, H, norm, method):
    x = normal(3, T, H)
    expected = torch.from_numpy(np.fft.fft2(x.numpy(), norm=norm).real)
    torch.testing.assert_close(FourierMixing(method, norm)(x), expected, **EXACT)


@every_method
def test_what_mixing_does_not_see_and_its_gradients(method):
    mixing, x = FourierMixing(method), normal(7, 6)
    opposite = x.flip(0, 1).roll((1, 1), (0, 1))
    torch.testing.assert_close(mixing(x), mixing(opposite), **EXACT)
    torch.testing.assert_close(mixing(x - opposite), torch.zeros_like(x), **EXACT)
    every_unit = torch.eye(42, dtype=torch.float64).view(42, 7, 6)
    assert torch.linalg.matrix_rank(mixing(every_unit).view(42, 42)) == 22
    torch.testing.assert_close(mixing(every_unit[0]), torch.ones(7, 6, dtype=torch.float64), **EXACT)
    assert torch.autograd.gradcheck(mixing, normal(2, 5, 4).requires_grad_())


# -- FNet


def fnet(**options):
    return FNet(3, **{"n_states": 8, "n_layers": 2, **options}, generator=seeded()).double()


@every_method
def test_fnet_is_its_equations_one_sequence_after_another(method):
    network, lengths = fnet(method=method, n_feedforward=5), torch.tensor([4, 9, 1, 4, 6])
    x = normal(5, 9, 3)
    output = network(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        steps, unit = np.arange(length)[:, None], np.arange(8)
        angles = steps / 10000.0 ** (2 * (unit // 2) / 8)
        codes = np.where(unit % 2 == 0, np.sin(angles), np.cos(angles))
        h = network.projection(x[b, :length]) + torch.from_numpy(codes)
        for block in network.blocks:
            mixed = torch.fft.fft2(h).real / math.sqrt(length * 8)
            h = block.mixed_norm(h + mixed)
            h = block.norm(h + block.narrow(nn.functional.gelu(block.widen(h))))
        torch.testing.assert_close(output.states[b, :length], h, **EXACT)
        torch.testing.assert_close(output.final[b], h.mean(0), **EXACT)


def test_fnet_knows_directions_by_positions_alone():
    x = normal(2, 9, 3)
    backwards = torch.cat([x[:, :1], x[:, 1:].flip(1)], dim=1)
    blind, seeing = fnet(positions="none"), fnet()
    torch.testing.assert_close(blind(backwards).final, blind(x).final, **EXACT)
    torch.testing.assert_close(blind(backwards).states[:, 1:], blind(x).states[:, 1:].flip(1), **EXACT)
    assert not torch.allclose(seeing(backwards).final, seeing(x).final, atol=1e-2)


# -- rotated states


def rotation_gru(seed=0, **options):
    return RotationGRU(3, **{"n_states": 6, **options}, generator=seeded(seed)).double()


def turned(network):
    """The same with random angles."""
    with torch.no_grad():
        for layer in network.layers:
            layer.rotation.angles.copy_(normal(len(layer.rotation.angles), seed=5))
    return network


@pytest.mark.parametrize(("method", "bidirectional"), [("auto", True), ("fft", False), ("matrix", True)])
def test_rotation_gru_without_a_rotation_is_the_gru(method, bidirectional):
    options = {"n_states": 6, "n_layers": 2, "bidirectional": bidirectional}
    network = rotation_gru(**options, method=method)
    gru = GRU(3, **options).double()
    suffixes = [f"l{level}{end}" for level in range(2) for end in ("", "_reverse")[: 1 + bidirectional]]
    with torch.no_grad():
        for suffix, layer in zip(suffixes, network.layers, strict=True):
            for name, parameter in (("weight_ih", layer.V), ("weight_hh", layer.W), ("bias_ih", layer.b)):
                getattr(gru.cell, f"{name}_{suffix}").copy_(parameter)
    x, lengths = normal(4, 9, 3), torch.tensor([9, 3, 7, 1])
    torch.testing.assert_close(network(x, lengths).states, gru(x, lengths).states, **EXACT)


@pytest.mark.parametrize(
    ("method", "H", "literal"), [("fft", 5, False), ("fft", 6, True), ("matrix", 5, True), ("matrix", 6, False)]
)
def test_rotation_gru_equations(method, H, literal):
    network = turned(rotation_gru(n_states=H, literal=literal, method=method))
    layer = network.layers[0]
    V, W, b = (p.detach().numpy() for p in (layer.V, layer.W, layer.b))
    C = layer.rotation.matrix().detach().numpy()
    x, h = normal(2, 8, 3), np.zeros((2, H))
    states = network(x).states.detach().numpy()
    for t in range(8):
        x_t = x[:, t].numpy()
        r, z = (1 / (1 + np.exp(-(x_t @ V[k].T + h @ W[k].T + b[k]))) for k in (slice(H), slice(H, 2 * H)))
        fed = r * (h @ W[2 * H :].T)
        n = np.tanh(x_t @ V[:H].T) + fed if literal else np.tanh(x_t @ V[2 * H :].T + b[2 * H :] + fed)
        h = ((1 - z) * n + z * h) @ C.T
        np.testing.assert_allclose(states[:, t], h, atol=1e-12)


@every_method
def test_rotation_gru_that_keeps_all_keeps_the_norm(method):
    network = turned(rotation_gru(method=method))
    with torch.no_grad():
        network.layers[0].b[6:12] = 1000.0
    h = normal(4, 6)
    state = RecurrentState([(h,)], torch.zeros(4, dtype=torch.float64))
    states = network(normal(4, 500, 3), state=state).states
    torch.testing.assert_close(states.norm(dim=2), h.norm(dim=1)[:, None].expand(4, 500), atol=1e-11, rtol=0)
    assert not torch.allclose(states[:, -1], h, atol=0.1)


def test_rotation_gru_parameter_count_and_starts():
    for H in (1, 2, 15):
        assert RotationGRU(3, n_states=H).n_parameters == 3 * H * (H + 3 + 1) + (H - 1) // 2
    for init, turns in (("modern", False), ("chrono", False), ("paper", True), ("authors", True)):
        layer = RotationGRU(3, n_states=64, init=init, max_length=1000, generator=seeded()).layers[0]
        assert bool(layer.rotation.angles.any()) == turns
        keep = layer.b[64:128]
        assert (500 < keep.exp().max() <= 1000) if init == "chrono" else not keep.any()


# -- rotated images


def conv_gru(seed=0, size=(5, 4), **options):
    return ConvRotationGRU(2, size, n_states=3, **options, generator=seeded(seed)).double()


@pytest.mark.parametrize(
    ("kernel_size", "literal", "angles"),
    [(1, False, "identity"), (1, True, "uniform"), (3, False, "uniform"), (3, True, "identity")],
)
def test_conv_rotation_gru_equations(kernel_size, literal, angles):
    """With angles of 0 nothing turns, and it is the convolutional GRU."""
    network = conv_gru(kernel_size=kernel_size, literal=literal, angles=angles)
    x, H = normal(2, 6, 2, 5, 4), torch.zeros(2, 3, 5, 4, dtype=torch.float64)
    W_hr, W_hz, W_hn = network.W_h.split(3)
    W_xr, W_xz, *W_xn = network.W_x.split(3)
    b_r, b_z, *b_n = network.b.split(3)

    def conv(images, W, b=None):
        return nn.functional.conv2d(images, W, b, padding=kernel_size // 2)

    turn = network.rotation.matrix() if angles == "uniform" else torch.eye(20, dtype=torch.float64).expand(3, 20, 20)
    states, last = network(x)
    for t in range(6):
        R = torch.sigmoid(conv(x[:, t], W_xr, b_r) + conv(H, W_hr))
        Z = torch.sigmoid(conv(x[:, t], W_xz, b_z) + conv(H, W_hz))
        if literal:
            N = torch.tanh(conv(x[:, t], W_xr)) + R * conv(H, W_hn)
        else:
            N = torch.tanh(conv(x[:, t], *W_xn, *b_n) + R * conv(H, W_hn))
        H = torch.einsum("cij,bcj->bci", turn, ((1 - Z) * N + Z * H).flatten(2)).view_as(H)
        torch.testing.assert_close(states[:, t], H, **EXACT)
    assert torch.equal(last, states[:, -1])
    first, state = network(x[:, :3])
    rest, _ = network(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), states, **EXACT)


def test_conv_rotation_gru_that_keeps_all_keeps_the_norm_of_each_channel():
    network = conv_gru(angles="uniform")
    with torch.no_grad():
        network.b[3:6] = 1000.0
    H = normal(2, 3, 5, 4)
    states, _ = network(normal(2, 200, 2, 5, 4), H)
    norms = states.flatten(3).norm(dim=3)
    torch.testing.assert_close(norms, H.flatten(2).norm(dim=2)[:, None].expand(2, 200, 3), atol=1e-11, rtol=0)


def test_conv_rotation_gru_parameter_count_and_gradients():
    for m, n in [(5, 4), (3, 3), (4, 6)]:
        own = (2 - m % 2) * (2 - n % 2)
        count = sum(p.numel() for p in conv_gru(size=(m, n)).parameters())
        assert count == 3 * 3 * ((2 + 3) * 9 + 1) + 3 * (m * n - own) // 2
    network = conv_gru(size=(3, 2), angles="uniform")
    names, parameters = zip(*network.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (normal(2, 3, 2, 3, 2).requires_grad_(), *parameters), fast_mode=True)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: CirculantUnitary(5, real=True, signs=(1, -1)), r"signs=\(1, -1\) must be 1 numbers, each 1 or -1"),
        (lambda: CirculantUnitary(6, real=True, signs=(1, 2)), r"signs=\(1, 2\) must be 2 numbers, each 1 or -1"),
        (lambda: CirculantUnitary(6, signs=(1, 1)), "with real=False all angles are free"),
        (lambda: CirculantUnitary2d(4, 0), "n must be at least 1, not 0"),
        (lambda: CirculantUnitary(4, angles="zero"), "Unknown angles 'zero'; choose one of 'uniform', 'identity'"),
        (lambda: DFTLayer(4, method="dct"), "Unknown method 'dct'; choose one of 'auto', 'fft', 'matrix'"),
        (lambda: DFTLayer(4, method="fft", trainable=True), "method='fft' has no matrix that could be trained"),
        (lambda: DFTLayer(0), "n must be at least 1, not 0"),
        (lambda: DFTLayer(4)(torch.zeros(2, 5)), "x has shape \\(2, 5\\), but \\(..., 4\\) is needed"),
        (lambda: fnet()(normal(1, 4, 3), state=normal(1, 8)), "it needs the whole sequence"),
        (lambda: SFMDensity("fnet", max_iter=1).fit([np.eye(4), np.eye(4)]), "causal"),
        (lambda: FNet(1, positions="learned"), "Unknown positions 'learned'; choose one of 'sinusoidal', 'none'"),
        (lambda: FNet(1, method="dct"), "Unknown method 'dct'"),
        (lambda: ConvRotationGRU(1, (4, 4), kernel_size=2), "must be odd, so that a kernel has a centre, not 2"),
        (lambda: conv_gru()(normal(2, 7, 2, 4, 5)), r"x has shape \(2, 7, 2, 4, 5\), but shape \(B, T, 2, 5, 4\)"),
    ],
)
def test_mistakes(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
