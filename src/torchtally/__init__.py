"""Count what a PyTorch model costs, layer by layer, and check that theory and a real run tally."""
