"""Experiments: configurations, runs, sweeps, searches, reports, studies and the command ``qgen``."""
