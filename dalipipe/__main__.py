"""`python -m dalipipe`: the same as the command `dalipipe`."""

from dalipipe.cli import main

if __name__ == "__main__":
    main()
