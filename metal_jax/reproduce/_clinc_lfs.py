"""Labelling functions for the domains and intents of CLINC150, written by hand.

They were written from the texts of train and the small hand-labelled set alone, as tables of
phrases: at least one function for each of the 150 intents, which votes on the task beneath a
domain, and a few for each domain, which vote on the root task. Those that did worst on the small
set were mended, in several passes. The phrases are plain, and many are wrong at times: "balance" is
also said of reward points, and "remaining" of more than days off.
"""

from metal_jax.labeling import LabelingFunction, keyword_lf, regex_lf

# domain -> phrases of the functions that vote on the domain only.
_DOMAINS = {
    "banking": {
        "account": "bank account, checking, savings, my account, chase, ally, wells fargo, my bank",
        "bills": "bill, bills, mortgage, rent, payment, payments",
        "money": "dollars, bucks, spent, spend, spending, purchases, bought",
    },
    "credit_cards": {
        "card": "credit card, visa card, card, mastercard, amex, american express, discover",
        "credit": "credit, rewards, points, apr, limit",
    },
    "kitchen_and_dining": {
        "restaurant": "restaurant, restaurants, reservation, reservations, table, reviews, ihop,"
        " red robin, red lobster, olive garden, applebee's, outback, steakhouse, grill",
        "food": "cook, food, recipe, meal, dinner, chicken, pizza, steak, cheese, soup, eggs, milk,"
        " sugar, butter, rice, pasta, fridge, ingredients, bake, salad, meat",
    },
    "home": {
        "lists": "list, calendar, remind, reminder, reminders, shopping, schedule, event",
        "music": "song, songs, playlist, music, track, tune, album",
        "house": "lights, light, order, package, tv, thermostat, oven, door, doors",
    },
    "auto_and_commute": {
        "car": "car, tires, tire, oil, gas, fuel, vehicle, tank, battery, mechanic, engine",
        "road": "traffic, uber, route, bus, directions, miles, drive, highway, closest, nearest",
    },
    "travel": {
        "journey": "travel, traveling, travelling, trip, flight, flights, airport, airlines, hotel,"
        " luggage, visit, vacation spot, tourist, abroad, plane",
        "country": "china, mexico, japan, france, spain, italy, russia, germany, canada, africa,"
        " thailand, brazil, spanish, french, german, euros, yen, pesos",
    },
    "utility": {
        "device": "alarm, timer, phone, text, call, dial, clock, message, gps",
        "look_up": "weather, spell, spelling, definition, convert, plus, divided, percent, date,"
        " dice, coin, temperature, rain, inches, square root",
    },
    "work": {
        "office": "meeting, meetings, pto, vacation, days off, day off, holiday, time off",
        "pay": "paycheck, payday, salary, income, taxes, tax, 401k, w2, w-2, insurance, benefits,"
        " paid, direct deposit, job, boss",
    },
    "small_talk": {
        "chat": "joke, hello, hi, thanks, thank you, bye, goodbye, fun fact, hobbies, pets, trivia",
        "about_you": "are you, were you, do you have, your age, your name, your boss, you like,"
        " made you, you work, you from, your birthday",
    },
    "meta": {
        "settings": "language, accent, volume, voice, whisper, settings, speak, louder, sync",
        "answer": "yes, no, maybe, true, false, not sure, repeat, say that again, shut up",
        "names": "call me, my name, your name to, call you, change your",
    },
}

# domain -> intent -> phrases of the functions that vote on the intent.
_INTENTS = {
    "banking": {
        "freeze_account": "freeze my, freeze account, block my, a stop on my, a hold on my, put a"
        " block",
        "routing": "routing, routing number",
        "pin_change": "pin, pin number, pin code",
        "bill_due": "bill due, due date, when is my bill, is due, are due",
        "pay_bill": "pay my, pay the, paying my, pay for my, help paying",
        "account_blocked": "account frozen, account blocked, being frozen, locked out, account"
        " freeze, on hold, why is there a block",
        "interest_rate": "interest, interest rate, interest rates",
        "min_payment": "minimum payment, minimum, smallest payment, least amount, lowest payment",
        "bill_balance": "how much is my, bill for, owe on, is owed, my bills, amount on my",
        "transfer": "transfer, move money, move, send money, from checking to, from savings,"
        " transferred, funds",
        "order_checks": "checks, checkbooks, checkbook",
        "balance": "account balance, savings balance, checking balance, how much money do i have,"
        " money in my",
        "spending_history": "spend on, spent on, spending, spent, been spending, my spending",
        "transactions": "transactions, transaction history, purchases, last purchase, recent"
        " transactions",
        "report_fraud": "fraud, fraudulent, don't recognize, scam, suspicious",
    },
    "credit_cards": {
        "replacement_card_duration": "replacement card, new card come, new card in the mail, card"
        " arrive, mail me a new card",
        "expiration_date": "expiration date, card expires, card expire, expiration, my card expire",
        "damaged_card": "damaged, broke, broken, snapped, burned, bent, melted, scratched",
        "improve_credit_score": "improve my credit, raise my credit, build my credit, hurt my"
        " credit, lower my credit",
        "report_lost_card": "lost my card, report my card, stolen, card is lost, lost card, report"
        " a lost",
        "card_declined": "declined, declined my card, card got declined, not accepted, get"
        " declined",
        "credit_limit_change": "increase my credit limit, increase the credit limit, raise my"
        " credit limit, increase the limit, limit raised, limit increased, higher limit",
        "apr": "apr, annual percentage rate, annual rate",
        "redeem_rewards": "redeem, use my points, cash in, use my rewards, credit card points",
        "credit_limit": "my credit limit, credit limit on, credit limit for, spending limit, my"
        " limit",
        "rewards_balance": "rewards balance, reward balance, how many points, rewards points,"
        " reward points, my rewards, points do i have",
        "application_status": "application, applied for, my application, card application",
        "credit_score": "my credit score, credit rating, credit score",
        "new_card": "apply for a, new credit card, sign up for, apply for, get a new card",
        "international_fees": "transaction fees, international fees, foreign transaction, charged"
        " if i use",
    },
    "kitchen_and_dining": {
        "food_last": "expire, go bad, good for, still good, in the fridge, spoil, shelf life, be"
        " ruined",
        "confirm_reservation": "confirm my reservation, confirm, verify, check on my reservation",
        "how_busy": "how busy, busy, wait time, crowded, how long is the wait, long will i wait",
        "ingredients_list": "ingredients, what's in, ingredients in, ingredients for, do i need to"
        " make, to make a",
        "calories": "calories, calorie, how many calories, calorie count, caloric",
        "nutrition_info": "nutrition, nutritional, nutrition facts, healthy, nutrients, good for"
        " me",
        "recipe": "recipe, recipe for, how do i make, how to make, how do you make, instructions",
        "restaurant_reviews": "reviews, ratings, well reviewed, good reviews, rated, rating",
        "restaurant_reservation": "book a table, make a reservation, reserve a table, get me a"
        " table, make reservations, book a reservation, a table for, under the name",
        "meal_suggestion": "meal, suggest a meal, what should i cook, for dinner, meal from,"
        " suggestion, what to cook, dinner suggestion",
        "restaurant_suggestion": "good restaurants, restaurants in, places to eat, best"
        " restaurants, a good place, restaurant near",
        "cancel_reservation": "cancel my reservation, cancel my dinner, cancel the reservation, no"
        " longer need, cancel our, cancel my table",
        "ingredient_substitution": "substitute, instead of, swap, replace, be used for, swap out",
        "cook_time": "how long do i cook, how long should i cook, cook time, how long to cook, time"
        " to cook, how long do you cook, prep time, how long to bake, to cook",
        "accept_reservations": "take reservations, accept reservations, takes reservations, do"
        " reservations, make reservations at, reserve a table at",
    },
    "home": {
        "what_song": "song is this, song called, song is playing, tune is this, name of the song,"
        " sings this",
        "play_music": "play, put on, listen to, want to hear, music on, start playing",
        "todo_list_update": "to my to do list, to my todo list, off my to do list, from my to do"
        " list, my task list",
        "reminder": "list of reminders, reminder list, my reminders, reminders, did i want to"
        " remember",
        "reminder_update": "remind me to, set a reminder, reminder to, create a reminder, reminder"
        " for",
        "calendar_update": "to my calendar, from my calendar, off my calendar, add an event, delete"
        " my, put on my calendar, remove from my calendar",
        "order_status": "my package, my order, order status, track, delivered, delivery, shipped",
        "update_playlist": "to my playlist, on my playlist, add this song, playlist, my playlist",
        "shopping_list": "on my shopping list, in my shopping list, on the shopping list, shopping"
        " list have",
        "calendar": "do i have scheduled, my schedule, events on my, have planned, on my calendar"
        " for",
        "next_song": "next song, skip, skip this song, next track, next tune",
        "order": "order more, order everything, buy, purchase, order me, ordered, buy me",
        "todo_list": "what is on my to do list, on my to do list, read my to do list, to do today,"
        " left to do",
        "shopping_list_update": "to my shopping list, from my shopping list, off my shopping list,"
        " add milk",
        "smart_home": "turn on, turn off, lights, thermostat, temperature, the oven, dim, warm up",
    },
    "auto_and_commute": {
        "current_location": "where am i, my location, my current location, current location, locate"
        " me, exact location",
        "oil_change_when": "next oil change, when should i change my oil, need an oil change, oil"
        " changed, get my oil changed, oil change due, between oil changes",
        "oil_change_how": "change my oil, change the oil, change oil, changing my oil, do an oil"
        " change, changing oil",
        "uber": "uber, an uber, get an uber, a ride, taxi, lyft",
        "traffic": "traffic, congestion, traffic like, jams",
        "tire_pressure": "tire pressure, air pressure, psi, air in my tires, air is in my tires",
        "schedule_maintenance": "make an appointment, schedule maintenance, tires checked, tire"
        " inspection, car serviced",
        "gas": "how much gas, gas tank, fuel level, fuel do i have, enough gas, in the tank, gas is"
        " left, gas do i have",
        "mpg": "mpg, miles per gallon, gas mileage, mileage, fuel economy",
        "distance": "how long will it take, how far, how long does it take to get, how long to get,"
        " how much time, far away, my destination",
        "directions": "how do i get to, directions, nearest, closest, how to get to, take me to,"
        " guide me",
        "last_maintenance": "last oil change, last serviced, car last, last looked at, last"
        " maintenance, last checked",
        "gas_type": "type of gas, kind of gas, type of fuel, kind of fuel, which gas, premium, gas"
        " should i",
        "tire_change": "new tires, change my tires, tires changed, replace my tires, tires"
        " replaced",
        "jump_start": "jump start, jumper cables, jump my car, jumpstart, dead battery, jump",
    },
    "travel": {
        "plug_type": "plug, plugs, plug converter, socket, outlets, outlet, adapter",
        "travel_notification": "my bank i, tell my bank, inform my bank, alert my bank, notify my"
        " bank, let my bank know, bank know",
        "translate": "translate, in spanish, in french, in german, how do you say, how do they say,"
        " how do i say",
        "flight_status": "my flight, flight status, flight land, boarding, board, status of flight",
        "international_visa": "a visa, travel visa, international visa, visa to, visa when",
        "timezone": "timezone, time zone, what timezone",
        "exchange_rate": "exchange rate, exchange, in dollars, in euros, euros, yen, pesos, rubles",
        "travel_suggestion": "things to do, fun to do, to do in, travel to next, sights, tourist,"
        " entertainment, attractions",
        "travel_alert": "travel alert, travel alerts, travel warnings, safe, is it safe, safe to",
        "vaccines": "shots, vaccines, vaccinations, vaccination, vaccine, shot",
        "lost_luggage": "luggage, lost luggage, my luggage, lost my luggage, suitcase, my bags",
        "book_flight": "book a flight, flight from, book me a flight, roundtrip, plane ticket,"
        " flights from, a ticket, round trip",
        "book_hotel": "hotel, hotels, hotel room, a place to stay, vacancies, motel",
        "carry_on": "carry on, carry-on, carry ons, carry-ons, bags can i",
        "car_rental": "rental car, rent a car, car rental, rental, car in, hertz",
    },
    "utility": {
        "weather": "weather, forecast, rain, raining, hot outside, cold outside, snow, sunny",
        "alarm": "alarm, alarms, wake me up, wake me",
        "date": "the date, today's date, what day is it, day is it, date today, date tomorrow",
        "find_phone": "my phone, find my phone, lost phone, where is my phone, lost my phone",
        "share_location": "share my location, my location to, my location with, share location, gps"
        " coordinates, my gps location, know my location",
        "timer": "timer, a timer, set a timer, countdown, minute timer",
        "make_call": "dial, phone call, make a call, call my, call mom, call dad, please call",
        "calculator": "plus, times, divided by, square root, math, minus, percent of, multiplied",
        "definition": "definition, meaning of, define, does the word, the definition of, what does",
        "measurement_conversion": "convert, inches, kilometers, centimeters, how many ounces,"
        " conversion, in a mile, teaspoons, cups, kilos, liters, pounds",
        "flip_coin": "coin, flip a coin, heads or tails, coin toss, heads, tails",
        "spelling": "spell, spelling, spelled, how do you spell",
        "time": "what time is it, the time, current time, what time, time in",
        "roll_dice": "dice, die, roll, roll a, sided",
        "text": "text, send a text, text message, message, texting",
    },
    "work": {
        "pto_request_status": "vacation approved, request approved, request been approved, vacation"
        " request been, been approved, status on my pto, day off request, my vacation request",
        "next_holiday": "next holiday, next day off, holiday, the next day off, holidays",
        "insurance_change": "change my insurance, new insurance, switch my insurance, switch"
        " insurance, different insurance, insurance policy, change insurance",
        "insurance": "insurance plan, my benefits, health plan, health benefits, benefits, medical"
        " coverage",
        "meeting_schedule": "meetings today, any meetings, my meeting with, is my meeting, meeting"
        " with, meetings scheduled, next meeting",
        "payday": "next paycheck, paid, get paid, payday, my paycheck, last paycheck, last paid",
        "taxes": "taxes, tax, state taxes, federal taxes, income tax",
        "income": "income, my salary, salary, do i make, i earn, do i earn, my wage, wages",
        "rollover_401k": "401k, 401 k, rollover, roll over, retirement",
        "pto_balance": "how much pto, vacation days do i have, pto days, days off do i have, days"
        " left, remaining",
        "pto_request": "pto request, request vacation, request time off, put in for, make a"
        " vacation request",
        "w2": "w2, w-2, w2s, tax form, form i need",
        "schedule_meeting": "schedule a meeting, meeting room, meeting rooms, set up a meeting,"
        " scheduling a meeting",
        "direct_deposit": "direct deposit, directly deposited, deposited, deposit",
        "pto_used": "i used, have i taken, have i used, used so far, already used, i have taken,"
        " used up",
    },
    "small_talk": {
        "who_made_you": "made you, created you, programmed you, your creator, built you, invented"
        " you, designed you, your maker",
        "meaning_of_life": "meaning of life, point of life, purpose of life, exist, existence",
        "who_do_you_work_for": "you work for, your boss, your employer, work for",
        "do_you_have_pets": "pets, have pets, a pet, dog, cat, animals, any pets",
        "what_are_your_hobbies": "hobbies, for fun, hobby, free time, like to do, activities",
        "fun_fact": "fun fact, trivia, facts, interesting, fact about, tidbit",
        "what_is_your_name": "what's your name, your name, what is your name, should i call you",
        "where_are_you_from": "you from, were you born, you born, your birthplace, come from, you"
        " live, your origin, home for you",
        "goodbye": "bye, goodbye, see you, farewell, later, take care, talking with you",
        "thank_you": "thanks, thank you, appreciate, grateful, thank, kind of you",
        "greeting": "hello, hi, how are you, hey there, how are things, are you doing, how's it"
        " going, good morning, whats up, what's up",
        "tell_joke": "joke, jokes, something funny, funny, make me laugh",
        "are_you_a_bot": "bot, robot, human, a computer, a real person, artificial, are you real",
        "how_old_are_you": "how old, your age, your birthday, birth date, were you created, old are"
        " you, months old, birthdate",
        "what_can_i_ask_you": "can you do, i ask you, can you help me with, topics, subjects,"
        " questions, can you answer",
    },
    "meta": {
        "change_speed": "slower, faster, speak slower, slow down, more slowly, speed, talk faster,"
        " too fast, quickly, slowly",
        "user_name": "my name, you call me, call me, my name saved, my name is",
        "whisper_mode": "whisper, whisper mode, whispering, quiet voice, quietly",
        "yes": "yes, yeah, yep, yup, affirmative, indeed, that's correct, that's right",
        "change_volume": "volume, louder, quieter, turn it up, turn it down, speakers, too low",
        "no": "nope, no thanks, say no, false, not true, nah, naw, definitely not, not right,"
        " incorrect",
        "change_language": "language, languages, speak in, in english, speak spanish, respond in",
        "repeat": "repeat, say that again, again, say it again, repeat that, you said, come again",
        "change_accent": "accent, male voice, female voice, british, voice",
        "cancel": "cancel that, stop, nevermind, never mind, shut up, forget it, abort, quit, stop"
        " talking",
        "sync_device": "sync, connect to my phone, unsync, pair, disconnect, connect, my phone now",
        "change_user_name": "call me, my name to, calling me, refer to me as, be called",
        "change_ai_name": "call you, your name to, rename you, new name, name you, calling you",
        "reset_settings": "factory settings, reset, default settings, original settings, settings",
        "maybe": "maybe, not sure, i don't know, i'm not certain, possibly, perhaps, unsure, can't"
        " say",
    },
}

# "domain.intent.hint" -> pattern of the functions that look for a pattern.
_PATTERNS = {
    "banking.freeze_account.stop": r"\b(?:stop|block|hold|freeze)\b.*\baccount\b",
    "banking.account_blocked.why": r"\b(?:why|reason|problem|deal)\b.*\baccount\b",
    "banking.bill_due.when": r"\b(?:when|date|deadline|how soon)\b.*\b(?:bill|payment|due)\b",
    "banking.pay_bill.pay": r"\bpay\b.*\bbill\b",
    "banking.balance.in_account": r"\bhow much\b.*\b(?:account|savings|checking)\b",
    "banking.spending_history.how_much": r"\b(?:did|have) i (?:been )?spen[dt]",
    "credit_cards.replacement_card_duration.when": r"(?:how long|when)\b.* (?:new|replacement)"
    r" .*card",
    "credit_cards.expiration_date.when": r"\bcard\b.*\bexpir|\bexpir.*\bcard\b",
    "credit_cards.damaged_card.damage": r"\bcard\b.*\b(?:damaged?|broken?|bent|cracked)\b",
    "credit_cards.improve_credit_score.change": r"\b(?:improve|hurt|lower|build)\b.*\bcredit"
    r" score\b",
    "credit_cards.report_lost_card.report": r"\b(?:report|lost|stole|stolen|missing)\b.*\bcard\b",
    "credit_cards.card_declined.why": r"\bcard\b.*\b(?:declined|accepted|work|rejected|problem)\b",
    "credit_cards.credit_limit_change.raise": r"\b(?:increase|raise|change|higher)\b.*\blimit\b",
    "credit_cards.redeem_rewards.use": r"\b(?:use|redeem|cash)\b.*\b(?:points|rewards|miles)\b",
    "credit_cards.credit_limit.spend": r"\bhow much (?:can|am) i\b.*\b(?:spend|charge)\b",
    "credit_cards.rewards_balance.points": r"\b(?:points|rewards?)\b.*\b(?:card|visa|amex)\b",
    "credit_cards.application_status.status": r"\b(?:approved|processed|status|latest)\b.*\bcard\b",
    "kitchen_and_dining.food_last.how_long": r"\bhow long\b.*\b(?:fridge|last|keep|good|expire)\b",
    "kitchen_and_dining.food_last.is_it_ok": r"\b(?:safe|fine|okay)\b.*\b(?:eat|use)\b",
    "kitchen_and_dining.restaurant_reviews.how": r"\b(?:do people like|is .* any good|how good)\b",
    "kitchen_and_dining.restaurant_suggestion.good": r"\b(?:good|best) .*\b(?:places?"
    r"|restaurants?)\b",
    "kitchen_and_dining.ingredient_substitution.with": r"\bcan i (?:use|switch|replace) .*"
    r" (?:for|with)\b",
    "kitchen_and_dining.cook_time.how_long": r"\b(?:how long|time)\b.*\b(?:cook|bake|boil|roast)\b",
    "kitchen_and_dining.recipe.make": r"\bhow (?:do|can|to)\b.*\b(?:make|cook|bake|prepare)\b",
    "home.todo_list_update.add": r"\b(?:add|put|remove|take)\b.*\b(?:to ?do|chore|things to do)\b",
    "home.todo_list.what": r"\b(?:what|is|read|did)\b.*\b(?:to ?-?do|chore|task) list\b",
    "home.reminder.list": r"\b(?:what|list|tell|read|check)\b.*\bremind",
    "home.calendar_update.change": r"\b(?:add|delete|remove|erase)\b.*\b(?:calendar|event)\b",
    "home.calendar.what": r"\b(?:what|anything|do i have)\b.*\b(?:calendar|schedule)\b",
    "home.order_status.status": r"\b(?:status|when|where|track)\b.*\b(?:order|package|delivery)\b",
    "home.update_playlist.add": r"\b(?:add|put|include)\b.*\bplaylist\b",
    "home.play_music.play": r"\bplay (?!the next|next)\w+|\b(?:use|do|hear) .*\bplaylist\b",
    "home.what_song.name": r"\b(?:what|who|name|title)\b.*\b(?:song|tune|track|singing|sings)\b",
    "home.shopping_list.what": r"\b(?:what|is|are|does|read)\b.*\bshopping list\b",
    "home.shopping_list_update.change": r"\b(?:add|put|remove|take|erase)\b.*\bshopping list\b",
    "home.smart_home.switch": r"\bturn\b.*\b(?:on|off|down|up|to)\b",
    "auto_and_commute.last_maintenance.when": r"\blast\b.*\b(?:car|oil|shop)\b|\bcar\b.*\blast\b",
    "auto_and_commute.oil_change_when.when": r"\b(?:when|how often|how long)\b.*\boil\b",
    "auto_and_commute.oil_change_how.how": r"\b(?:how|steps|way|procedure|know how)\b.*\boil\b",
    "auto_and_commute.tire_change.when": r"\b(?:when|how long|need|date)\b.*\btires?\b",
    "auto_and_commute.directions.where": r"\b(?:where is the|get to)\b.*\b(?:bus|closest|nearest)",
    "auto_and_commute.distance.how_long": r"\bhow (?:long|much time)\b.*\b(?:get|drive|going) to\b",
    "travel.travel_notification.bank": r"\bbank\b.*\btravel|\bi(?:'m| am) going to be in\b",
    "travel.translate.say": r"\b(?:say|translate|word for|is \w+ for)\b.*\b(?:in|into|to|for)\b",
    "travel.flight_status.when": r"\b(?:when|time|status|is)\b.*\bflight\b",
    "travel.exchange_rate.money": r"\b(?:dollars?|euros?|yen) (?:in|to|for) (?:dollars|euros)\b",
    "travel.travel_suggestion.do": r"\b(?:what|anything|things|fun)\b.*\bdo in\b",
    "travel.book_flight.from_to": r"\b(?:flights?|ticket|fly)\b.*\bfrom\b.*\bto\b",
    "utility.definition.mean": r"\bwhat (?:does|is|do) .*\bmeans?\b|\bmeaning of (?!life)",
    "utility.find_phone.find": r"\b(?:find|where|locat\w+|lost)\b.*\bphone\b",
    "utility.share_location.with": r"\b(?:give|share|send|tell)\b.*\b(?:location|gps)\b",
    "utility.text.to": r"\btext\b.*\b(?:to|that|saying|and)\b|^(?:text|message) \w+",
    "work.pto_used.used": r"\b(?:used|taken|consumed|utilized)\b",
    "work.pto_balance.left": r"\b(?:pto|vacation|days off)\b.*\b(?:left|remaining|saved)\b",
    "work.pto_request.dates": r"\b(?:request|submit)\b.*\b(?:pto|vacation|time off)\b",
    "work.pto_request_status.has": r"\b(?:vacation|pto|days? off)\b.*\b(?:approved|status)\b",
    "work.meeting_schedule.when": r"\b(?:when|what time|any|do i)\b.*\b(?:meet|meetings?)\b",
    "work.payday.when": r"\bwhen\b.*\b(?:paid|payday|paycheck)\b",
    "small_talk.who_do_you_work_for.work": r"\byou\b.*\bwork\b|\b(?:boss|employer)\b",
    "small_talk.how_old_are_you.when": r"\b(?:when|what|your)\b.*\b(?:born|birthday|created|age)\b",
    "small_talk.meaning_of_life.why": r"\b(?:meaning|purpose|point|reason)\b.*\b(?:life|exist)",
    "meta.user_name.what": r"\b(?:what|how|which)\b.*\b(?:call me|my name|address me)\b",
    "meta.change_ai_name.call_you": r"\b(?:call|calling|name|rename) you\b|\byour? name\b",
    "meta.change_language.named": r"\b(?:speak|talk|respond|change)\b.*\b(?:english|language)\b",
}


def _table_lfs() -> list[LabelingFunction]:
    """Make the functions of the three tables, called "clinc_" and the keys along the way."""
    lfs = []
    for domain, hints in _DOMAINS.items():
        for hint, phrases in hints.items():
            name = f"clinc_{domain}_{hint}"
            lfs.append(keyword_lf(name, "domain", domain, phrases.split(", ")))
    for domain, intents in _INTENTS.items():
        for intent, phrases in intents.items():
            name = f"clinc_{domain}_{intent}"
            lfs.append(keyword_lf(name, domain, intent, phrases.split(", ")))
    for key, pattern in _PATTERNS.items():
        domain, intent, _ = key.split(".")
        lfs.append(regex_lf("clinc_" + key.replace(".", "_"), domain, intent, pattern))
    return lfs


CLINC_LFS: tuple[LabelingFunction, ...] = tuple(_table_lfs())
