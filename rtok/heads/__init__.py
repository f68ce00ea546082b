"""Linear heads on a backbone's features: DINOv2's layouts and files, fitted probes, the model's own classifier."""
