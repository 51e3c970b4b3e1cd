"""Negations, and what to say instead: an image model draws what is named, the "no" before it notwithstanding."""

from __future__ import annotations

import re

NEGATIONS = {
    "en": re.compile(
        r"(?<![-\w])(?:without(?: any)?|no(?!\.? ?\d)(?! longer| sooner| less| more than| matter| doubt)"
        r"(?: (?:one|visible))?|not(?! only)|nobody|nothing(?! but)|none(?! other)|never|neither|cannot"
        r"|(?:do|does|did|is|are|was|were|has|have|can|should|must)n['’]t"
        r"|(?:free|devoid) of|absence of|lack of|exclude|avoid)(?![-\w])",
        re.I,
    ),
    "ru": re.compile(
        r"(?<![-\w])(?:без|нет|не(?! только)|ни|никого|ничего|никаких|никто|никогда|отсутству\w+)(?![-\w])", re.I
    ),
    "zh": re.compile(
        r"没有|没人|不要|不带|不含|不包含|不能有|不是|禁止|避免|无(?=人(?!机|物)|文字|水印|背景|云|阴影|标志)"
    ),
    "de": re.compile(
        r"(?<![-\w])(?:ohne(?: jegliche\w*)?|kein(?:e[nmrs]?)?|nicht(?! nur)|nie|niemals|niemand|nichts|weder"
        r"|frei von)(?![-\w])",
        re.I,
    ),
}
_INSTEAD = {
    "en": {
        r"people|persons?|humans?|crowds?|one|nobody": "an empty, deserted place",
        r"clouds?": "a clear blue sky",
        r"beard|facial hair": "clean-shaven",
        r"hair": "bald",
        r"glasses|eyeglasses": "bare eyes",
        r"shoes|footwear": "barefoot",
        r"hat|cap|headwear": "bare-headed",
        r"make-?up": "a natural, bare face",
        r"shadows?": "soft, even light",
        r"blur|blurry|blurriness": "in sharp focus",
        r"noise|grain|grainy": "a clean, smooth picture",
        r"text|words|letters|watermarks?|logos?": "plain, unmarked surfaces",
        r"background": "a plain grey studio backdrop",
        r"trees": "open grassland",
        r"cars?|traffic": "an empty road",
        r"colou?rs?": "black and white",
        r"smil(?:e|es|ing)": "a serious expression",
        r"snow|rain": "a dry, clear day",
        r"leaves": "bare branches",
        r"waves": "a mirror-smooth sea",
        r"furniture": "an empty room",
        r"wrinkles": "smooth skin",
        r"dark|darkness": "brightly lit",
    },
    "ru": {
        r"люд(?:ей|и)|человека?|толп[аы]|никого": "безлюдное место",
        r"облак(?:ов|а)|туч[аи]?": "ясное небо",
        r"бород[аы]": "гладко выбритое лицо",
        r"очк(?:ов|и)": "открытый взгляд",
        r"обув[иь]|ботин(?:ок|ки)": "босиком",
        r"шап(?:ки|ка)|шляп[аы]": "с непокрытой головой",
        r"тен(?:ей|и)": "мягкий ровный свет",
        r"текста?|надпис(?:ей|и|ь)": "гладкие чистые поверхности",
        r"фона?": "ровный серый фон",
        r"машин[аы]?|автомобил(?:ей|и)": "пустая дорога",
        r"улыб(?:ки|ка)": "серьёзное выражение лица",
        r"размыт\w+": "резкий фокус",
        r"снега?|дождя?|дождь": "сухой ясный день",
    },
    "zh": {
        "人|人物|行人": "空无一人的场景",
        "云|云彩|乌云": "晴朗的蓝天",
        "胡子|胡须": "脸刮得很干净",
        "眼镜": "裸眼",
        "鞋子?": "赤脚",
        "帽子": "露出头发",
        "阴影|影子": "柔和均匀的光线",
        "文字|水印|标志": "干净的表面",
        "背景": "纯灰色背景",
        "车|汽车": "空旷的道路",
        "模糊": "清晰对焦",
    },
    "de": {
        r"menschen|personen|leute|niemand": "menschenleer",
        r"wolken?": "klarer blauer Himmel",
        r"bart": "glatt rasiert",
        r"haare": "kahlköpfig",
        r"brille": "unbedeckte Augen",
        r"schuhe": "barfuß",
        r"hut|mütze": "barhäuptig",
        r"schatten": "weiches, gleichmäßiges Licht",
        r"text|schrift|wasserzeichen": "glatte, leere Flächen",
        r"hintergrund": "einfarbig grauer Hintergrund",
        r"autos?|verkehr": "eine leere Straße",
        r"unscharf|unschärfe": "gestochen scharf",
        r"lächeln": "ernster Blick",
        r"schnee|regen": "ein trockener, klarer Tag",
    },
}
_LEADING = {
    "en": re.compile(r"(?:no|not|without(?: any)?|free of|don['’]t (?:show|draw|include)|avoid|exclude) +", re.I),
    "ru": re.compile(r"(?:не|нет) +", re.I),
    "zh": re.compile("(?:没有|不要|不带|不含|避免|禁止)"),
    "de": re.compile(r"(?:kein(?:e[nmrs]?)?|ohne|nicht) +", re.I),
}


def positive_of(thing: str, language: str) -> str | None:
    """What to say instead of "no `thing`", where there is a usual way to say it."""
    words = re.sub(r"^(?:an?|the|any|visible) ", "", thing.strip().lower())
    for pattern, positive in _INSTEAD[language].items():
        if re.match(rf"(?:{pattern})(?![-\w])", words) if language != "zh" else re.match(pattern, words):
            return positive
    return None


def without_negation(text: str, language: str) -> str:
    """A negative prompt's text without "no" before each thing: there, it would mean the opposite."""
    parts = re.split(r"([,，、;]\s*)", text)
    made = [_LEADING[language].sub("", part, count=1) if _LEADING[language].match(part) else part for part in parts]
    return "".join(made)
