"""Raw files become canonical tables: mapping, rules, quarantine."""
