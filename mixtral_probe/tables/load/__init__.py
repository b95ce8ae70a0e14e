"""How much each expert is used, how evenly, and how sure the router is."""
