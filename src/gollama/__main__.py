"""`python -m gollama` is the command `gollama`."""

from gollama.cli import main

if __name__ == "__main__":
    main()
