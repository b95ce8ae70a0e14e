"""Measures of experiments with a model."""
