"""`python -m pagedbench` is `pagedbench`."""

from pagedbench.cli.entry import main

if __name__ == "__main__":
    main()
