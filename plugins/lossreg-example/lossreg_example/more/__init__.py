"""Two other ways to offer a loss: one line of `pyproject.toml`, and the hook `lossreg_wrap`."""
