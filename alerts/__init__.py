"""Alerts that explain themselves. Nothing lives here yet; the ledger it will read does."""
