"""How each code base names the weights of a ViT, as tables of data (no torch here)."""
