"""What `sfmts.kernels.cuda` is made of: the CUDA source, how it is laid out on a device, and how it is compiled."""
