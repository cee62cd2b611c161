"""The words of the planted world: categories, and notes that mean one without naming it.

Each category has three paraphrases. The last is told only in the test window, so that whoever has
learnt the others by heart reads nothing there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """A category, and what a person writes who is going to need it."""

    l1: str
    l2: str
    l3: str
    notes: tuple[str, str, str]


NEEDS = (
    Need(
        "Food",
        "Bakery",
        "gluten-free bread",
        (
            "I was diagnosed with coeliac disease.",
            "Wheat makes me ill, the doctor says.",
            "My stomach cannot take ordinary loaves any more.",
        ),
    ),
    Need(
        "Food",
        "Bakery",
        "birthday cakes",
        (
            "Our girl turns six on Saturday.",
            "There will be candles and guests for his eightieth.",
            "Balloons and singing for the twins next week.",
        ),
    ),
    Need(
        "Food",
        "Drinks",
        "herbal tea",
        (
            "I lie awake and want something warm and calming.",
            "No more caffeine in the evening for me.",
            "A hot cup of camomile settles my nerves.",
        ),
    ),
    Need(
        "Food",
        "Drinks",
        "protein shakes",
        (
            "I started lifting weights three times a week.",
            "The coach wants me to build muscle.",
            "My biceps must grow after the gym.",
        ),
    ),
    Need(
        "Food",
        "Chilled",
        "tofu and tempeh",
        (
            "We have stopped eating animals.",
            "My daughter became a vegan.",
            "No more meat at our table.",
        ),
    ),
    Need(
        "Family",
        "Baby care",
        "diapers",
        (
            "Our son was born on Monday.",
            "The newborn keeps us up all night.",
            "Twins arrived and we change them around the clock.",
        ),
    ),
    Need(
        "Family",
        "Baby care",
        "fruit purees",
        (
            "The little one has started on solids.",
            "She is six months old and eats from a spoon.",
            "Weaning has begun at our house.",
        ),
    ),
    Need(
        "Family",
        "Pets",
        "dog food",
        (
            "We adopted a puppy from the shelter.",
            "A terrier has moved in with us.",
            "Our new four-legged friend barks at his empty bowl.",
        ),
    ),
    Need(
        "Family",
        "Pets",
        "cat litter",
        (
            "A kitten now sleeps on my sofa.",
            "We took in a stray that purrs.",
            "Two Siamese live with us and never go outdoors.",
        ),
    ),
    Need(
        "Family",
        "Pets",
        "fish flakes",
        (
            "There is an aquarium in the living room now.",
            "The children were given a goldfish.",
            "Our guppies in the tank are hungry.",
        ),
    ),
    Need(
        "Garden",
        "Growing",
        "vegetable seeds",
        (
            "We rented an allotment.",
            "I want to grow my own tomatoes.",
            "The raised beds are ready to be sown.",
        ),
    ),
    Need(
        "Garden",
        "Machines",
        "lawn mowers",
        (
            "The grass is up to my knees.",
            "We moved to a house with a big green yard.",
            "The neighbours complain that our turf is never cut.",
        ),
    ),
    Need(
        "Garden",
        "Cooking outdoors",
        "barbecue charcoal",
        (
            "Friends come over to grill sausages.",
            "We bought a smoker for the terrace.",
            "Steaks over an open fire every Sunday.",
        ),
    ),
    Need(
        "Home",
        "Cleaning",
        "stain removers",
        (
            "I spilled red wine all over the carpet.",
            "The kids came home covered in mud and ink.",
            "There is curry on my white shirt.",
        ),
    ),
    Need(
        "Home",
        "Bedding",
        "winter duvets",
        (
            "It is freezing in our bedroom.",
            "I shiver all night under my thin blanket.",
            "The heating broke and the nights are icy.",
        ),
    ),
    Need(
        "Home",
        "Fittings",
        "light bulbs",
        (
            "Half of the lamps in the hall have gone dark.",
            "We want to save electricity when we read at night.",
            "The old filament ones keep burning out.",
        ),
    ),
    Need(
        "Home",
        "Fittings",
        "wall paint",
        (
            "We are redecorating the nursery.",
            "The new flat is grey and wants colour.",
            "Rollers and brushes are ready for the weekend.",
        ),
    ),
    Need(
        "Health",
        "Pharmacy",
        "allergy tablets",
        (
            "My eyes itch as soon as the birches bloom.",
            "Pollen season has caught me again.",
            "I have been sneezing since the hay was cut.",
        ),
    ),
    Need(
        "Health",
        "Pharmacy",
        "cough syrup",
        (
            "I have had a sore throat for days.",
            "Bronchitis is going round at school.",
            "His chest rattles all night with a cold.",
        ),
    ),
    Need(
        "Health",
        "Skin care",
        "sunscreen",
        (
            "We fly to the beach in Spain.",
            "Last summer I burned badly.",
            "The doctor wants me out of strong rays.",
        ),
    ),
    Need(
        "Sport",
        "Athletics",
        "running shoes",
        (
            "I signed up for a marathon.",
            "I jog around the lake each morning.",
            "My soles are worn out from sprinting.",
        ),
    ),
    Need(
        "Sport",
        "Outdoors",
        "tents",
        (
            "We will sleep under the stars in July.",
            "A week of camping in the wild lies ahead.",
            "The scouts leave for the woods on Friday.",
        ),
    ),
    Need(
        "Sport",
        "Cycling",
        "bicycle helmets",
        (
            "I ride to work on two wheels now.",
            "My son learns to pedal without training wheels.",
            "I fell off my bike and hit my head.",
        ),
    ),
    Need(
        "Music",
        "Instruments",
        "guitar strings",
        (
            "I joined a rock band.",
            "My old six-string sounds dull.",
            "I practise chords for the campfire.",
        ),
    ),
)
"""Words of a category never stand in its own notes; a test looks."""

DISTRACTORS = (
    "The parking lot was full today.",
    "Thanks for the friendly service.",
    "I moved my appointment to Thursday.",
    "The weather has been nice lately.",
    "My sister called from abroad.",
    "I lost my loyalty card.",
    "The queue at the till was long.",
    "We watched a film last night.",
    "Please call me back in the afternoon.",
    "The train was late again.",
    "I like the new shop window.",
    "My phone number has changed.",
)

MAKERS = ("Alder", "Brook", "Corin", "Delft", "Ember")
KINDS = ("classic", "value", "premium", "family")
