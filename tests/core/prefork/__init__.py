"""Programs whose pool is used before their server forks: what `test_prefork.py` runs as real processes."""
