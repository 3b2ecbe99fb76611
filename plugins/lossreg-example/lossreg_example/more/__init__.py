"""Two more ways in: a loss by one line of `pyproject.toml`, and one of a foreign library by `lossreg_wrap`."""
