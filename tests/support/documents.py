"""Short documents of two domains."""

DOCUMENTS = [
    {"id": "a", "text": "def add(a, b):\n    return a + b", "domain": "code"},
    {"id": "b", "text": "a truth universally acknowledged, that a single man", "domain": "prose"},
    {"id": "c", "text": "for i in range(10): print(i)", "domain": "code"},
    {"id": "d", "text": "in possession of a good fortune", "domain": "prose"},
]
