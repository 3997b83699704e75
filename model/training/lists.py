"""Words that are no facts: closed classes shared by training and test, and parts of invented names."""

FIRST_NAMES = tuple(
    (
        "Ada Adam Agnes Ahmed Aisha Alan Albert Alice Amara Amir Ana Andre Anna Anton Arthur Astrid Beatrice Ben "
        "Bilal Boris Brian Bruno Carla Carlos Carmen Cecil Chen Chloe Clara Claude Cora Dana Daniel David Diana "
        "Diego Dora Edgar Edith Elena Eli Elsa Emil Emma Eric Esther Ethan Eva Farah Fatima Felix Fiona Flora "
        "Francis Frank Frida George Gina Grace Greta Hana Hannah Harold Hassan Hector Helen Henry Hugo Ian Ida "
        "Igor Ines Ingrid Iris Isaac Ivan Jack James Jana Jane Jasper Joan John Jonas Joseph Judith Julia Karim "
        "Kate Keiko Kenji Kofi Lars Laura Lena Leo Liam Lila Lin Lola Louis Lucas Lucy Luis Magda Malik Marco "
        "Maria Mark Martha Martin Mary Max Maya Mei Michael Mila Milan Mina Miriam Mohamed Mona Nadia Naomi Nell "
        "Nico Nina Noah Nora Olaf Olga Oliver Omar Oscar Otto Owen Pablo Paul Paula Pedro Peter Petra Philip Priya "
        "Rachel Rafael Raj Rania Robert Rosa Ruth Sally Sam Samira Sara Sean Selma Simon Sofia Sonia Stefan Stella "
        "Susan Sven Tara Theo Thomas Tina Tom Uma Umar Vera Victor Viola Walter Wanda William Yara Yusuf Zara Zoe"
    ).split()
)
NOUNS = tuple(
    (
        "amber anchor apple arch arrow ash badger barley barn basin beacon bear bell birch bird blade blossom boat "
        "bolt book boulder bow branch brick bridge brook candle canyon castle cedar chain chalk cherry cliff clock "
        "cloud clover coal coast comet copper coral crane creek crown crystal dawn deer delta diamond dove dragon "
        "drum dune eagle echo ember falcon feather fern field flame flint flower forest fountain fox frost garden "
        "garnet gate ginger glacier glass gold grain granite grove harbour harp hawk hazel heart heather heron "
        "hill hollow honey horizon horn island ivory ivy jade jasper jewel juniper key king kite lake lamp lantern "
        "lark laurel lemon light lily lion lotus maple marble market marsh meadow mill mirror mist moon moss "
        "mountain needle nest night north oak oasis ocean olive orchard orchid otter owl palm pearl pebble pepper "
        "phoenix pier pine plum pond poplar poppy prairie quarry quartz queen quill rain raven reed reef ridge "
        "ring river robin rock rose rowan ruby saddle saffron sage sail salt sand sapphire shadow shell shepherd "
        "shield shore silver sky smoke snow song south spark sparrow spire spring spruce star steel stone storm "
        "stream summit sun swan thistle thorn thunder tide tiger timber torch tower trail tree valley vine violet "
        "wagon walnut water wave well wheat wheel whistle willow wind wing winter wolf wood wren yard yarrow"
    ).split()
)
ADJECTIVES = tuple(
    (
        "ancient bitter black blue bold brave bright broken bronze calm clear cold crimson crooked curious dark "
        "deep distant dusty eastern electric empty endless fair final first flying frozen gentle giant golden "
        "grand gray great green hidden high hollow holy humble humming idle inner iron jolly kind last late lazy "
        "light little lonely long lost loud lower lucky lunar merry midnight mighty modern narrow new noble "
        "northern old open pale patient plain proud purple quick quiet rapid rare red restless royal rusty sacred "
        "scarlet secret shining short silent silver simple sleepy slow small smooth solar southern spotted steady "
        "still strange striped sunny sweet swift tall tender tiny twin upper velvet warm western white wild windy "
        "wise wooden young"
    ).split()
)
MONTHS = tuple(("January February March April May June July August September October November December").split())
PLACE_WORDS = tuple(("New Old Upper Lower North South East West Great Little Saint Port Lake Mount Fort").split())
PLACE_SUFFIXES = tuple(
    ("Bay Falls Hill Ridge Springs Point Valley Creek Crossing Harbour Heath Island Park Green End").split()
)
FIRM_WORDS = tuple(
    (
        "Works, Company, Industries, Brothers, Group, Trading Company, Holdings, Motors, Mills, Bank, Press, "
        "Foods, Shipping, Systems, Labs, Logistics, Textiles, Brewery, Bakery, Airways, Steel, Partners, Ltd, "
        "Corporation, Foundry, Studios, Software, Ferry Company, Insurance, Energy, Dairy, Tools, Optics"
    ).split(", ")
)
EVENT_WORDS = tuple(
    (
        "Festival, Marathon, Regatta, Fair, Conference, Cup, Parade, Concert, Exhibition, Auction, Flood, Fire, "
        "Storm, Rally, Market, Congress, Summit, Carnival, Derby, Expedition, Strike, Trial, Treaty, Games, Book "
        "Fair, Film Festival, Open Day, Charity Run, Bike Race, Wedding, Siege, Uprising"
    ).split(", ")
)
BUILDING_WORDS = tuple(
    (
        "Bridge, Tower, Hall, Museum, Library, Theatre, Castle, Cathedral, Lighthouse, Station, Hospital, Mill, "
        "House, Palace, Dam, Tunnel, Stadium, Church, Chapel, Hotel, Pier, Observatory, Market Hall, Fort, Abbey, "
        "Town Hall, Viaduct, Gallery, Warehouse, Arena"
    ).split(", ")
)
TEAM_WORDS = tuple(
    (
        "United, City, Rovers, Wanderers, Hawks, Lions, Bears, Tigers, Athletic, Rangers, Wolves, Comets, Sharks, "
        "Eagles, Harriers, Rowing Club, Hockey Club, Falcons, Knights, Stars"
    ).split(", ")
)
INSTITUTE_WORDS = tuple(
    (
        "University, College, Institute, Academy, School, Laboratory, Conservatory, Polytechnic, School of Music, "
        "Institute of Technology, Observatory, Business School, Research Centre, Art School, Medical School, "
        "Agency, Grammar School, Foundation"
    ).split(", ")
)

CLOSED: dict[str, tuple[str, ...]] = {
    "job": tuple(
        (
            "baker, teacher, carpenter, nurse, surgeon, painter, sailor, farmer, lawyer, engineer, pilot, "
            "librarian, potter, tailor, weaver, miner, plumber, electrician, architect, gardener, chemist, judge, "
            "journalist, photographer, musician, dancer, actor, singer, translator, accountant, banker, butcher, "
            "cook, waiter, barber, blacksmith, glassblower, watchmaker, shepherd, fisherman, beekeeper, botanist, "
            "geologist, astronomer, historian, sculptor, poet, novelist, typist, clerk, postman, firefighter, "
            "police officer, soldier, diver, dentist, pharmacist, optician, veterinarian, mechanic, welder, mason, "
            "roofer, bricklayer, cartographer, diplomat, economist, editor, programmer, data analyst, bus driver, "
            "train driver, lighthouse keeper, museum guide, shop assistant, school inspector, forest ranger, "
            "harbour pilot, radio operator, tax adviser, social worker, stage manager, film director, bookseller, "
            "brewer, cheese maker, shoemaker, violin maker, stonemason"
        ).split(", ")
    ),
    "colour": tuple(
        (
            "red, blue, green, yellow, orange, purple, brown, black, white, grey, pink, turquoise, crimson, navy "
            "blue, scarlet, teal, ivory, gold, silver, bronze, maroon, olive, violet, beige, dark green, light "
            "blue, dark red, pale yellow, bright orange, sky blue, deep purple, lime green, cream, copper, lilac"
        ).split(", ")
    ),
    "material": tuple(
        (
            "oak, steel, granite, marble, glass, copper, bronze, brick, concrete, limestone, sandstone, pine, "
            "cedar, walnut, bamboo, aluminium, cast iron, stainless steel, wood, clay, slate, leather, rubber, "
            "plastic, carbon fibre, titanium, ceramic, porcelain, brass, tin, cork, paper, cardboard, plywood, "
            "recycled plastic, basalt, birch, ash, teak, red brick, white marble, wrought iron, pewter, zinc"
        ).split(", ")
    ),
    "food": tuple(
        (
            "lentil soup, fried rice, apple pie, grilled fish, mushroom risotto, dumplings, pancakes, roast "
            "chicken, goat cheese, rye bread, potato salad, bean stew, noodles, lamb curry, olives, plums, "
            "cherries, honey cake, almonds, pumpkin soup, smoked salmon, vegetable pie, chocolate, strawberries, "
            "figs, dates, pickled herring, tomato soup, omelettes, barley porridge, spinach pie, oranges, walnuts, "
            "onion tart, beef stew, ginger biscuits, blueberry jam, sushi, tacos, couscous, pasta, pizza, waffles, "
            "fish soup, baked beans, cabbage rolls"
        ).split(", ")
    ),
    "drink": tuple(
        (
            "green tea, black coffee, apple juice, mint tea, lemonade, red wine, white wine, cider, beer, milk, "
            "hot chocolate, ginger ale, orange juice, tomato juice, sparkling water, iced tea, espresso, coconut "
            "water, cherry juice, rose tea, buttermilk"
        ).split(", ")
    ),
    "animal": tuple(
        (
            "otter fox horse rabbit parrot tortoise goat sheep cat dog pony donkey owl falcon heron badger "
            "hedgehog squirrel hamster ferret lizard frog toad salamander beetle butterfly moth spider snail crab "
            "lobster trout salmon pike eel whale dolphin seal penguin crow raven finch sparrow goose duck swan "
            "bear wolf deer moose bat mouse rat beaver camel llama ox bee ant"
        ).split()
    ),
    "instrument": tuple(
        (
            "violin, cello, piano, flute, oboe, clarinet, trumpet, trombone, tuba, harp, guitar, banjo, mandolin, "
            "accordion, organ, drums, bassoon, saxophone, viola, double bass, harmonica, bagpipes, lute, zither, "
            "xylophone, ukulele"
        ).split(", ")
    ),
    "subject": tuple(
        (
            "chemistry, physics, biology, mathematics, history, law, medicine, geology, astronomy, philosophy, "
            "economics, botany, zoology, linguistics, music, theology, architecture, engineering, computer "
            "science, marine biology, art history, political science, geography, psychology, sociology, "
            "statistics, archaeology, nursing, agriculture, forestry, veterinary medicine, literature, classics, "
            "meteorology"
        ).split(", ")
    ),
    "language": tuple(
        (
            "French German Spanish Italian Portuguese Dutch Swedish Norwegian Danish Finnish Polish Czech "
            "Hungarian Greek Turkish Arabic Persian Hindi Bengali Tamil Chinese Japanese Korean Vietnamese Thai "
            "Swahili Zulu Welsh Irish Latin Russian Ukrainian Hebrew Basque Catalan Icelandic"
        ).split()
    ),
    "sport": tuple(
        (
            "tennis, football, rowing, swimming, cycling, fencing, hockey, handball, volleyball, basketball, "
            "cricket, rugby, golf, boxing, wrestling, judo, archery, sailing, skiing, skating, climbing, "
            "badminton, squash, water polo, table tennis, figure skating, ice hockey, cross-country running, "
            "curling, netball"
        ).split(", ")
    ),
    "hobby": tuple(
        (
            "chess, knitting, fishing, gardening, painting, hiking, birdwatching, baking, pottery, photography, "
            "stamp collecting, model building, kite flying, woodcarving, stargazing, juggling, calligraphy, "
            "embroidery, crossword puzzles, sailing, horse riding, beekeeping, dancing, singing, cooking, reading, "
            "origami, weaving, rock climbing"
        ).split(", ")
    ),
    "plant": tuple(
        (
            "oak maple birch fern moss lily rose tulip orchid violet daisy thistle clover ivy willow pine spruce "
            "cedar palm cactus heather lavender sage thyme mint basil sunflower poppy iris lotus bamboo reed "
            "nettle holly laurel"
        ).split()
    ),
    "industry": tuple(
        (
            "shipping, banking, mining, farming, fishing, textiles, steel, printing, insurance, tourism, brewing, "
            "forestry, construction, software, logistics, aviation, pharmaceuticals, publishing, furniture, glass, "
            "ceramics, chemicals, energy, telecommunications, paper, food processing, toy making, car parts, "
            "medical devices"
        ).split(", ")
    ),
    "vehicle": tuple(
        (
            "bicycle, motorcycle, tractor, van, lorry, sports car, tram, bus, electric car, taxi, horse cart, "
            "scooter, pickup truck, sailing boat, canoe, tandem, jeep, minibus, cargo bike"
        ).split(", ")
    ),
    "weather": tuple(
        (
            "heavy rain, light snow, thick fog, strong wind, hail, sunshine, drizzle, thunderstorms, sleet, frost, "
            "dry heat, clear skies, low cloud, freezing rain, gales"
        ).split(", ")
    ),
    "currency": tuple(
        (
            "crown florin dollar euro pound franc mark peso rupee shilling dinar lira krone thaler guilder ducat "
            "rand yen real"
        ).split()
    ),
    "tool": tuple(
        (
            "hammer chisel saw spade axe drill wrench plane rake scythe loom lathe anvil trowel scissors needle "
            "ladder pulley compass telescope microscope sextant"
        ).split()
    ),
    "body_part": tuple(
        ("knee shoulder elbow wrist ankle hip heart lung kidney ear eye nose tooth foot hand back neck thumb").split()
    ),
    "gem": tuple(
        (
            "ruby sapphire emerald diamond opal pearl topaz garnet amethyst jade amber onyx turquoise agate quartz"
        ).split()
    ),
    "fabric": tuple(
        ("wool silk linen cotton velvet denim felt tweed canvas satin lace flannel corduroy cashmere").split()
    ),
    "weekday": tuple(("Monday Tuesday Wednesday Thursday Friday Saturday Sunday").split()),
    "adjective": tuple(
        (
            "ancient bitter black blue bold brave bright broken bronze calm clear cold crimson crooked curious "
            "dark deep distant dusty eastern electric empty endless fair final first flying frozen gentle giant "
            "golden grand gray great green hidden high hollow holy humble humming idle inner iron jolly kind last "
            "late lazy light little lonely long lost loud lower lucky lunar merry midnight mighty modern narrow "
            "new noble northern old open pale patient plain proud purple quick quiet rapid rare red restless royal "
            "rusty sacred scarlet secret shining short silent silver simple sleepy slow small smooth solar "
            "southern spotted steady still strange striped sunny sweet swift tall tender tiny twin upper velvet "
            "warm western white wild windy wise wooden young"
        ).split()
    ),
}
