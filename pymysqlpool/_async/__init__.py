"""Tasks: the awaited faces of a lease, and the threads that work for them."""
