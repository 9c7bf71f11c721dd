"""Things to convolve: pictures in files, kernels by name or from text, synthetic pictures."""
