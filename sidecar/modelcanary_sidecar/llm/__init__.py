"""Language models: both are asked, off the live path, how probable they find the same answer to what a user asked.

`mirror` hands what was captured to a `Desk`; nothing else uses this package. What is measured, and why so, is in
docs/design/llm.md.
"""

from modelcanary_sidecar.llm.desk import Desk, generates

__all__ = ["Desk", "generates"]
