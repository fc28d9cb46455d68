"""`python -m modelcanary_ledger`."""

from modelcanary_ledger.main import main

main()
