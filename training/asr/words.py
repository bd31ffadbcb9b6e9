"""Word lists and sentence templates of the grammar (see corpus.py). Written for this project."""


def _split(text):
    return [w.strip().replace("_", " ") for w in text.split()]


LISTS = {
    "name": _split("Anna Peter Maria Tom Laura David Susan James Emma Oliver Lucy Henry Alice George Clara "
                   "Martin Julia Simon Nora Frank Helen Robert Kate Daniel Sophie Walter Grace Leo Ruth Samuel "
                   "Ellen Victor Rosa Michael Hannah Oscar Diana Philip Irene Jack"),
    "surname": _split("Brown Miller Carter Hughes Fisher Bennett Palmer Morgan Taylor Walker Foster Wright "
                      "Collins Parker Stone Baker"),
    "city": _split("London Paris Boston Berlin Madrid Rome Vienna Dublin Oslo Lisbon Chicago Denver Dallas Tokyo "
                   "Sydney Toronto Prague Geneva Athens Cairo Seattle Houston Phoenix Milan Zurich Warsaw Glasgow "
                   "Oxford Bristol Leeds Hamburg Munich Naples Montreal"),
    "country": _split("France Spain Italy Germany Canada Japan Brazil Mexico India Norway Sweden Ireland Poland "
                      "Greece Egypt Kenya Australia Portugal Austria Scotland"),
    "day": _split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": _split("January February March April May June July August September October November December"),
    "season": _split("spring summer autumn winter"),
    "weather": _split("sunny cloudy rainy windy foggy stormy cold warm hot mild wet dry cool humid freezing icy"),
    "storm": _split("rain snow thunder fog hail frost wind lightning sunshine showers"),
    "direction": _split("north south east west"),
    "region": _split("coast valley mountains hills islands border river capital desert forest"),
    "part": _split("morning afternoon evening night"),
    "adverb": _split("quickly slowly quietly carefully suddenly often usually rarely always never gently loudly "
                     "finally probably certainly happily"),
    "food": _split("bread cheese butter rice pasta soup salad chicken fish beef pork bacon eggs toast honey "
                   "yogurt pizza sandwiches noodles beans potatoes tomatoes onions carrots mushrooms pancakes "
                   "sausages cereal chocolate cake biscuits cookies pie"),
    "ingredient": _split("salt pepper sugar flour butter milk cream garlic ginger vinegar oil basil parsley "
                         "cinnamon lemon_juice water yeast mustard"),
    "fruit": _split("apples oranges lemons bananas grapes cherries peaches pears plums melons strawberries "
                    "raspberries apricots mangoes"),
    "vegetable": _split("carrots onions peppers spinach cabbage peas beans corn pumpkin broccoli celery lettuce "
                        "cucumber radishes"),
    "drink": _split("coffee tea water milk lemonade juice cocoa wine beer cider"),
    "meal": _split("breakfast lunch dinner supper"),
    "container": _split("cup glass bottle bowl plate pan pot jar mug jug"),
    "cookverb": _split("boil fry bake roast steam grill chop slice mix stir peel wash"),
    "room": _split("kitchen bedroom bathroom hallway garage garden cellar attic office library balcony "
                   "living_room dining_room laundry"),
    "furniture": _split("table chair sofa desk shelf cupboard bed lamp mirror carpet curtain drawer bench cabinet "
                        "wardrobe"),
    "object": _split("key umbrella wallet phone letter camera ticket watch basket blanket pillow hammer ladder "
                     "candle notebook pencil envelope newspaper magazine suitcase jacket scarf hat coat shirt "
                     "bicycle guitar clock bottle box bag radio torch map purse helmet glove"),
    "tool": _split("hammer screwdriver drill saw shovel rake brush bucket ladder wrench hose"),
    "device": _split("computer printer laptop phone keyboard screen speaker heater fan fridge oven dishwasher "
                     "microwave kettle toaster radio television vacuum_cleaner washing_machine thermostat"),
    "color": _split("red blue green yellow white black brown purple orange pink grey silver golden"),
    "size": _split("small large big tiny huge narrow wide tall short long"),
    "quality": _split("old new broken clean dirty heavy light expensive cheap beautiful strange quiet noisy "
                      "comfortable empty modern ancient famous useful simple perfect wonderful terrible"),
    "mood": _split("happy sad tired angry nervous excited hungry thirsty busy worried proud lonely bored "
                   "surprised calm sleepy"),
    "animal": _split("dog cat horse rabbit sheep goat cow duck goose fox bear wolf lion tiger elephant monkey "
                     "mouse squirrel owl eagle pigeon turtle snake frog whale dolphin penguin parrot"),
    "job": _split("doctor nurse teacher farmer driver pilot lawyer engineer baker butcher carpenter plumber "
                  "painter dentist waiter singer actor writer soldier sailor manager secretary scientist "
                  "student librarian gardener policeman"),
    "relative": _split("mother father sister brother uncle aunt cousin grandmother grandfather neighbor daughter "
                       "son wife husband friend"),
    "place": _split("station airport museum hospital school library market church theater park bridge castle "
                    "harbor hotel restaurant bakery pharmacy bank office stadium university village square "
                    "post_office supermarket cinema zoo beach lake police_station"),
    "vehicle": _split("train bus taxi ferry plane tram car truck boat bicycle"),
    "road": _split("street road avenue bridge tunnel highway corner path"),
    "sport": _split("football tennis golf hockey basketball swimming cycling chess skiing sailing"),
    "hobby": _split("painting dancing reading fishing singing cooking gardening hiking knitting photography"),
    "instrument": _split("piano guitar violin flute drum trumpet cello"),
    "subject": _split("history physics music biology chemistry geography mathematics art literature science "
                      "economics philosophy"),
    "document": _split("report letter contract invoice budget proposal schedule summary document message form "
                       "agreement certificate"),
    "event": _split("meeting party wedding concert lecture interview conference exam festival game ceremony "
                    "holiday workshop race election"),
    "project": _split("project company team department product website customer factory campaign account"),
    "body": _split("arm leg knee shoulder finger foot back head neck ear elbow ankle"),
    "illness": _split("cold fever headache cough toothache allergy"),
    "material": _split("wood stone glass metal paper plastic cotton leather wool silk"),
    "book": _split("story novel poem book article song play film"),
    "shop": _split("bakery market supermarket bookshop pharmacy butcher florist"),
    "goods": _split("shoes boots gloves trousers socks books flowers tickets chairs lamps plates glasses pencils "
                    "stamps toys tools batteries towels candles"),
    "lot": ["{count}", "{number}", "a few", "many", "several", "some"],
    "verbpast": _split("found lost bought sold borrowed repaired cleaned painted carried dropped forgot hid "
                       "opened closed broke moved"),
    "say": _split("said thinks believes hopes knows heard remembers explained"),
    "person": ["my {relative}", "the {job}", "{name}", "{name}", "our {relative}", "her {relative}",
               "Mister {surname}", "Doctor {surname}", "Mrs {surname}"],
    "thing": ["the {object}", "the {color} {object}", "my {object}", "a {quality} {object}",
              "the {size} {object}"],
    "where": ["on the {furniture}", "in the {room}", "under the {furniture}", "behind the {furniture}",
              "near the {place}", "next to the {furniture}", "in front of the {place}"],
    "when": ["today", "tomorrow", "yesterday", "on {day}", "this {part}", "next {day}", "last {day}", "last week",
             "next week", "in {month}", "at {time}", "every {day}", "next month", "next year"],
    "future": ["tomorrow", "on {day}", "this {part}", "next {day}", "next week", "at {time}", "on {date}", "later",
               "tonight", "next month", "soon"],
    "past": ["yesterday", "last {day}", "last week", "last night", "this morning", "last {month}", "in {year}",
             "{count} days ago", "{count} years ago", "two weeks ago", "an hour ago"],
    "unit": _split("minutes hours days weeks months years"),
    "measure": _split("grams spoons cups liters pounds kilos pieces slices"),
    "length": _split("meters kilometers miles feet inches"),
}

TEMPLATES = [t.strip() for t in """
It will be {weather} in {city} {future}.
The weather in {city} was {weather} {past}.
There will be {storm} in the {direction} {future}.
We expect {storm} and {storm} near the {region} {future}.
The temperature will reach {degrees} degrees {future}.
It was {degrees} degrees in {city} {past}.
The {direction} wind brings {storm} to the {region}.
Will it be {weather} or {weather} {future}?
Take an umbrella, there is heavy rain over the {region}.
The {season} in {country} is usually {weather}.
After the {storm}, the sky over the {region} was clear again.
Heavy {storm} closed the {road} to {city} {past}.
The train to {city} leaves at {time}.
The next {vehicle} to {city} leaves in {count} minutes.
The {vehicle} from {city} is {count} minutes late.
The {vehicle} arrives in {city} at {time} on {day}.
A ticket to {city} costs {price}.
We flew from {city} to {city} {past}.
{person} is traveling to {country} {future}.
Turn left at the {place} and cross the {road}.
Turn right after the {place} and follow the {road}.
Go straight ahead for {number} {length} and stop at the {place}.
How far is it from {city} to {city}?
Where can I find the {place}?
Excuse me, where is the nearest {place}?
The {place} is behind the {place}, near the {road}.
The {place} opens at {time} and closes at {time}.
The {place} is closed on {day} and {day}.
The {vehicle} stops in front of the {place}.
We missed the {vehicle} and had to walk to the {place}.
Flight {number} to {city} leaves from gate {count}.
Please book a room in {city} for {count} nights.
We need a {size} room for {lot} people {future}.
The hotel near the {region} costs {price} per night.
It takes {count} hours to drive to the {region}.
The {region} is {number} {length} from here.
They visited the {quality} {place} in {city} {past}.
We want to see the {region} of {country} in the {season}.
{person} took the {vehicle} to {city} {past}.
I would like a {container} of {drink}, please.
Can I have {food} and {food}, please?
Bring me a {container} of {drink} and some {food}.
We had {food} and {fruit} for {meal}.
{person} made {food} with {vegetable} for {meal}.
{person} usually has {food} and {drink} for {meal}.
Add {number} grams of {ingredient} to the {container}.
Add {count} spoons of {ingredient} and stir {adverb}.
Mix the {ingredient} with the {ingredient} in a {size} {container}.
Cook the {food} for {number} minutes with {ingredient} and {ingredient}.
First {cookverb} the {vegetable}, then {cookverb} the {food}.
{cookverb} the {vegetable} and put them in the {container}.
The soup needs more {ingredient} and a little {ingredient}.
Put the {food} in the oven at {number} degrees.
The {food} must stay in the oven for {count} minutes.
Do you want {drink} or {drink} with your {meal}?
We are out of {ingredient} and {ingredient}.
Buy {count} {measure} of {ingredient} at the market.
The {fruit} in the {container} are sweet and fresh.
{fruit} cost {price} at the {shop} today.
I bought {lot} {fruit} and a {container} of {drink}.
{meal} will be ready at {time}.
The waiter brought the {food} and a {container} of {drink}.
{person} doesn't like {food} with {ingredient}.
Please turn off the {device} in the {room}.
Please turn on the {device} before {time}.
Turn up the {device} in the {room}.
The {device} in the {room} is broken again.
The {device} doesn't work, please call the {job}.
Set the {device} in the {room} to {degrees} degrees.
Set an alarm for {time} on {day}.
Set a timer for {number} minutes.
Set a timer for {count} {unit}.
Remind me to call {person} at {time}.
Remind me to buy {food} and {ingredient} {future}.
Remind me to {cookverb} the {food} at {time}.
Close the window in the {room}, it is {weather} outside.
Open the door of the {room} and turn on the light.
{person} left {thing} {where}.
{person} {verbpast} {thing} {past}.
{person} {verbpast} a {size} {color} {object} {where}.
I can't find {thing}, is it {where}?
The {object} is {where}.
There is a {color} {object} {where}.
There are {lot} {goods} {where}.
Is there a {quality} {object} {where}?
Who put {thing} {where}?
Put {thing} {where}, please.
The {furniture} in the {room} is made of {material}.
We painted the {room} {color} {past}.
We need a new {furniture} for the {room}.
The {quality} {furniture} costs {price}.
{person} is cleaning the {room} with a {color} {tool}.
You need a {tool} and a {tool} to repair the {furniture}.
The {animal} is sleeping {where}.
A {color} {animal} is sitting {where}.
The {animal} and the {animal} live in the {region}.
We saw {lot} {color} birds and a {animal} near the {place}.
The {size} {animal} {adverb} crossed the {road}.
{person} has a {animal} and {count} {color} fish.
The {animal} ate all the {food} {past}.
Have you ever seen a {color} {animal}?
{name} and {name} are going to the {place} {future}.
{person} works as a {job} in {city}.
{person} wants to be a {job} in {country}.
{person} is {mood} because the {event} is {future}.
{person} was {mood} and {mood} after the {event}.
{person} felt {mood} {past}.
Why is {person} so {mood} {when}?
{person} {say} that the {event} will be {future}.
{person} {say} that the {document} is {quality}.
I met {person} near the {place} {past}.
{person} was born on {date}, {year}.
{person} was born in {city} in {year}.
{person} will be {number} years old {future}.
{person} has lived in {city} for {count} {unit}.
{person} moved from {city} to {city} in {year}.
Please tell {person} to wait at the {place}.
Ask {person} about the {event} {future}.
Call {person} {future}, please.
Did {person} call you {past}?
When is {person} coming back from {country}?
{person} plays {sport} every {day}.
{person} likes {hobby} and {hobby} in the {season}.
{person} is learning to play the {instrument}.
{name} plays the {instrument} {adverb} in the {room}.
Our team won the {sport} game {number} to {count}.
{person} prefers {sport} to {sport}.
The {event} starts at {time} in the {place}.
The {event} is on {day}, {date}, at {time}.
The {event} was moved from {day} to {day}.
The {event} on {date} is canceled.
There are {number} people at the {event}.
How many people came to the {event} {past}?
We have a {event} with {person} at {time}.
The {document} must be ready before {date}.
Please send the {document} to {person} before {time}.
Please print {count} copies of the {document}.
{person} signed the {document} {past}.
The {document} has {number} pages and {count} pictures.
I need the {document} for the {event} {future}.
The {project} needs a better {document}.
The {project} lost {number} percent of its value in {year}.
Sales went up by {number} percent in {month}.
The {project} has {number} people in {city} and {city}.
Page {number} of the {document} is missing.
The {project} opened a new office in {city} in {year}.
Our {project} will finish the {document} {future}.
The bill is {price} and we paid {price}.
The {goods} cost {price} at the {shop}.
How much are the {color} {goods}?
I paid {price} for the {color} {goods}.
{person} spent {price} on {goods} and {fruit}.
These {goods} are too {quality} for me.
We sold {number} {goods} {past}.
There are {number} {goods} in the {size} box.
Please bring {lot} {goods} and a {tool}.
{number} plus {count} is {number}.
The answer is {number}, not {number}.
My room number is {number}.
The house number is {number}, next to the {shop}.
Today is {day}, {date}.
It is {time} in {city} now.
The concert in {city} is on {date}.
My birthday is on {date}.
We will meet on {day} at {time}.
In {year} the {place} was destroyed by a fire.
The {quality} {place} was built in {year}.
{person} wrote a {quality} {book} in {year}.
The {book} about the {animal} is {quality}.
{person} read a {book} about {country} {past}.
Have you read the {book} about the {job} and the {animal}?
{person} teaches {subject} and {subject} at the {place}.
The {subject} exam is on {date}.
I have to learn {subject} for {count} hours.
{person} studied {subject} in {city}.
The {job} {adverb} opened the {document}.
The {job} {adverb} walked to the {place}.
The {job} and the {job} met in the {room}.
The {job} told a {quality} story about a {animal}.
The {job} bought a {quality} {vehicle} for {price}.
My {body} hurts, I need a {job}.
{person} has a {illness} and stays in bed.
{person} broke an {body} at the {event}.
The {job} looked at my {body} and gave me some {drink}.
Take this medicine {count} times a day for your {illness}.
The {vehicle} is {quality} and very {size}.
A {color} {vehicle} stopped near the {place}.
{person} drives a {color} {vehicle} to the {place} every {part}.
The {size} {object} is made of {material} and {material}.
She wore a {color} coat and {color} {goods}.
He carried the {quality} {object} to the {place}.
They {adverb} walked along the {road} to the {region}.
We {adverb} eat {food} in the {season}.
I {adverb} drink {drink} in the {part}.
Good {part}, {name}, how are you?
Good {part}, this is {person} from the {place}.
Thank you for the {quality} {object}.
Thank you very much, see you {future}.
Sorry, I forgot the {object}.
What is the capital of {country}?
What time does the {event} begin?
What is the weather like in {country} in {month}?
Which {vehicle} goes to the {place}?
Could you please open the {furniture}?
Let's go to the {place} {future}.
Let's meet at the {place} at {time}.
I don't know where {thing} is.
Nobody knows when the {event} will begin.
Everybody was {mood} when the {vehicle} arrived.
If it is {weather} {future}, we will go to the {place}.
Before {meal} we went {sport} near the {region}.
When the {event} was over, {person} went home.
""".strip().splitlines()]
