"""Studies of quality and of single questions; each module is a program: `python -m ...`."""
