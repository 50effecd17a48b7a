"""`python -m metal_jax`."""

from metal_jax.cli import main

raise SystemExit(main())
