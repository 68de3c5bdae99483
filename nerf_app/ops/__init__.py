"""Arithmetic that exists more than once: one folder an op, with its contract, its reference and its faster forms.

`<op>/__init__.py` says what the op computes and lists who can compute it; `<op>/reference.py` is plain torch, the
specification. `backend.py` chooses. Nothing here knows of anything above: tensors in, tensors out.
"""
