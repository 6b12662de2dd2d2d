"""The fault matrix: what is done to each process of a real federation, and what has to hold afterwards.

python -m tests.faults [--only FAULT,PROCESS,...] [--write docs/operations.md]

cells.py is the matrix; kinds.py the faults; federation.py the processes; checks.py what has to hold in every cell.
"""
