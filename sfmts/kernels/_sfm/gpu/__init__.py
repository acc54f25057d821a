"""Compile and launch the CUDA kernels of the SFM: the source, its layout on a device, and the compiler."""
