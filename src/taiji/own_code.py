"""Code of the user's own: what a recipe names by import path, as `package.module:name`."""

import importlib

from taiji.errors import ConfigError


def import_own(path: str, key: str) -> object:
    """Import what stands under a path; importing runs the module, as any import does.

    Args:
        path: `package.module:name`.
        key: Where the recipe names it, for messages.

    Raises:
        ConfigError: The module cannot be imported, or has no such name.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's: it may fail in any way
        raise ConfigError(
            f"{key}: {module_name} cannot be imported: {type(error).__name__}: {error}: install "
            "the package, or put its folder on PYTHONPATH"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{key}: {path}: {module_name} has no such name")
    found: object = getattr(module, name)
    return found
