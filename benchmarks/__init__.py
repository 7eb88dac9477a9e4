"""What the pool costs, beside its peers: `python -m benchmarks`. See README.md."""
