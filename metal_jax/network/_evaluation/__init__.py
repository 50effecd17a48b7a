"""How good a network is: per task, level, path and slice."""
