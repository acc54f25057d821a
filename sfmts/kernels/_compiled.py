"""Import the compiled kernels, an optional extension module whose sources are in ``cpu/``.

No other module imports ``_native``. Functions of the extension take an instruction set and the address of a struct.
"""

import os

import torch

_import_error: str | None = None
try:
    from sfmts.kernels import _native

    library = _native
except ImportError as error:
    _import_error = str(error)

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
    if _import_error is not None:
        return f"the compiled kernel is missing ({_import_error}): install a C++ compiler and reinstall sfmts"
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
