"""Figures of the tables of the same subject."""
