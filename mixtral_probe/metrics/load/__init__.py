"""How evenly experts are used, and what is expected by chance."""
