"""Every output of this model compared with that of the installed transformers."""
