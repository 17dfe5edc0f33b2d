"""The command line: what is typed, what is printed, and exit codes; all work is done by the packages below."""
