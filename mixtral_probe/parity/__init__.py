"""Every output of this model beside that of the installed transformers."""
