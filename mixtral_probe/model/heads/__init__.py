"""Mixtral with heads for classification and question answering.

transformers does not return router logits for these three; here they and the balance loss can be requested.
"""
