"""Joint densities of binary vectors whose biases depend on the state of a network: NADE and RBM.

A row is one time step of one sequence. P rows consist of the visible units v (P, C) and of biases ``b_v`` (P, C) and
``b_h`` (P, H), which a network computes from the past. Rows are independent here, and nothing depends on time. Log
probabilities are in nats.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

__all__ = ["NADE", "RBM"]

# Above this many numbers autograd keeps none of them and computes them again in the backward pass.
_KEPT_NUMBERS = 2**24
# Numbers that a loop processes at a time.
_WORKING_NUMBERS = 2**20
# Visible units of NADE that are read at a time: wide enough for matrix products, narrow enough to waste little.
_BLOCK = 16
# Number of units of the largest layer whose states are enumerated, and number of states enumerated at a time.
_MAX_ENUMERATED = 20
_ENUMERATED_AT_ONCE = 1024
# Number of positions whose random numbers are drawn together.
_POSITIONS_AT_ONCE = 64


class _ConditionalDensity(nn.Module):
    """Base class of NADE and RBM: sizes and checks of arguments."""

    def __init__(self, n_visible: int, n_hidden: int) -> None:
        super().__init__()
        for name, value in (("n_visible", n_visible), ("n_hidden", n_hidden)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        self.n_visible, self.n_hidden = n_visible, n_hidden

    def extra_repr(self) -> str:
        """Return the sizes, for ``print``."""
        return f"n_visible={self.n_visible}, n_hidden={self.n_hidden}"

    def _check_biases(self, b_v: Tensor, b_h: Tensor) -> None:
        for name, value, width in (("b_v", b_v, self.n_visible), ("b_h", b_h, self.n_hidden)):
            if value.shape != (len(b_v), width):
                raise ValueError(
                    f"{name} must have shape (P, {width}), one row of biases for each of the P = {len(b_v)} vectors, "
                    f"but it has shape {tuple(value.shape)}."
                )

    def _checked(self, v: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
        """Return v in the type of the biases; raise ValueError if an argument is invalid."""
        self._check_biases(b_v, b_h)
        if v.shape != b_v.shape:
            raise ValueError(
                f"v must have shape {tuple(b_v.shape)}, a row for each row of b_v, but it has shape {tuple(v.shape)}."
            )
        strange = v[(v != 0) & (v != 1)]
        if len(strange):
            raise ValueError(
                f"v must consist of zeros and ones, because the density is one of binary vectors, but it holds "
                f"{strange[0].item():g}."
            )
        return v.to(b_v.dtype)


class NADE(_ConditionalDensity):
    r"""Neural autoregressive distribution estimator (NADE) with conditional biases [1]_ [2]_.

    .. math::

        h_i = \sigma(b_h + W_{:,<i} v_{<i}), \quad
        p(v_i = 1 \mid v_{<i}) = \sigma(b_{v,i} + V_i h_i), \quad
        \log p(v) = \sum_i \log p(v_i \mid v_{<i})

    The density is exact and differentiable in the biases and weights, to any order. Since h changes only after a one, a
    row of v with few ones costs little more than one product with V.

    Parameters
    ----------
    n_visible : int
        Number C of visible units.
    n_hidden : int
        Number H of hidden units.
    generator : torch.Generator, optional
        Source of the initial weights, N(0, 0.01²); PyTorch's global generator by default.

    Attributes
    ----------
    W : Parameter of shape (H, C)
        Weights from visible to hidden units.
    V : Parameter of shape (C, H)
        Weights from hidden to visible units.

    References
    ----------
    .. [1] Larochelle & Murray, "The neural autoregressive distribution estimator", AISTATS 2011, equations 8 to 11.
    .. [2] Boulanger-Lewandowski, Bengio & Vincent, "Modeling temporal dependencies in high-dimensional sequences",
       ICML 2012, section 5 (RNN-NADE).

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.energy import NADE
    >>> nade = NADE(3, 5, generator=torch.Generator().manual_seed(0))
    >>> v = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # all eight vectors
    >>> p = nade.log_prob(v, torch.zeros(8, 3), torch.zeros(8, 5)).exp()
    >>> round(p.sum().item(), 4)
    1.0
    """

    def __init__(self, n_visible: int, n_hidden: int, generator: torch.Generator | None = None) -> None:
        super().__init__(n_visible, n_hidden)
        self.W = nn.Parameter(_small_normal(n_hidden, n_visible, generator))
        self.V = nn.Parameter(_small_normal(n_visible, n_hidden, generator))

    def log_prob(self, v: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
        """Return the exact log-probability of each row.

        Parameters
        ----------
        v : Tensor of shape (P, C)
            Zeros and ones of any type.
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.

        Returns
        -------
        log_prob : Tensor of shape (P,)
            In nats.

        Raises
        ------
        ValueError
            If shapes do not fit or v is not binary.
        """
        logits = self._logits(v, b_v, b_h)
        return functional.logsigmoid(torch.where(v == 1, logits, -logits)).sum(dim=1)

    def conditionals(self, v: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
        """Return p(v_i = 1 | v_<i) of each row and unit.

        Parameters
        ----------
        v : Tensor of shape (P, C)
            Zeros and ones of any type.
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.

        Returns
        -------
        p : Tensor of shape (P, C)
            Conditional probabilities.

        Raises
        ------
        ValueError
            If shapes do not fit or v is not binary.
        """
        return self._logits(v, b_v, b_h).sigmoid()

    def _logits(self, v: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
        v = self._checked(v, b_v, b_h)
        weights = (self.W, self.V)
        # Group the rows so that no group with several rows needs more than _KEPT_NUMBERS numbers.
        states = v.sum(dim=1).long() + math.ceil(self.n_visible / _BLOCK)
        numbers = (states * (self.n_hidden + 2 * _BLOCK)).cumsum(dim=0)
        groups = (numbers // _KEPT_NUMBERS).unique_consecutive(return_counts=True)[1].tolist()
        if len(groups) < 2:
            return b_v + _nade_logits(v, b_h, *weights)
        rows = zip(v.split(groups), b_h.split(groups), strict=True)
        return b_v + torch.cat([_recomputed(_nade_logits, *group, *weights) for group in rows])

    @torch.no_grad()
    def sample(
        self,
        b_v: Tensor,
        b_h: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        shared: bool = False,
    ) -> Tensor:
        """Draw one vector per row, unit after unit.

        Parameters
        ----------
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.
        generator : torch.Generator, optional
            Source of the C uniform numbers of each row; PyTorch's global generator by default.
        temperature : float
            Divides the logit of every unit. 1 draws from the density, 0 takes the more probable value of each unit in
            turn, and infinity draws zeros and ones with equal probability.
        shared : bool
            Whether to use the same random numbers for all rows, so that a row's draw does not depend on their number.

        Returns
        -------
        v : Tensor of shape (P, C)
            Zeros and ones.

        Raises
        ------
        ValueError
            If shapes do not fit or ``temperature`` is negative.
        """
        self._check_biases(b_v, b_h)
        if not temperature >= 0.0:
            raise ValueError(f"temperature must be at least 0, not {temperature}.")
        shape = torch.Size((1, self.n_visible)) if shared else b_v.shape
        uniform = _uniform(shape, b_v.device, torch.float64, generator).expand(b_v.shape)
        # u < sigmoid(logit / T) is solved for the logit, T logit(u) < logit, which also works for T = 0.
        threshold = (temperature * uniform.logit(eps=1e-300)).to(b_v.dtype)
        v, units = torch.zeros_like(b_v), torch.arange(self.n_visible, device=b_v.device)
        row, next_unit, a = torch.arange(len(b_v), device=b_v.device), units.new_zeros(len(b_v), 1), b_h
        while len(row):  # all units up to a row's next one together, because h does not change before it
            logits = torch.addmm(b_v[row], a.sigmoid(), self.V.T)
            ones = (logits > threshold[row]) & (units >= next_unit)
            found = ones.any(dim=1)
            row, one = row[found], ones[found].byte().argmax(dim=1)
            v[row, one] = 1.0
            a, next_unit = a[found] + self.W.T[one], one[:, None] + 1
        return v


def _nade_logits(v: Tensor, b_h: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """Return the logits V_i h_i of all conditionals without b_v, (P, C).

    Units are read in blocks. Within a block the state of a row changes after each of its ones and nowhere else. So n
    ones give n + 1 states, and unit i reads the state whose number is the number of ones before i.
    """
    a, logits = b_h, []
    rows = torch.arange(len(v), device=v.device)
    for v_block, W_block, V_block in zip(v.split(_BLOCK, dim=1), W.split(_BLOCK, dim=1), V.split(_BLOCK), strict=True):
        # Sums of integers are deterministic on a GPU too.
        ones_before = v_block.long().cumsum(dim=1).to(v_block) - v_block
        n_states = ones_before[:, -1].long() + 1  # a one at the end affects only the next block
        row = rows.repeat_interleave(n_states)  # of each state
        first = (n_states.cumsum(dim=0) - n_states)[row]
        number = (torch.arange(len(row), device=v.device) - first).to(v.dtype)[:, None]  # of each state within its row
        ones_before = ones_before[row]
        # h = sigmoid(b_h + W_{:,<i} v_{<i}) of each state: a holds the blocks before, seen the ones of this block
        seen = v_block[row] * (ones_before < number)
        h = torch.addmm(a.index_select(0, row), seen, W_block.T).sigmoid()
        # Each unit reads one state; in the order of states and units, these are in the order of (row, unit).
        logits.append((h @ V_block.T).masked_select(ones_before == number).view_as(v_block))
        a = torch.addmm(a, v_block, W_block.T)
    return torch.cat(logits, dim=1)


class RBM(_ConditionalDensity):
    r"""Restricted Boltzmann machine (RBM) with conditional biases, the output of the RNN-RBM [1]_.

    .. math::

        p(v) = e^{-F(v)} / Z, \quad F(v) = -b_v \cdot v - \sum_j \mathrm{softplus}(b_h + W v)_j

    Each row has its own Z, which can only be estimated unless a layer is small. Train with
    :meth:`contrastive_divergence` and report :meth:`log_prob`.

    Parameters
    ----------
    n_visible : int
        Number C of visible units.
    n_hidden : int
        Number H of hidden units.
    generator : torch.Generator, optional
        Source of the initial weights, N(0, 0.01²) as in [1]_; PyTorch's global generator by default.

    Attributes
    ----------
    W : Parameter of shape (H, C)
        Weights between visible and hidden units.

    References
    ----------
    .. [1] Boulanger-Lewandowski, Bengio & Vincent, "Modeling temporal dependencies in high-dimensional sequences",
       ICML 2012, sections 2 and 4.
    .. [2] Salakhutdinov & Murray, "On the quantitative analysis of deep belief networks", ICML 2008.
    .. [3] Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14, 2002.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.energy import RBM
    >>> rbm = RBM(3, 5, generator=torch.Generator().manual_seed(0))
    >>> v = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # all eight vectors
    >>> b_v, b_h = torch.zeros(8, 3), torch.zeros(8, 5)
    >>> round(rbm.log_prob(v, b_v, b_h).exp().sum().item(), 4)
    1.0
    >>> loss = rbm.contrastive_divergence(v, b_v, b_h).mean()
    >>> loss.backward()
    """

    def __init__(self, n_visible: int, n_hidden: int, generator: torch.Generator | None = None) -> None:
        super().__init__(n_visible, n_hidden)
        self.W = nn.Parameter(_small_normal(n_hidden, n_visible, generator))

    def free_energy(self, v: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
        """Return the free energy F of each row: -log p(v) = F + log Z.

        Parameters
        ----------
        v : Tensor of shape (P, C)
            Zeros and ones of any type.
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.

        Returns
        -------
        F : Tensor of shape (P,)
            In nats.

        Raises
        ------
        ValueError
            If shapes do not fit or v is not binary.
        """
        v = self._checked(v, b_v, b_h)
        return -(b_v * v).sum(dim=1) - functional.softplus(torch.addmm(b_h, v, self.W.T)).sum(dim=1)

    @torch.no_grad()
    def gibbs(
        self,
        v: Tensor,
        b_v: Tensor,
        b_h: Tensor,
        steps: int = 15,
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> Tensor:
        """Continue from v by steps of block Gibbs sampling, without gradient.

        A step draws all hidden units given the visible units, then all visible units given the hidden units.

        Parameters
        ----------
        v : Tensor of shape (P, C)
            Zeros and ones of any type.
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.
        steps : int
            Number of steps.
        generator : torch.Generator, optional
            Source of the random numbers; PyTorch's global generator by default.
        shared : bool
            Whether to use the same random numbers for all rows, so that a row's draw does not depend on their number.

        Returns
        -------
        v : Tensor of shape (P, C)
            Zeros and ones.

        Raises
        ------
        ValueError
            If shapes do not fit, v is not binary or ``steps`` is less than 1.
        """
        v = self._checked(v, b_v, b_h)
        _check_positive("steps", steps)
        for _ in range(steps):
            h = _bernoulli(torch.addmm(b_h, v, self.W.T), generator, shared)
            v = _bernoulli(torch.addmm(b_v, h, self.W), generator, shared)
        return v

    def contrastive_divergence(
        self, v: Tensor, b_v: Tensor, b_h: Tensor, steps: int = 15, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return F(v) - F(v*) of each row, where v* is v after steps of :meth:`gibbs` (Hinton, 2002).

        Its gradient estimates the gradient of -log p(v), and more steps give a better estimate. Its value has no
        meaning.

        Parameters
        ----------
        v : Tensor of shape (P, C)
            Zeros and ones of any type.
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.
        steps : int
            Number of steps.
        generator : torch.Generator, optional
            Source of the random numbers; PyTorch's global generator by default.

        Returns
        -------
        divergence : Tensor of shape (P,)
            Differentiable in weights and biases.
        """
        negative = self.gibbs(v, b_v, b_h, steps, generator)
        return self.free_energy(v, b_v, b_h) - self.free_energy(negative, b_v, b_h)

    def log_prob(
        self,
        v: Tensor,
        b_v: Tensor,
        b_h: Tensor,
        n_temperatures: int = 200,
        n_chains: int = 10,
        generator: torch.Generator | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """Return the log-probability of each row: exact if a layer is small, otherwise an estimate without gradient.

        The smaller layer is enumerated if it has at most ``n_temperatures * n_chains`` states. Estimates tend to be too
        high, because those of :meth:`log_partition` tend to be too low.

        Parameters
        ----------
        v : Tensor of shape (P, C)
            Zeros and ones of any type.
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.
        n_temperatures, n_chains : int
            See :meth:`log_partition`.
        generator : torch.Generator, optional
            See :meth:`log_partition`.
        position : Tensor of shape (P,), int64, optional
            See :meth:`log_partition`.

        Returns
        -------
        log_prob : Tensor of shape (P,)
            In nats.
        """
        small = min(self.n_visible, self.n_hidden)
        if small <= _MAX_ENUMERATED and 2**small <= n_temperatures * n_chains:
            return -self.free_energy(v, b_v, b_h) - self.exact_log_partition(b_v, b_h)
        with torch.no_grad():  # the gradient of F without that of log Z would be wrong
            F = self.free_energy(v, b_v, b_h)
            return -F - self.log_partition(b_v, b_h, n_temperatures, n_chains, generator, position)

    def exact_log_partition(self, b_v: Tensor, b_h: Tensor) -> Tensor:
        """Return log Z of each row by enumeration of the smaller layer; the time grows as P 2^min(C, H).

        Parameters
        ----------
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.

        Returns
        -------
        log_Z : Tensor of shape (P,)
            In nats.

        Raises
        ------
        ValueError
            If shapes do not fit or both layers have more than 20 units.
        """
        self._check_biases(b_v, b_h)
        flip = self.n_visible < self.n_hidden
        small, large, W = (b_v, b_h, self.W.T) if flip else (b_h, b_v, self.W)
        n = len(W)
        if n > _MAX_ENUMERATED:
            raise ValueError(
                f"A layer can be enumerated if it has at most {_MAX_ENUMERATED} units, but this model has "
                f"{self.n_visible} visible and {self.n_hidden} hidden units. Use log_partition."
            )
        bits = torch.arange(n, device=W.device)
        at_once = min(2**n, _ENUMERATED_AT_ONCE)
        n_rows = max(1, _WORKING_NUMBERS // (at_once * large.shape[1]))
        parts = []
        for rows in zip(small.split(n_rows), large.split(n_rows), strict=True):
            logs = []
            for first in range(0, 2**n, at_once):
                number = torch.arange(first, first + at_once, device=W.device)
                states = (number[:, None] >> bits & 1).to(W.dtype)
                logs.append(_recomputed(_log_sum_over, states, *rows, W))
            parts.append(torch.stack(logs).logsumexp(dim=0))
        return torch.cat(parts)

    @torch.no_grad()
    def log_partition(
        self,
        b_v: Tensor,
        b_h: Tensor,
        n_temperatures: int = 200,
        n_chains: int = 10,
        generator: torch.Generator | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        r"""Estimate log Z of each row by annealed importance sampling (Salakhutdinov & Murray, 2008), without gradient.

        The chains start in a model whose Z is known: the model without W if units are written as -1 and 1, which has
        the biases :math:`b_v + W^\top 1/2` and :math:`b_h + W 1/2`. They pass through models whose energies are
        weighted means of its energy and that of the RBM. Compared with a start at b_v alone, the error is about half.

        Parameters
        ----------
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.
        n_temperatures : int
            Number of steps from one model to the other. The error of one chain falls as their root, or faster.
        n_chains : int
            Number of chains per row, whose weights are averaged. The estimate of Z is unbiased. The estimate of log Z
            is too low by half the variance of a chain's log-weight divided by ``n_chains``. It is too low by much more
            if the chains are few and the model has many deep modes; compare with more temperatures.
        generator : torch.Generator, optional
            Source of the random numbers. By default a generator with a fixed seed, so that equal arguments give equal
            values.
        position : Tensor of shape (P,), int64, optional
            Selects the random numbers of a row: rows with equal positions have equal numbers. By default the positions
            are 0 to P - 1. With a frame's number in its series as position, the estimate does not depend on the other
            rows.

        Returns
        -------
        log_Z : Tensor of shape (P,)
            In nats.

        Raises
        ------
        ValueError
            If shapes do not fit, or ``n_temperatures`` or ``n_chains`` is less than 1.
        """
        self._check_biases(b_v, b_h)
        _check_positive("n_temperatures", n_temperatures)
        _check_positive("n_chains", n_chains)
        if not len(b_v):
            return b_v.new_empty(0)
        position = torch.arange(len(b_v)) if position is None else position.cpu()
        first_seed = 0 if generator is None else _seed(generator)
        n_rows = max(1, _WORKING_NUMBERS // (n_chains * (self.n_visible + self.n_hidden)))
        log_Z = torch.empty_like(b_v[:, 0])
        for rows in position.argsort(stable=True).split(n_rows):
            draws = _Draws(position[rows], n_chains, first_seed, b_v.device)
            rows = rows.to(b_v.device)
            chain_v, chain_h = (b[rows].repeat_interleave(n_chains, dim=0) for b in (b_v, b_h))
            log_weights = _annealed_log_weights(chain_v, chain_h, self.W, n_temperatures, draws)
            log_Z[rows] = log_weights.view(-1, n_chains).logsumexp(dim=1) - math.log(n_chains)
        return log_Z

    @torch.no_grad()
    def sample(
        self,
        b_v: Tensor,
        b_h: Tensor,
        steps: int = 25,
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> Tensor:
        """Draw one vector per row by :meth:`gibbs`, starting from a draw with b_v alone.

        Parameters
        ----------
        b_v : Tensor of shape (P, C)
            Biases of the visible units.
        b_h : Tensor of shape (P, H)
            Biases of the hidden units.
        steps : int
            Number of steps.
        generator : torch.Generator, optional
            Source of the random numbers; PyTorch's global generator by default.
        shared : bool
            Whether to use the same random numbers for all rows, so that a row's draw does not depend on their number.

        Returns
        -------
        v : Tensor of shape (P, C)
            Zeros and ones.
        """
        self._check_biases(b_v, b_h)
        return self.gibbs(_bernoulli(b_v, generator, shared), b_v, b_h, steps, generator, shared)


class _Draws:
    """Random zeros and ones for the chains of rows; the numbers of a row depend only on its position.

    Each block of positions has a generator of its own.
    """

    def __init__(self, position: Tensor, n_chains: int, seed: int, device: torch.device) -> None:
        blocks, which = (position // _POSITIONS_AT_ONCE).unique(return_inverse=True)
        self._generators = [torch.Generator(device).manual_seed(seed + block) for block in blocks.tolist()]
        self._drawn = (which * _POSITIONS_AT_ONCE + position % _POSITIONS_AT_ONCE).to(device)
        self._n_chains = n_chains

    def __call__(self, logits: Tensor) -> Tensor:
        """Return zeros and ones of the shape of the logits, (rows times chains, units)."""
        shape = torch.Size((_POSITIONS_AT_ONCE, self._n_chains, logits.shape[1]))
        numbers = [_uniform(shape, logits.device, logits.dtype, generator) for generator in self._generators]
        return (torch.cat(numbers)[self._drawn].flatten(0, 1) < logits.sigmoid()).to(logits.dtype)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))


def _log_sum_over(states: Tensor, small: Tensor, large: Tensor, W: Tensor) -> Tensor:
    """Return the log of the sum of exp(-energy) over these states of one layer and all of the other, (P,)."""
    inputs = large[:, None] + states @ W
    return (small @ states.T + functional.softplus(inputs).sum(dim=2)).logsumexp(dim=1)


def _annealed_log_weights(b_v: Tensor, b_h: Tensor, W: Tensor, n_temperatures: int, draws: _Draws) -> Tensor:
    """Return the log importance weight of one chain for each row of biases, (P,).

    At inverse temperature beta the model p_beta has the weights beta W and the biases b + (1 - beta) shift. The weight
    is the known Z of the first model times the product over k of p_k(v) / p_{k-1}(v), unnormalised, with v drawn at
    step k - 1.
    """
    shift_v, shift_h = W.sum(dim=0) / 2, W.sum(dim=1) / 2
    log_weight = functional.softplus(b_v + shift_v).sum(dim=1) + functional.softplus(b_h + shift_h).sum(dim=1)
    v = draws(b_v + shift_v)
    cold = 0.0
    for k in range(1, n_temperatures + 1):
        warm, cold = cold, k / n_temperatures
        direction = torch.addmm(-shift_h, v, W.T)
        before = torch.add(b_h + shift_h, direction, alpha=warm)
        after = torch.add(b_h + shift_h, direction, alpha=cold)
        # Subtract unit by unit before summing, because the sums are large and nearly equal.
        log_weight += (functional.softplus(after) - functional.softplus(before)).sum(dim=1)
        log_weight -= (cold - warm) * (v @ shift_v)
        if k < n_temperatures:
            h = draws(after)
            v = draws(torch.addmm(b_v + (1.0 - cold) * shift_v, h, W, alpha=cold))
    return log_weight


def _small_normal(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    return torch.empty(rows, columns).normal_(0.0, 0.01, generator=generator)


def _uniform(shape: torch.Size, device: torch.device, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    drawn_on = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=drawn_on, dtype=dtype).to(device)


def _bernoulli(logits: Tensor, generator: torch.Generator | None, shared: bool = False) -> Tensor:
    """Draw zeros and ones of the logits' shape and type; ``shared`` uses the same random numbers for all rows."""
    shape = torch.Size((1, *logits.shape[1:])) if shared else logits.shape
    return (_uniform(shape, logits.device, logits.dtype, generator) < logits.sigmoid()).to(logits.dtype)


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}.")


def _recomputed(function: Any, *inputs: Tensor) -> Tensor:
    """Return the function's value; the backward pass computes it again instead of keeping intermediate results."""
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
