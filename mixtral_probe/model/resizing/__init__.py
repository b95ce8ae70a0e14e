"""Changes of a model's size in place: fewer attention heads, another vocabulary."""
