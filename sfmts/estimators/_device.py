"""Where estimators compute: names of devices, and whether they are available."""

import torch


def resolve_device(device: str) -> torch.device:
    """Return the device with this name; "auto" is the first CUDA device if there is one, otherwise the CPU.

    Raises
    ------
    ValueError
        If PyTorch does not know the name, or the device is not available.
    """
    cuda = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Unknown device {device!r}; choose 'auto', 'cpu', 'cuda' or 'cuda:0'.") from error
    if resolved.type == "cuda" and not is_available(resolved):
        raise ValueError(
            f"device={device!r} was requested, but PyTorch sees {torch.cuda.device_count() if cuda else 0} CUDA "
            "devices. Use device='cpu', or device='auto' to use a GPU only if one is available."
        )
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; choose 'auto', 'cpu', 'cuda' or 'cuda:0'.")
    return resolved


def is_available(device: torch.device) -> bool:
    """Return whether a device is a CUDA device that PyTorch sees."""
    return device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
