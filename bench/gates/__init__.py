"""Simulations of the gate and of rival rules on pools of real paired losses: `python -m bench.gates`."""
