"""What runs programs: one folder a backend, each knowing the program's vocabulary and nothing above it."""
