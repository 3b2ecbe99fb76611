"""`python -m lossreg.demo`, for torchrun."""

from lossreg.demo.command import demo_command

if __name__ == "__main__":
    demo_command(prog_name="lossreg demo")
