"""Routing over several hosts: the decision which host serves, and its execution. Uses public methods of pools only."""
