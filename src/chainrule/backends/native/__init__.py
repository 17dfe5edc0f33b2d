"""Machine code by LLVM, matrix products by OpenBLAS, and the loop that walks a program on one or more threads."""
