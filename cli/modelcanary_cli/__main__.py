"""`python -m modelcanary_cli`."""

from modelcanary_cli.main import main

if __name__ == "__main__":
    main()
