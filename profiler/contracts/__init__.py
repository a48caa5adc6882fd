"""Exact costs and budgets, held in a test."""
