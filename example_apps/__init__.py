"""Small real applications on the pool: what they show is what the adapters are for."""
