"""A trace on disk: its folder, the files in it, and the arrays that a run fills in place."""
