"""The language in which algorithms are written: loops, vectors and pointers that become LLVM IR for one target."""
