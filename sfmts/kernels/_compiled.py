"""Import the compiled kernels, an optional extension module whose sources are in ``cpu/``.

No other module imports ``_native``. Functions of the extension take an instruction set and the address of a struct.
"""

import os

import torch

_reason: str | None = None  # why the extension is missing
try:
    # Unlike `from sfmts.kernels import _native`, this tells a missing module from one that cannot be loaded.
    import sfmts.kernels._native as _native

    library = _native
except ModuleNotFoundError:
    _reason = "the compiled kernel was not built: install GCC or Clang and reinstall sfmts"
except ImportError as error:
    _reason = f"the compiled kernel cannot be loaded ({error}): reinstall sfmts"

DTYPES = (torch.float32, torch.float64)


def instruction_set() -> str:
    """Return the instruction set that the compiled kernels use.

    The environment variable ``SFMTS_INSTRUCTION_SET`` overrides the choice.

    Returns
    -------
    name : {"avx512", "avx2", "generic"}
        The fastest one that this processor supports.

    Examples
    --------
    >>> from sfmts.kernels import instruction_set
    >>> instruction_set() in ("avx512", "avx2", "generic")
    True
    """
    return os.environ.get("SFMTS_INSTRUCTION_SET") or library.instruction_sets()[0]


def missing(*functions: str) -> str | None:
    """Return why the extension, or one of its functions, is missing; None if all are available."""
    if _reason is not None:
        return _reason
    if not all(hasattr(library, name) for name in functions):
        return "the compiled kernel is of an older version of sfmts: reinstall sfmts"
    return None


def unavailable(device: torch.device, *functions: str) -> str | None:
    """Return why tensors on a device cannot use functions of the extension; None if they can."""
    if (reason := missing(*functions)) is not None:
        return reason
    if device.type != "cpu":
        return f"the compiled kernel runs on the CPU, and the tensors are on {device}"
    return None
