"""The benchmark: what a request costs behind the gate and behind its peers, on one core.  `python -m bench --help`.

Not a part of the product.  It starts every process itself, sends traffic to loopback only, and stops what it started.
Method and results: docs/benchmark.md.
"""
