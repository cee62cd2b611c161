"""How the tests of endpoints set them up."""

from taiji.config import OpenAITeacher

KEY = "sk-canary-0123456789"
RETRY = ("max_retries", "first_pause_seconds", "deadline_seconds", "stop_after_failures")


def teacher(base_url, **options):
    """The section of a teacher that is asked without long pauses."""
    retry = {"max_retries": 2, "first_pause_seconds": 0.02, "stop_after_failures": 1}
    retry |= {name: options.pop(name) for name in RETRY if name in options}
    fields = {"model": "m-1", "concurrency": 1, "timeout_seconds": 5.0, "api_key_env": "TEST_KEY"}
    return OpenAITeacher(kind="openai", base_url=base_url, retry=retry, **(fields | options))
