"""Observability: statements as spans, numbers as metrics, the status page, and the board that processes share.

Never: changes a statement, makes a borrow or a return wait.
"""
