"""Two or more traces of the same texts, token by token."""
