"""Stage 4 as the paper runs it: events come in, a little later the features of their users go out.

Everything here needs the extra `serve`; `taiji.serving.client` needs httpx alone.
"""
