"""Mixtral with heads for classification and question answering.

The reference drops router logits in these three; here they and the balance loss come back when asked for.
"""
