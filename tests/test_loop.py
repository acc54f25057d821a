"""The loop over packed rows, and the gradient of a matrix that all steps share."""

import threading

import pytest
import torch

from sfmts.kernels import SharedMatrix, pack, scan

H, N = 4, 3
LENGTHS = torch.tensor([3, 6, 1, 6])


def noise(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def leaves():
    """Matrix, inputs of all steps and first state."""
    W, x, h = noise(H, H, seed=1), noise(4, 6, H, seed=2), noise(4, H, seed=3)
    return [leaf.requires_grad_() for leaf in (W, x, h)]


def run(product, x, h, lengths=LENGTHS, mask=None):
    """A tanh recurrence whose second output is what its next step reads."""

    def step(inputs, state, mask):
        (a,), (h,) = inputs, state
        fed = h if mask is None else h * mask
        h = torch.tanh(product(fed, a))
        return (h, fed), (h,)

    packed = pack(x, lengths)
    order, back = packed.sorted_indices, packed.unsorted_indices
    mask = None if mask is None else mask[order]
    outputs, state = scan(step, (packed.data,), packed.batch_sizes.tolist(), (h[order],), mask)
    return outputs, tuple(part[back] for part in state)


def plain(W):
    return lambda v, a=None: v @ W.T if a is None else a + v @ W.T


def loss_of(product, x, h):
    (states, _), (last,) = run(product, x, h)
    return states.square().sum() + last.sin().sum()


def assert_all_close(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


@pytest.fixture
def expected():
    W, x, h = leaves()
    return torch.autograd.grad(loss_of(plain(W), x, h), (W, x, h))


class TestSharedMatrix:
    def test_gradients_are_those_of_autograd(self, expected):
        W, x, h = leaves()
        assert_all_close(torch.autograd.grad(loss_of(SharedMatrix(W), x, h), (W, x, h)), expected)

    @pytest.mark.parametrize("a", [True, False], ids=["with a", "product alone"])
    def test_finite_differences(self, a):
        W, v, b = noise(5, H, seed=1), noise(2, H, seed=2), noise(2, 5, seed=3)

        def twice(W, v, b):
            shared = SharedMatrix(W)
            return shared(v, b) * shared(v.sin(), b) if a else shared(v) * shared(v.sin())

        inputs = tuple(leaf.requires_grad_() for leaf in (W, v, b))
        assert torch.autograd.gradcheck(twice, inputs)

    def test_a_matrix_made_from_a_parameter(self):
        W, x, h = leaves()
        scale = noise(H, seed=4).requires_grad_()
        found = torch.autograd.grad(loss_of(SharedMatrix(W * scale), x, h), (W, scale))
        assert_all_close(found, torch.autograd.grad(loss_of(plain(W * scale), x, h), (W, scale)))

    def test_two_backward_passes_over_one_graph(self, expected):
        W, x, h = leaves()
        loss = loss_of(SharedMatrix(W), x, h)
        assert_all_close(torch.autograd.grad(loss, (W, x, h), retain_graph=True), expected)
        assert_all_close(torch.autograd.grad(loss, (W, x, h)), expected)

    def test_a_pass_that_leaves_the_matrix_out_leaves_nothing_behind(self, expected):
        W, x, h = leaves()
        loss = loss_of(SharedMatrix(W), x, h)
        assert_all_close(torch.autograd.grad(loss, x, retain_graph=True), expected[1:2])
        assert_all_close(torch.autograd.grad(loss, (W, x, h)), expected)

    def test_a_pass_over_a_part_of_the_graph(self):
        W, x, h = leaves()
        shared = SharedMatrix(W)
        (states, _), _ = run(shared, x, h)
        (reference, _), _ = run(plain(W), x, h)
        for part in (slice(0, 3), slice(7, 9)):
            found = torch.autograd.grad(states[part].sum(), W, retain_graph=True)
            assert_all_close(found, torch.autograd.grad(reference[part].sum(), W, retain_graph=True))

    def test_backward_adds_to_what_is_there(self, expected):
        W, x, h = leaves()
        for _ in range(2):
            loss_of(SharedMatrix(W), x, h).backward()
        assert_all_close([W.grad], [2 * expected[0]])

    def test_products_that_nobody_uses(self):
        W, _, h = leaves()
        shared = SharedMatrix(W)
        shared(h)
        (gradient,) = torch.autograd.grad(shared(h.detach()).sum(), W)
        torch.testing.assert_close(gradient, h.detach().sum(dim=0).expand(H, H))

    def test_without_gradients_it_is_a_product(self):
        W, x, h = leaves()
        for given, has_graph in ((W, False), (W.detach(), True)):
            with torch.set_grad_enabled(has_graph):
                shared = SharedMatrix(given)
                product = shared(h, x[:, 0])
            assert shared.W is given  # no node of a graph in between
            torch.testing.assert_close(product, x[:, 0] + h @ W.T)
            assert product.requires_grad == has_graph

    def test_gradients_of_the_rest_with_a_constant_matrix(self, expected):
        W, x, h = leaves()
        found = torch.autograd.grad(loss_of(SharedMatrix(W.detach()), x, h), (x, h))
        assert_all_close(found, expected[1:])

    @pytest.mark.parametrize("shared", [False, True], ids=["a graph each", "one graph"])
    def test_backward_passes_of_two_threads(self, shared):
        """From one parameter."""
        W, x, h = leaves()
        inputs = [x, x] if shared else [noise(4, 6, H, seed=seed) for seed in range(2)]
        graph = loss_of(SharedMatrix(W), x, h)
        found, start = [[], []], threading.Barrier(2)

        def work(index):
            for _ in range(20):
                loss = graph if shared else loss_of(SharedMatrix(W), inputs[index], h)
                start.wait()
                found[index].append(torch.autograd.grad(loss, W, retain_graph=shared)[0])

        workers = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for gradients, x in zip(found, inputs, strict=True):
            assert_all_close(gradients, [torch.autograd.grad(loss_of(plain(W), x, h), W)[0]] * 20)

    def test_float32(self):
        W, x, h = (leaf.detach().float().requires_grad_() for leaf in leaves())
        found = torch.autograd.grad(loss_of(SharedMatrix(W), x, h), (W, x, h))
        for got, wanted in zip(found, torch.autograd.grad(loss_of(plain(W), x, h), (W, x, h)), strict=True):
            assert got.dtype == torch.float32
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


class TestScan:
    @pytest.mark.parametrize("masked", [False, True])
    def test_ragged_is_each_sequence_alone(self, masked):
        W, x, h = leaves()
        mask = noise(4, H, seed=5) if masked else None
        (states, fed), (last,) = run(plain(W), x, h, mask=mask)
        assert states.shape == fed.shape == (int(LENGTHS.sum()), H)
        owner = pack(torch.arange(4).repeat_interleave(6).view(4, 6, 1), LENGTHS).data[:, 0]
        for b, length in enumerate(LENGTHS.tolist()):
            rows = owner == b
            alone = run(plain(W), x[b : b + 1, :length], h[b : b + 1], None, None if mask is None else mask[b : b + 1])
            (alone_states, alone_fed), (alone_last,) = alone
            assert_all_close((states[rows], fed[rows], last[b : b + 1]), (alone_states, alone_fed, alone_last))

    def test_gradients_of_ragged_are_those_of_each_sequence_alone(self):
        W, x, h = leaves()
        whole = torch.autograd.grad(loss_of(plain(W), x, h), (W, x, h))
        parts = []
        for b, length in enumerate(LENGTHS.tolist()):
            (states, _), (last,) = run(plain(W), x[b : b + 1, :length], h[b : b + 1], None)
            parts.append(states.square().sum() + last.sin().sum())
        assert_all_close(torch.autograd.grad(sum(parts), (W, x, h)), whole)

    def test_several_inputs_and_states(self):
        """A step sees its own rows of each input, and each state goes its own way."""

        def step(inputs, state, mask):
            (a, b), (total, count) = inputs, state
            return (a * count,), (total + a + 10 * b, count + 1)

        a, b = torch.tensor([1.0, 2, 3, 4, 5, 6]), torch.tensor([0.0, 0, 0, 1, 1, 1])
        sizes = [3, 2, 1]
        (output,), (total, count) = scan(step, (a, b), sizes, (torch.zeros(3), torch.zeros(3)))
        assert output.tolist() == [0, 0, 0, 4, 5, 12]
        assert total.tolist() == [1 + 14 + 16, 2 + 15, 3]
        assert count.tolist() == [3, 2, 1]

    def test_a_single_step(self):
        W, x, h = leaves()
        (states, _), (last,) = run(plain(W), x[:, :1], h, None)
        torch.testing.assert_close(states, torch.tanh(x[:, 0] + h @ W.T))
        assert torch.equal(states, last)
