"""The command line, `metal-jax`: argument parsing, progress and tables; no mathematics.

Exit status: 0 done, 1 failed, 2 bad input (one line says what), 130 interrupted (one line says
what is kept, and how to go on).
"""

from metal_jax.cli._main import main

__all__ = ["main"]
