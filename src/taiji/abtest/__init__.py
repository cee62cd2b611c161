"""The simulated advertising market of the A/B test (Table 2)."""
