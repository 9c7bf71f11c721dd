"""Compiling and running: the layer that knows LLVM, threads and memory, and knows nothing of convolution.

In the order in which a kernel goes through it: `machine` and `jit.host` say what there is to compile for, `jit`
makes machine code of IR text, `cache` remembers it on disk, `memory` lends workspace, and `threads` runs it
(`scheduler` is the compiled half of `threads`, with `openmp` and `architectures`).
"""
