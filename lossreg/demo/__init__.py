"""The training run of `lossreg demo`: buildings, a small U-Net, and a seven-term loss from YAML."""
