"""The names of all that a prompt says in its own voice; a language is one set of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Templates:
    """All words of one language. Every field can be replaced in a recipe, one by one."""

    # What the student and the teacher are asked. The tags are control tokens for some models.
    student_system: str
    student_format: str
    student_format_list: str
    teacher_system: str
    teacher_task: str
    teacher_target: str
    direct_task: str
    direct_answer: str
    profile_heading: str
    history_heading: str
    no_history: str
    offer: str

    # The profile: `label: fact, fact. Habit; habit.`
    person: str
    household: str
    device: str
    lifestyle: str
    facts: str
    fact_separator: str
    other_fact: str
    under_age: str
    habit_separator: str
    top_categories: str
    price_band: str
    brands: str
    private_label: str
    active_hours: str
    weekday: str
    weekend: str
    mornings: str
    afternoons: str
    evenings: str
    nights: str
    searches: str
    apps: str
    live_streams: str
    other_events: str
    list_separator: str
    list_last: str
    sentence_end: str
    sentence_separator: str

    # The history: `item; note; price; kind; age`
    note: str
    price: str
    purchase: str
    view: str
    click: str
    like: str
    save: str
    comment: str
    share: str
    cart: str
    redeem: str
    read: str
    watch: str
    listen: str
    review: str
    rating: str
    dislike: str
    other_kind: str
    before: str
    year: str
    years: str
    month: str
    months: str
    week: str
    weeks: str
    day: str
    days: str
    hour: str
    hours: str
    minute: str
    minutes: str
