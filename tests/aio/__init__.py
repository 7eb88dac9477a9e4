"""Tests of the pool awaited."""
