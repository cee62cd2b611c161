"""English."""

from taiji.templates.words import Templates

ENGLISH = Templates(
    student_system="From a shopper's profile and purchases, reason to the next item they buy.",
    student_format=(
        "Reason inside <think></think>, then write the next item as "
        "title; level 1; level 2; level 3 inside <answer></answer>."
    ),
    student_format_list=(
        "Reason inside <think></think>, then write the {count} likeliest next items inside "
        "<answer></answer>, one a line, likeliest first, as level 1; level 2; level 3; title."
    ),
    teacher_system="You explain shopping habits in plain words.",
    teacher_task=(
        "Write two or three sentences that reason from the profile and the purchases to the "
        "kind of item that this shopper needs next. Use only facts from the list. Reason "
        "forward, as if you could not know what comes next: do not quote the item below, do "
        "not say that you were shown it, and write no list and no tags."
    ),
    teacher_target="Item that the reasoning must lead to:",
    direct_task=(
        "Write two or three sentences that reason from the profile and the purchases to the "
        "item that this shopper buys next. Use only facts from the list, and write no list and "
        "no tags. Then end with one line that begins with {answer} and names the item as "
        "title; level 1; level 2; level 3."
    ),
    direct_answer="Answer:",
    profile_heading="Profile:",
    history_heading="Purchases, newest first:",
    no_history="No purchases are known.",
    offer="On offer: {names}.",
    person="User",
    household="Household",
    device="Device",
    lifestyle="Lifestyle",
    facts="{label}: {facts}",
    fact_separator=", ",
    other_fact="{name}: {value}",
    under_age="under {age}",
    habit_separator="; ",
    top_categories="buys mostly {names}",
    price_band="usually pays {low} to {high} {currency}",
    brands="favours the brands {names}",
    private_label="{share} private label",
    active_hours="shops mostly on {days} {hours}",
    weekday="weekday",
    weekend="weekend",
    mornings="mornings",
    afternoons="afternoons",
    evenings="evenings",
    nights="nights",
    searches="recent searches: {names}",
    apps="active apps: {names}",
    live_streams="live streams: {names}",
    other_events="recent {name}: {names}",
    list_separator=", ",
    list_last=" and ",
    sentence_end=".",
    sentence_separator=" ",
    note='"{note}"',
    price="{amount} {currency}",
    purchase="bought",
    view="viewed",
    click="clicked",
    like="liked",
    save="saved",
    comment="commented on",
    share="shared",
    cart="put into the cart",
    redeem="redeemed",
    read="read",
    watch="watched",
    listen="listened to",
    review="reviewed",
    rating="rated",
    dislike="disliked",
    other_kind="{kind}",
    before="{age} before",
    year="{number} year",
    years="{number} years",
    month="{number} month",
    months="{number} months",
    week="{number} week",
    weeks="{number} weeks",
    day="{number} day",
    days="{number} days",
    hour="{number} hour",
    hours="{number} hours",
    minute="{number} minute",
    minutes="{number} minutes",
)
