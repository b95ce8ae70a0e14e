"""Attention and what belongs to it: rotary positions, the mask, the key and value cache, explicit weights, pruning."""
