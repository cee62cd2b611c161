"""A model behind an OpenAI-compatible endpoint: calls, budgets, patience, replies kept."""
