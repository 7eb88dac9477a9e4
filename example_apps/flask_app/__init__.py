"""Saltmarsh: the notice board of a small harbour town, on Flask and a pool. See README.md."""
