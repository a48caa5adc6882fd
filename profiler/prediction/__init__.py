"""A step foreseen: replayed on fake tensors, with what happens inside operators learnt from isolated calls."""
