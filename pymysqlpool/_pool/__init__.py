"""The pool's core: ledger, queue, checkout, return, lease, maintenance, and the pool's one lock."""
