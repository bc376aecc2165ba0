"""``python -m stylematch.cli``."""

from stylematch.cli.start import main

if __name__ == "__main__":
    main()
