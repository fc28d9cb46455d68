"""`python -m modelcanary_operator`."""

from modelcanary_operator.main import main

if __name__ == "__main__":
    main()
