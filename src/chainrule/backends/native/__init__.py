"""The native backend: programs as machine code for this computer, by LLVM."""
