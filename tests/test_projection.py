"""Pre-activations of all steps: the equations as a loop, and the compiled kernel against PyTorch."""

import pytest
import torch

from sfmts.kernels import _compiled
from sfmts.kernels._resonator.projection import linear, projection
from tests.helpers import assert_same, every_dtype, every_pair, spread, threads, with_gradients

INSTRUCTION_SETS = _compiled.library.instruction_sets()
BACKENDS = ["fused", "native"]
SIZES = {  # T, B, N, R, L
    "ordinary": (9, 5, 7, 20, 2),
    "one of all": (1, 1, 1, 1, 1),
    "fewer steps than lags": (2, 3, 4, 12, 4),
    "no lags": (11, 4, 6, 33, 0),
    "one sequence": (150, 1, 12, 61, 3),
    "groups of unequal size": (30, 201, 2, 16, 2),
    "rows of a power of two": (5, 9, 64, 256, 1),
}

every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_size = pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))


def make_case(size, dtype=torch.float64, seed=0):
    T, B, N, R, L = size
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (T, B, N), "V": (R, N), "b": (R,), "w": (L, R), "recent": (L, B, R)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for name, shape in shapes.items()
    }


def results(case, backend):
    """Outputs, and gradients through both of them."""
    outputs = dict(zip("ap", projection(**case, backend=backend), strict=True))
    return with_gradients(outputs, case, through="ap")


@every_backend
@every_size
def test_equations(backend, size):
    case = make_case(size)
    T, L = size[0], size[-1]
    a, p = projection(**case, backend=backend)
    earlier = list(case["recent"])
    for t in range(T):
        earlier.append(torch.einsum("rn,bn->br", case["V"], case["x"][t]))
        lagged = sum(case["w"][lag - 1] * earlier[-1 - lag] for lag in range(1, L + 1))
        torch.testing.assert_close(a[t], earlier[-1] + case["b"] + lagged)
    torch.testing.assert_close(p, torch.stack(earlier) if L else case["recent"])


@every_pair(size=SIZES, instruction_set=INSTRUCTION_SETS, precision=[(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_native_parity(size, instruction_set, precision, monkeypatch):
    dtype, tolerance = precision
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", instruction_set)
    case = make_case(SIZES[size], dtype)
    assert_same(results(case, "fused"), results(case, "native"), tolerance)


@every_backend
def test_gradients_are_those_of_finite_differences(backend):
    case = make_case((4, 2, 3, 5, 2))
    assert torch.autograd.gradcheck(lambda *values: projection(*values, backend), list(case.values()))


@every_backend
def test_linear_is_a_projection_without_bias_and_lags(backend):
    case = make_case((6, 3, 4, 10, 0))
    torch.testing.assert_close(linear(case["x"], case["V"], backend), case["x"] @ case["V"].T)


@every_backend
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_chunks_that_hand_on_the_latest_steps_are_the_whole(backend, cut):
    case = make_case(SIZES["ordinary"])
    L = len(case["w"])
    whole, _ = projection(**case, backend=backend)
    first, p = projection(**case | {"x": case["x"][:cut]}, backend=backend)
    rest, _ = projection(**case | {"x": case["x"][cut:], "recent": p[len(p) - L :]}, backend=backend)
    torch.testing.assert_close(torch.cat([first, rest]), whole)


@every_dtype
def test_native_rows_do_not_depend_on_batch_mates(dtype):
    case = make_case(SIZES["groups of unequal size"], dtype)
    whole, _ = projection(**case, backend="native")
    for b in (0, 13, 200):
        alone = {"x": case["x"][:, b : b + 1], "recent": case["recent"][:, b : b + 1]}
        assert torch.equal(projection(**case | alone, backend="native")[0][:, 0], whole[:, b])


@every_size
def test_native_threads_do_not_matter(size):
    case, found = make_case(size, torch.float32), []
    for number in (1, 2, 5):
        with threads(number):
            found.append(results(case, "native"))
    for other in found[1:]:
        assert_same(found[0], other)


def test_native_strides_of_all_that_is_given():
    case = make_case(SIZES["ordinary"])
    strided = {name: spread(value) for name, value in case.items()}
    assert not any(value.is_contiguous() for value in strided.values())
    assert_same(results(case, "native"), results(strided, "native"))


@pytest.mark.parametrize("wanted", ["x", "V", "b", "w", "recent"])
def test_native_gradient_of_one_input_only(wanted):
    case = make_case(SIZES["ordinary"])
    alone = {name: value.detach().requires_grad_(name == wanted) for name, value in case.items()}
    projection(**alone, backend="native")[0].sum().backward()
    projection(**case, backend="fused")[0].sum().backward()
    torch.testing.assert_close(alone[wanted].grad, case[wanted].grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pytorchs(dtype):
    case = make_case(SIZES["ordinary"], dtype)
    a, _ = projection(**case, backend="native")
    assert a.dtype == dtype
    assert torch.equal(a, projection(**case, backend="fused")[0])


def test_native_second_derivatives_are_refused_not_wrong():
    case = make_case(SIZES["ordinary"])
    a, _ = projection(**case, backend="native")
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(a.square().sum(), case["x"], create_graph=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(9, 5, 6)}, r"x has shape \(9, 5, 6\) and V \(20, 7\)"),
        ({"x": torch.zeros(9, 7)}, r"x has shape \(9, 7\)"),
        ({"x": torch.zeros(0, 5, 7)}, "without empty axes"),
        ({"b": torch.zeros(19)}, r"b has shape \(19,\), but \(20,\) is needed"),
        ({"w": torch.zeros(3, 20)}, r"recent has shape \(2, 5, 20\), but \(3, 5, 20\)"),
        ({"recent": torch.zeros(2, 4, 20)}, r"recent has shape \(2, 4, 20\)"),
        ({"V": torch.zeros(20, 7, device="meta")}, "V is on meta, but must be on cpu"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    case = make_case(SIZES["ordinary"], torch.float32)
    for backend in BACKENDS:
        with pytest.raises(ValueError, match=message):
            projection(**case | change, backend=backend)
