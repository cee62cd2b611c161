"""A simulated A/B test: requests, an advertising market, a model of users, and statistics."""
