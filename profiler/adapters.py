from __future__ import annotations
def adapt(module): return None
