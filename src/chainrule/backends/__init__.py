"""What turns a program into something that runs: one folder a backend."""
