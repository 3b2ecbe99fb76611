"""Around the training loop: calibration of norms, and seeing what a combination does."""
