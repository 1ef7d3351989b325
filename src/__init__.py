"""Group-equivariant convolutional networks: groups, kernels, factorisations, one convolution, and what trains them."""
