"""How evenly experts are used, and what chance gives."""
