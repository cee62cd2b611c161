"""A recommender of title lists: priors from the log, fusion, likelihood, answers out of them."""
