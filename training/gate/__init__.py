"""The gate before publishing: is the candidate better at its task, and no worse at everything else?"""

from training.gate.compare import compare
from training.gate.prompts import FixedPrompt
from training.gate.report import GateReport, Row

__all__ = ["FixedPrompt", "GateReport", "Row", "compare"]
