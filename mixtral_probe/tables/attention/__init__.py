"""What attention heads look at, and what that has to do with routing."""
