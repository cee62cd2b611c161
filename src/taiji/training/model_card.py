"""The README.md that goes with every model we save."""

from collections.abc import Mapping


def model_card(
    *, title: str, base_model: str, trained_on: str, settings: Mapping[str, object]
) -> str:
    """Markdown that says what a model is, where it comes from and what it must not be used for.

    It opens with the fields that model hubs read.

    Args:
        title: Such as `Student after ORFT`.
        base_model: The model that was tuned, as the recipe names it.
        trained_on: One sentence on data and teacher.
        settings: Figures of the training, in the order to show them.
    """
    figures = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
license: other
license_name: that-of-the-base-model-and-of-the-log
tags: [recommender-system, taiji]
---

# {title}

Made by [Taiji](https://arxiv.org/abs/2606.03866), a recommender enhanced by a language model.

- **Base model**: {base_model}. Its licence holds for this model too.
- **Data**: {trained_on} The licence of the log holds for what is derived from it; the weights
  may have memorised parts of it, so treat them as personal data if the log is.
- **Erased users**: 0. Nobody has been taken out of these weights since they were trained; who is
  to be forgotten must leave the log, and the model be trained anew.
- **Use**: given a profile and recent purchases, it writes a chain of thought in `<think>` and
  the next item in `<answer>`. The chain argues for the answer; it is no account of why a person
  buys. Not for decisions about people.

| training | |
|---|---|
{figures}
"""
