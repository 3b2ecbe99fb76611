"""`python -m lossreg`, the same as the command `lossreg`."""

from lossreg.cli import main

if __name__ == "__main__":
    main(prog_name="lossreg")
