"""`python -m pagedbench` is `pagedbench`."""

from pagedbench.cli.app import main

if __name__ == "__main__":
    main()
