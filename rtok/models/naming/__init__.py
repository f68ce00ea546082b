"""How each code base names the weights of a ViT, as plain tables without torch (except `transforms.py`)."""
