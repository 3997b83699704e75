"""Phrases from which training worlds are told.

For each kind of entity: its attributes, how texts state them and how questions ask for them. The tables of the kinds
lie in the modules `phrases_*`; here they come together.
"""

from .phrase_types import VALUE_MAKERS, Attribute, Kind, Pair
from .phrases_organisations import FIRM, INSTITUTE, TEAM
from .phrases_people import PERSON
from .phrases_places import BUILDING, EVENT, PLACE
from .phrases_things import BOOK, PRODUCT, SHIP, SPECIES

__all__ = ["FILLERS", "KINDS", "VALUE_MAKERS", "Attribute", "Kind", "Pair"]

KINDS: tuple[Kind, ...] = (PERSON, FIRM, PLACE, PRODUCT, EVENT, BUILDING, SHIP, SPECIES, BOOK, TEAM, INSTITUTE)
"""All kinds of entities that texts can be about."""

FILLERS: tuple[str, ...] = (
    "The weather was mild that week.",
    "A light breeze came in from the sea.",
    "The meeting ended earlier than planned.",
    "Coffee was served in the hallway.",
    "Nobody could remember where the keys were.",
    "The trains were running late again.",
    "It had rained for most of the night.",
    "Someone had left a window open.",
    "The clock in the hall had stopped.",
    "There was a long queue at the post office.",
    "The radio played an old song.",
    "A dog was barking in the distance.",
    "The roads were quiet at that hour.",
    "Most of the shops were already closed.",
    "The minutes of the meeting were kept short.",
    "Two chairs in the back row stayed empty.",
    "The lights went out for a moment.",
    "A letter arrived without a stamp.",
    "The children were playing in the yard.",
    "Everybody was looking forward to the holidays.",
    "The soup was too salty.",
    "The bus was full, as usual.",
    "Leaves covered the whole path.",
    "The printer had run out of paper.",
    "Somebody laughed in the next room.",
    "The coffee machine was out of order.",
    "The map on the wall was out of date.",
    "A new carpet was laid in the corridor.",
    "The harvest had been better than expected.",
    "All this was reported in the local paper.",
    "Further details were not available.",
    "The photographs have since been lost.",
    "More about this can be found in the appendix.",
    "Opinions on the matter differ.",
    "As always, there were a few complaints.",
    "The rest of the afternoon was uneventful.",
    "This section was last revised some time ago.",
    "The phone kept ringing all morning.",
    "Snow was expected in the hills.",
    "A cat slept on the windowsill.",
    "The lift was being repaired.",
    "Traffic was heavier than usual.",
    "That is a story for another time.",
    "The report was printed on both sides.",
    "The door creaked every time it was opened.",
    "Prices in general had gone up a little.",
    "Somewhere a church bell was ringing.",
    "The paint on the fence was still wet.",
    "It was a long day for everyone involved.",
    "The garden needed watering.",
    "A few readers wrote in to ask for more.",
    "No reason was given at the time.",
    "Several people took notes.",
    "The files were moved to the basement.",
    "The sky cleared towards evening.",
    "Dinner was late that night.",
    "The bridge to the island was closed for repairs.",
    "Nothing else of interest happened.",
    "The battery of the clock had to be replaced.",
    "Thanks are due to everyone who helped.",
    "The tide was coming in.",
    "Tickets had been sold out for weeks.",
    "A parcel stood unopened by the door.",
    "Please keep this page for future reference.",
)
"""Sentences that tell nothing of any entity."""
