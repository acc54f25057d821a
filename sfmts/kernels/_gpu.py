"""Ask PyTorch about NVIDIA GPUs. Every such question of the kernels is here, so tests can answer them without a GPU."""

from contextlib import AbstractContextManager

import torch


def first() -> torch.device | None:
    """Return the current NVIDIA GPU; None if PyTorch sees none. The first call starts the driver in this process."""
    return torch.device("cuda") if torch.version.hip is None and torch.cuda.is_available() else None


def is_nvidia(device: torch.device) -> bool:
    """Return whether a device is an NVIDIA GPU. PyTorch for AMD GPUs calls them "cuda", too."""
    return device.type == "cuda" and torch.version.hip is None


def index(device: torch.device) -> int:
    """Return the number of a GPU."""
    return torch.cuda.current_device() if device.index is None else device.index


def name(device: torch.device) -> str:
    """Return the model of a GPU."""
    return torch.cuda.get_device_name(device)


def capability(device: torch.device) -> tuple[int, int]:
    """Return the compute capability of a GPU."""
    return torch.cuda.get_device_capability(device)


def processors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def shared_bytes(device: torch.device) -> int | None:
    """Return the most shared memory of one block on a GPU; None if PyTorch does not tell."""
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", None)


def current(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which a GPU is the current one."""
    return torch.cuda.device(device)


def stream(device: torch.device) -> int:
    """Return the current stream of a GPU, as the driver names it."""
    return torch.cuda.current_stream(device).cuda_stream


def synchronize(device: torch.device) -> None:
    """Wait for all work on a GPU; raise an error if some of it failed."""
    torch.cuda.synchronize(device)
