"""What experts are chosen for: domains, token types, positions."""
