"""``python -m stylematch.cli``."""

from stylematch.cli.program import main

if __name__ == "__main__":
    main()
