"""The paper's own figures, exactly as printed, beside which ours stand (arXiv 2606.03866, v1)."""

from taiji.report.cells import Cell, Table

WHY_NOT = (
    "The paper's figures come from its own 1.11 million user records, a student of 7 billion "
    "parameters, a teacher of 32 billion, an epoch of a million prompts, and live traffic. None "
    "of that is public. Ours come from open data, a student of 135 million parameters that learns "
    "from a deterministic teacher, and minutes. What can be compared is the order of rows within "
    "one table of one study, as far as the intervals tell them apart; no figure of ours can be set "
    "beside one of the paper's."
)
_LANGUAGE = ("L1", "L2", "L3", "Hit@50", "Hit@100")
_FROM = "As printed in the paper."


def paper_tables() -> list[Table]:
    """Tables 1 to 4 of the paper."""
    return [
        _table(
            "paper1",
            "Paper, Table 1. Language model quality",
            ("Model", *_LANGUAGE, "CTCVR"),
            (
                ("DeepSeek-R1-7B", ".1560", ".0608", ".0251", ".0496", ".0646", ".003417"),
                ("QwQ-32B", ".1974", ".0767", ".0039", ".0563", ".0733", ".003675"),
                ("ORFT", ".2012", ".0690", ".0245", ".0449", ".0606", ".003723"),
                ("+ POPO-light", ".2347", ".0877", ".0307", ".0558", ".0762", ".003802"),
                ("+ POPO", ".2433", ".0888", ".0347", ".0567", ".0720", ".003816"),
            ),
        ),
        _table(
            "paper2",
            "Paper, Table 2. Online A/B test, one week",
            (
                "Users",
                *(f"{a} {m}" for a in ("Intra", "Cross", "Both") for m in ("ADVV", "Revenue")),
            ),
            (
                ("all", "+1.06 %", "+1.35 %", "+1.77 %", "+1.95 %", "+2.83 %", "+3.30 %"),
                ("long-tail", "+2.78 %", "+4.12 %", "+2.48 %", "+1.20 %", "+5.26 %", "+5.32 %"),
            ),
        ),
        _table(
            "paper3",
            "Paper, Table 3. Reasoning activation",
            ("Training", "Think tag", "Think non-empty", "Answer non-empty", *_LANGUAGE),
            (
                (
                    *("Without RUPR", ".9613", ".9613", ".9607"),
                    *(".1679", ".0535", ".0185", ".0405", ".0545"),
                ),
                (
                    *("With RUPR", ".9947", ".9921", ".9892"),
                    *(".2012", ".0690", ".0245", ".0449", ".0606"),
                ),
            ),
        ),
        _table(
            "paper4",
            "Paper, Table 4. Reward weighting",
            ("Rule", *_LANGUAGE, "CTCVR"),
            (
                ("ORFT + GRPO (.5/.5)", ".2180", ".0806", ".0269", ".0512", ".0698", ".003788"),
                ("+ POPO-light", ".2347", ".0877", ".0307", ".0558", ".0762", ".003802"),
                ("+ POPO", ".2433", ".0888", ".0347", ".0567", ".0720", ".003816"),
            ),
        ),
    ]


def _table(
    key: str, title: str, columns: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...]
) -> Table:
    return Table(key=key, title=title, caption=_FROM, columns=columns, rows=rows)
