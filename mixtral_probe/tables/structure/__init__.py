"""Choices along the text, within a token and from layer to layer."""
