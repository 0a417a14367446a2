"""Diffusion and score-based generation, small enough to read in an evening.

Read `schedules` (how signal and noise mix), `denoisers` (what a network's output means) and `samplers` (from noise to
data) in this order; the rest hangs on these three. `mixtures` is data whose exact answer is known, `losses` what is
minimised, `networks` what is trained, `checkpoint` how it is kept, `metrics` how it is judged.
"""

__version__ = "0.1.0"
