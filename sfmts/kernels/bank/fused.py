"""placeholder"""

from sfmts.kernels.bank.reference import summarize, trace
