"""`python -m raybench`."""

from raybench.cli import main

if __name__ == "__main__":
    main()
