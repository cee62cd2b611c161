"""The report: one offline page, its cards, charts and tables."""
