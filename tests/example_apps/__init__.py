"""Tests of example_apps."""
