"""Labelling functions for the fine classes of the TREC questions, written by hand.

They were written from the texts of train and the small hand-labelled set alone. The votes that
come with the data speak of the coarse class; these speak of the fine classes beneath it. The
class definitions are those of Li and Roth (2002, "Learning question classifiers", section 2).
"""

import re
from collections.abc import Mapping

from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunction,
    keyword_lf,
    labeling_function,
    regex_lf,
)

# A word before the noun that is asked for; none that begins a clause or another phrase.
_MODIFIER = (
    r"(?: (?!(?:of|in|on|for|to|that|by|from|with|at|as|and|or|who|where|when|is|are|was|were|do"
    r"|does|did|has|have|had|can|could|will|would|should|a|an|the|made|used|called)\b)[^\s,]+)"
)
# "what ...", "what is the ...", "what 's the name of odin 's ...", "name a ..."; but not
# "what is a ...", which asks for a definition.
_ASKING = (
    r"(?:\b(?:what|which|whose)(?: (?:kind|type|sort)s? of(?: an?)?|(?: one)? of (?:the|these)|"
    r" (?:is|are|was|were|'s)(?: the names? (?:of|for|given to))?"
    r"(?: (?:the|all|some|other|another|one)| (?:\S+ ){1,3}'s?))?|^name(?: (?:a|an|the))?)"
)
# A noun followed by one of these is not what is asked for, but describes it.
_NOT_THE_HEAD = (
    r"(?! (?:'s?|star|stars|character|characters|player|players|team|teams|company|actor|actress"
    r"|coach|producer|director|singer|writer|author|club|league|magazine|hero|heroine|group|band"
    r"|maker|manufacturer|owner|captain|king|show|series|position|term|program|detective|general"
    r"|battlefield|liner|city|packers|symbol|composition|reactivity)(?: |$))"
)


def _asks_for(nouns: str) -> str:
    """Return the pattern of questions after one of the nouns: "what ..., which ..., name ..."."""
    return rf"{_ASKING}{_MODIFIER}{{0,4}}? (?:{nouns})\b{_NOT_THE_HEAD}"


# "task.label" or "task.label.hint" -> keywords of the functions that look for a keyword.
_KEYWORDS = {
    "abbr.exp.stand_for": ("stand for", "stands for", "full form of"),
    "desc.desc.in_common": ("in common",),
    "enty.dismed.phobia": ("fear of", "fears of", "phobia", "phobias"),
    "hum.title": ("occupation", "profession", "for a living", "job", "title"),
    "loc.other.where": ("where",),
    "num.speed": ("how fast", "speed", "velocity", "miles per hour"),
    "num.temp": ("how hot", "how cold", "how warm", "temperature"),
    "num.weight": ("weigh", "weighs", "weight", "how heavy", "how many pounds"),
}

# "task.label" or "task.label.hint" -> pattern of the functions that look for a pattern.
_PATTERNS = {
    "abbr.abb.abbreviated": r"(?:abbreviation|acronym) (?:of|for) (?!what\b)|abbreviated",
    "abbr.exp.abbreviation_for_what": r"(?:abbreviation|acronym)s?\b.*\b(?:for what|mean)\b",
    "desc.def.meaning": r"\b(?:meaning|definition) of\b|\bdefine\b|\bmeant by\b",
    "desc.def.does_mean": r"\bwhat (?:does|do|did) .*\bmean\b",
    "desc.def.what_is_a": (
        r"^what (?:is|are|'s) (?!.*\bfear )"
        r"(?:(?:`` )?(?:\S+ ){1,2}(?:'' )?|an? (?:`` )?(?:\S+ ){1,3}(?:'' )?)\?$"
    ),
    "desc.desc.difference": r"\b(?:differences?|distinction) between\b",
    "desc.desc.origin": r"\b(?:origins?|history|background) of\b",
    "desc.desc.what_does_it_do": (
        r"^what (?:does|do|did|should|will|would|can) .*\b(?:do|look like|believe|say|think"
        r"|happen)\b(?! for a living)|^what happen(?:s|ed)\b|\bused for \?"
    ),
    "desc.desc.aspect": (
        r"^what (?:is|are|was|were|'s) (?:\S+ ){0,3}(?:effects?|characteristics|rules?|functions?"
        r"|role|purpose|significance|lyrics|advantages?|benefits?|nature|story|theory|history|statistics"
        r"|requirements?|information|features?|properties|law|process|plot|motto|design)\b"
    ),
    "desc.manner.how_auxiliary": r"^how (?:do|does|did|can|could|should|would|to|will)\b",
    "desc.manner.how_is": r"\bhow (?:is|are|was|were)\b",
    "desc.reason.why": r"^why\b|\bhow come\b|\bwhy (?:do|does|did|is|are)\b",
    "desc.reason.cause": (
        r"^what (?:causes?|caused|makes?|made)\b|\b(?:reasons?|causes?) (?:for|of|why)\b"
        r"|\bclaim to fame\b|\b(?:famous|known) for\b|\bfor what reason\b"
    ),
    "enty.animal": _asks_for(
        r"animals?|birds?|dogs?|cats?|fish|mammals?|insects?|snakes?|breeds?|horses?|creatures?"
        r"|species|spiders?|bears?|whales?|tigers?|geese|dinosaurs?|fowl|pets?|canine"
        r"|rodents?|reptiles?"
    ),
    "enty.body": (
        _asks_for(r"bones?|organs?|muscles?|glands?|toes?|legs?|fingers?|limbs?|vein|artery|teeth")
        + r"|\bparts? of (?:the|your|his|her) (?:human )?(?:body|face|head|skin|brain)\b"
    ),
    "enty.color": r"\b(?:what|which)(?: \S+){0,3} colou?rs?\b",
    "enty.cremat.screen": (
        _asks_for(r"films?|movies?|tv (?:show|series|program)|sitcom|soap opera|cartoon|musical")
        + r"|\bwhat (?:\S+ ){0,2}(?:tv|television|soap) (?:show|series|opera|sitcom|drama|comedy)"
    ),
    "enty.cremat.print": _asks_for(
        r"novels?|books?|poems?|newspapers?|magazines?|plays?|fables?|bestseller|comic strip"
        r"|autobiography|trilogy|story|stories|essay"
    ),
    "enty.cremat.art": _asks_for(
        r"songs?|albums?|opera|paintings?|sculptures?|symphony|ballet|tunes?|records?|ballads?"
        r"|statues?|hymn|software|computer program|hit|painted|wrote|directed|singles?"
    ),
    "enty.currency": (
        _asks_for(r"currency|currencies|monetary units?|unit of currency")
        + r"|\b(?:currency|money) (?:is |do |does )?(?:\S+ ){0,3}used? in\b"
    ),
    "enty.dismed.disease": _asks_for(
        r"diseases?|drugs?|medicines?|viruse?s?|cures?|illness|cancers?|treatments?|vaccines?"
        r"|symptoms|medications?|disorders?|conditions?|remedy|vitamins?|infections?|syndrome"
    ),
    "enty.event": _asks_for(
        r"wars?|battles?|events?|holidays?|trials?|revolutions?|festivals?|riots?|era|rebellion"
        r"|disasters?|hurricanes?|celebrations?|campaign|conflict|feud"
    ),
    "enty.food": (
        _asks_for(
            r"foods?|drinks?|beers?|wines?|cocktails?|fruits?|vegetables?|cookies?|condiments?|treat"
            r"|sandwich|cereals?|candy|cheese|soup|bread|meat|desserts?|dish|dishes|beverages?"
            r"|liqueurs?|liquor|ingredients?|spices?|nuts?|sauce|tastes?|juice|meals?|pasta|flavors?"
        )
        + r"|\bdoes .* eat \?"
    ),
    "enty.instru": r"\b(?:what|which)(?: \S+){0,3} instruments?\b(?! used)",
    "enty.lang": r"\b(?:what|which)(?: \S+){0,4} (?:languages?|dialects?)\b",
    "enty.letter": _asks_for(r"letters?|vowels?|consonants?") + r"|\bletters? of the alphabet\b",
    "enty.plant": _asks_for(
        r"plants?|trees?|flowers?|shrubs?|crops?|herbs?|weeds?|roses?|grass|wood"
    ),
    "enty.product": _asks_for(
        r"products?|brands?|toys?|cigarettes?|soap|razor|toothpaste|deodorant|detergent"
        r"|weapons?|clothing|garments?|hats?|shoes?|computers?|dolls?|guns?|invention|machines?"
    ),
    "enty.religion": _asks_for(r"religions?|faiths?|religious (?:sect|denomination)"),
    "enty.sport": (
        _asks_for(r"sports?|games?|exercises?|bowl|races?|card game|board game|event is played")
        + r"|\bplayed (?:at|on|with|in)\b.*\?"
    ),
    "enty.substance": (
        _asks_for(
            r"elements?|metals?|gas|gases|chemicals?|substances?|gems?|gemstones?|stones?|minerals?"
            r"|materials?|liquids?|acid|fuels?|fabrics?|alloys?|ore|oil|compounds?|fibers?"
        )
        + r"|\b(?:made|composed|consists?) of\b"
    ),
    "enty.symbol": _asks_for(
        r"symbols?|trademarks?|emblems?|logos?|zodiac(?:al)? sign|punctuation mark"
    ),
    "enty.techmeth": (
        _asks_for(r"methods?|techniques?|procedures?|strategy|strategies|steps")
        + r"|\bways? (?:to|of|in)\b"
    ),
    "enty.termeq": (
        r"\bwhat (?:do|did|does|would|is|are|was|were|'s) (?:you |they |we |it )?.*"
        r"\b(?:call|called|known as|referred to as|termed)(?: in \S+)? \?"
        r"|\b(?:other|another|common|scientific|medical) (?:name|term) (?:for|of)\b"
        r"|\b(?:what|which)(?: \S+){0,3} term\b(?! mean)|\bthe (?:term|name) (?:for|given)\b"
        r"|^what do (?:you|we) call\b"
    ),
    "enty.veh": _asks_for(
        r"ships?|boats?|planes?|airplanes?|aircraft|trains?|spacecraft|vessels?|submarines?"
        r"|ocean liner|liner|airliner|space shuttle|bomber|automobiles?|rocket|satellite|yacht"
        r"|jet|carriers?|truck|raft|airship|capsule|spaceship|starship|cars?"
    ),
    "enty.word": (
        _asks_for(r"words?|adjectives?|verbs?|nouns?|pronouns?|palindromes?|phrase|saying")
        + r"|\banother word for\b|\brhymes? with\b"
    ),
    "enty.other": _asks_for(
        r"things?|objects?|items?|sex|gender|coins?|stamps?|cards?|awards?|prizes?|trophy|act"
        r"|constellations?|laws?|commercials?|slogan|achievements?|treaty|document|traditions"
        r"|structure|piece|room|task|virtues|maneuver|system|level|excuse|sign"
    ),
    "enty.other.object_of_the_deed": (
        r"^what (?:do|does|did|can|must) (?!.*\b(?:mean|means|stand for|do|look like|believe"
        r"|say|think|call|called|happen|in common|for a living|cost|eat)\b)"
    ),
    "hum.gr.company": _asks_for(
        r"company|companies|corporation|firm|airlines?|manufacturer|maker|network|store|banks?"
        r"|brewery|chain"
    ),
    "hum.gr.people": _asks_for(
        r"teams?|groups?|organizations?|bands?|tribes?|leagues?|party|university|universities"
        r"|colleges?|schools?|family|agency|civilization|army|peoples?|clubs?|gangs?|orchestra"
        r"|society|union|department|quartet|trio|duo|bureau|congregation"
    ),
    "hum.gr.makes": (
        r"^who (?:manufactures?|makes|produces?|produced|developed|publishes|owns|sells|markets)\b"
        r"|^who are (?:the )?\S+ (?:\S+ )?of\b"
    ),
    "hum.ind.creator": (
        r"\bwho (?:first )?(?:wrote|invented|created|painted|discovered|founded|built|composed"
        r"|directed|designed|developed|made|penned|introduced|sang|recorded|published)\b"
    ),
    "hum.ind.role_played": r"\bwho (?:played|portrayed|co-starred|starred|plays|appeared)\b",
    "hum.ind.deed": r"^who (?!is|was|are|were|'s|make|produce|owns|manufacture)\w+ ",
    "hum.ind.who_is_the": r"\bwho (?:is|was|'s|were) (?:the|president|a|king|queen|elected)\b",
    "hum.ind.profession": _asks_for(
        r"actors?|actress|actresses|presidents?|author|writer|singer|poet|king|queen|leader"
        r"|director|inventor|senator|mayor|general|lawyer|boxer|player|quarterback|pitcher"
        r"|coach|explorer|artist|painter|composer|comedian|comedienne|character|hero|detective"
        r"|emperor|pope|wife|husband|son|daughter|father|mother|brother|sister|man|woman|person"
        r"|architect|philosopher|scientist|star|prime minister|vice[- ]president|monarch|spy"
        r"|laureate|girlfriend|dictator|chancellor|god|goddess|entertainer"
        r"|golfer|jockey|cartoonist|playwright|novelist|designer|astronaut|outlaw|gangsters?"
        r"|boy|girl|dancer|musician|host|secretary|witch|prosecutor|prince"
        r"|princess|racer|swimmer|champion|athlete|nurse|doctor|dentist|sleuth|figure|captain"
        r"|men|women|people|celebrities|authors|astronauts|newsmen|member|governor|judge"
        r"|housewife|relative|physician|biochemists?|economist|comic|critic"
    ),
    "hum.ind.of_someone": r"\bwho (?:is|was|'s|were|are) .*'s? (?!.*\bof\b)\S|\bwhose\b|\bwhom\b"
    r"|\bwho\b(?! (?:is|was|are|were)\b)",
    "hum.ind.agent_noun": (
        r"\b(?:what|which) (?:[^\s,]+ ){0,4}?\w+(?:ist|ian|man|woman|eer|tor)s? "
        r"(?:is|was|were|did|wrote|won|said|has|had|\w+ed)\b"
    ),
    "hum.ind.personal_name": (
        r"\b(?:nicknames?|pseudonym|alias|alter ego)\b(?!.*(?:city|state|team|country))"
        r"|\b(?:real|first|last|middle|full|maiden|married|christian|stage|pen|given) names?\b"
    ),
    "loc.city": (
        r"\b(?:what|which|name)(?: \S+){0,5} (?:city|cities|town|towns|village|capitals?|seaport)\b"
        r"(?! 's)"
    ),
    "loc.country": r"\b(?:what|which|name)(?: \S+){0,4} (?:country|countries|nations?)\b",
    "loc.mount": _asks_for(r"mountains?|peaks?|volcano(?:es)?|mountain range"),
    "loc.state": (
        r"\b(?:what|which|name|how many)(?: \S+){0,5} (?:states?|provinces?)\b"
        r"(?! (?:'s|income|animal|bird|flower|tree|song|motto))"
    ),
    "loc.other.water": _asks_for(
        r"rivers?|oceans?|seas?|lakes?|gulf|bay|strait|canal|waterfall|waterway|channel"
    ),
    "loc.other.land": _asks_for(
        r"islands?|continents?|deserts?|county|counties|street|avenue|building|airport|hotel"
        r"|restaurants?|prison|museum|park|stadium|peninsula|highway|valley|region|theat(?:er|re)"
        r"|place|bridge|area|home page|web ?sites?|websites?|url|address|planet|pub|base|zoo"
    ),
    "num.code": (
        r"\b(?:phone|telephone|zip|area|social security|800|fax|hot ?line|toll-free|serial|atomic)"
        r"(?: \S+)? (?:numbers?|codes?)\b|\bzip ?codes?\b|\barea codes?\b"
    ),
    "num.count.how_many": r"\bhow many\b(?! pounds)",
    "num.count.number_of": r"^what (?:is|was|'s|are) (?:\S+ ){0,3}(?:number|population|total)\b",
    "num.date.when": r"^when (?:is|was|were|did|do|does|are|will)\b",
    "num.date.unit": (
        r"\b(?:what|which)(?: \S+){0,3} (?:years?|dates?|days?|months?|century|decade|birthday)\b"
    ),
    "num.dist": (
        r"\bhow (?:far|tall|high|deep|wide|close|thick|near)\b|\bhow long (?:is|was|are|were) "
        r"(?:the|a)\b|\bwhat (?:\S+ ){0,5}(?:distance|height|length|depth|width|diameter"
        r"|radius|altitude|elevation|wingspan)\b"
    ),
    "num.money": (
        r"\bhow much (?:money|did|does|do|is|was|can|would|will|could|should)\b(?!.*\bweigh)"
        r"|\b(?:salary|salaries|minimum wage|fare|prices?|gas tax|worth)\b|\bthe costs?\b"
        r"|\b(?:average|exchange|hourly|ticket) (?:income|cost|rate|pay)\b"
    ),
    "num.ord": r"\bwhat (?:\S+ )?(?:chapter|rank|number president)\b|\branks?\b",
    "num.perc": (
        r"\b(?:percent|percentage|odds|probability|fraction|chances?"
        r"|(?:unemployment|divorce|mortality|birth|literacy|inflation|interest|death|tax) rate)\b"
    ),
    "num.period": (
        r"\bhow (?:long|old)\b|\bwhat (?:\S+ ){0,5}(?:age|life expectancy|life span|lifespan"
        r"|half-life|gestation period|time it takes)\b"
    ),
    "num.volsize": r"\bhow (?:big|large)\b|\bwhat (?:\S+ ){0,3}(?:size|volume|capacity)\b",
    "num.other": (
        r"\bhow (?:often|loud|strong|bright)\b"
        r"|^what (?:is|are|'s|was) (?:\S+ ){0,4}(?:numbers|par|toll|horsepower|latitude|score"
        r"|frequency|wavelength|density|ph|shoe size|iq|calories)\b"
    ),
}


@labeling_function(task="hum")
def trec_hum_desc(question: Mapping[str, str]) -> str | int:
    """Vote "desc" for "who is ...?" where a name and no role follows."""
    match = re.match(r"who (?:is|was) (.*) \?$", question["text"])
    roles = r"\b(?:the|a|an|president|king|queen|that|who|first|only|considered|named|elected)\b"
    if match and len(match[1].split()) <= 3 and not re.search(roles, match[1]):
        return "desc"
    return ABSTAIN


@labeling_function(task="abbr")
def trec_abbr_exp_letters(question: Mapping[str, str]) -> str | int:
    """Vote "exp" for "what is ...?" where the rest is too short or has no vowel, like "bph"."""
    match = re.match(
        r"what (?:is|are|does) (?:an? |the )?([a-z.&]+)(?: mean)? \?$", question["text"]
    )
    if match and (not re.search("[aeiouy]", match[1]) or "." in match[1] or len(match[1]) < 4):
        return "exp"
    return ABSTAIN


def _table_lfs() -> list[LabelingFunction]:
    """Make the functions of the two tables; "desc.def.meaning" becomes "trec_desc_def_meaning"."""
    lfs = []
    for key, keywords in _KEYWORDS.items():
        task, label = key.split(".")[:2]
        lfs.append(keyword_lf("trec_" + key.replace(".", "_"), task, label, keywords))
    for key, pattern in _PATTERNS.items():
        task, label = key.split(".")[:2]
        lfs.append(regex_lf("trec_" + key.replace(".", "_"), task, label, pattern))
    return lfs


TREC_LFS: tuple[LabelingFunction, ...] = (*_table_lfs(), trec_hum_desc, trec_abbr_exp_letters)
