"""One file a family of backbones: its members, its position recipe and the names its weight files may use."""
