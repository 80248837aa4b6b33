#!/usr/bin/env python3
"""Writes a corpus for comparing tokenizers: one JSON string a line, the same lines at every run.

usage: tokenizer-corpus.py [LINES] [TOKEN...]   (default 10,000 lines; TOKENs are special tokens to write into texts)

Code, prose in many scripts, emoji, combining marks, runs of blanks, control characters, numbers, long words, marks of
other tokenizers, letters that were new in each version of Unicode, and random characters of the whole of it.
"""
import json
import random
import sys

WORDS = {
    "latin": "the of and to in is you that it he was for on are with as I his they be at one have this from or had by hot "
             "word but what some we can out other were all there when up use your how said an each she which do their time "
             "if will way about many then them would write like so these her long make thing see him two has look more day",
    "contractions": "don't I'll we've they're it's he'd I'm DON'T I'LL WE'VE THEY'RE IT'S y'all o'clock 'tis rock'n'roll "
                    "l'été d'accord qu'il can’t won’t 'S 'T 'RE 'Ve 'sSome it'ſ I'Ⅿ",
    "german": "Straße Größe über Äpfel Öl Übung Donaudampfschifffahrtsgesellschaft daß müßte STRASSE ẞ",
    "french": "élève garçon où œuvre naïve Noël À bientôt s'il vous plaît «guillemets»",
    "vietnamese": "Cửa Việt người tiếng đường phố được không những một nước",
    "polish": "Zażółć gęślą jaźń źdźbło święto Łódź",
    "turkish": "İstanbul ışık ığdır ÇĞİÖŞÜ kâğıt",
    "greek": "Ελληνικά καλημέρα κόσμε ὦ ἄνδρες Ἀθηναῖοι σοφός ΟΔΥΣΣΕΥΣ ΐ",
    "russian": "Привет мир нещо на Български ёлка Ѣ съешь же ещё этих мягких французских булок",
    "hebrew": "שלום עולם בְּרֵאשִׁית בָּרָא אֱלֹהִים",
    "arabic": "مرحبا بالعالم السَّلَامُ عَلَيْكُمْ ٱلْحَمْدُ لِلَّٰهِ ١٢٣٤٥ ﷽ لا",
    "persian": "سلام دنیا می‌خواهم ۱۲۳۴ کتاب‌ها",
    "hindi": "नमस्ते दुनिया हिन्दी में कृपया क्षत्रिय १२३४५",
    "bengali": "বাংলা ভাষা কর্তৃপক্ষ আমি ১২৩",
    "tamil": "தமிழ் மொழி வணக்கம் ௧௨௩",
    "telugu": "తెలుగు భాష నమస్కారం క్షమించండి",
    "thai": "สวัสดีชาวโลก ภาษาไทย กินข้าวหรือยัง ๑๒๓",
    "khmer": "កាន់តែពិសេសអាចខលចេញ ភាសាខ្មែរ ១២៣",
    "lao": "ສະບາຍດີ ພາສາລາວ",
    "burmese": "မြန်မာဘာသာ မင်္ဂလာပါ",
    "tibetan": "བོད་སྐད་ བཀྲ་ཤིས་བདེ་ལེགས།",
    "georgian": "გამარჯობა საქართველო Ⴀ ᲐᲑᲒ",
    "armenian": "Բարեւ աշխարհ ﬓ",
    "amharic": "ሰላም ዓለም አማርኛ",
    "chinese": "你好世界 我想在apple工作1314151天～ 中文分词 繁體中文 𠀀𠮷 ㊙ ㎏",
    "japanese": "こんにちは世界 カタカナ ひらがな 半角ｶﾅ 々 ー 〇 ゟ ヿ が は゛",
    "korean": "안녕하세요 세계 한국어 가나다 ᄒ ᆫ ㄱㄴㄷ",
    "mongolian": "ᠮᠣᠩᠭᠣᠯ сайн байна уу",
    "cherokee": "ᏣᎳᎩ ꮳꮃꭹ",
    "gothic": "𐌲𐌿𐍄𐌹𐍃𐌺 𐐀𐐨 𞤀𞤢 𝐀𝒷 𝟘𝟙",
}
CODE = [
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"\n", "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; }",
    "let v: Vec<Option<&'a str>> = vec![None; 16];", "<div class=\"a-b\">&nbsp;</div><!-- x -->", "SELECT * FROM t WHERE id != 10;",
    "\tif err != nil {\n\t\treturn err\n\t}\n", "#include <stdio.h>\r\nint main(void){return 0;}\r\n", "x = {'a': [1, 2.5e-3], \"b\": None}",
    "https://example.com/a/b?c=d&e=%20f#g", "user@host:~/src$ ls -la | grep '^d' && echo \"done\"", "{\"key\": \"value\\n\", \"n\": -1.0E+10}",
    "\\documentclass{article} $\\alpha_{i} \\ne \\beta^{2}$", "0xDEADBEEF 0b1010 1_000_000 1e10 .5 5.", "a||b&&!c??d?.e", "/* é */ // 漢字",
]
EMOJI = ["😀", "😶‍🌫️", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "👍🏽", "🦙", "✅", "❤️", "1️⃣", "🫨", "🪿", "🫩", "\U0001fae9", "🚀", "㊗️", "™️"]
MARKS = ["e\u0301", "o\u0308", "\u1100\u1161\u11a8", "a\u0300\u0301\u0302\u0303", "\u0301", "क\u093c", "ﬁ", "ﬀ", "①", "½", "ℌ", "Å", "Ω", "K", "ſ", "ǅ",
         "İ", "\u0345", "שׁ", "㍿", "ﾊﾞ", "\u0f71\u0f72", "ñ", "\u0344", "𑤸", "\u1e9b\u0323", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘"]
BLANKS = [" ", "  ", "   ", "    ", "        ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r", " \n", "\n ", "  \n  \n", "\u00a0", "\u2003",
          "\u3000", "\u2028", "\u2029", "\u0085", "\u000b", "\u000c", "\u1680", "\u200b", "\u202f", "\ufeff", "\u180e", " " * 33, "\t" * 9, "\n" * 17]
CONTROLS = ["\0", "\x01", "\x07", "\x1b[31m", "\x7f", "\x1c", "\x1f", "\x80", "\x9f", "\u00ad", "\u200d", "\u200e", "\u202e", "\u2066", "\ufffd", "\ufffe",
            "\uffff", "\U0010ffff", "\ue000", "\U000e0041", "\u2060"]
NUMBERS = ["0", "7", "42", "123", "1234", "12345", "123456", "1234567", "1234567890123456789", "3.14159", "1,000,000", "-17", "1/2", "²³", "Ⅷ", "٣", "४", "𝟜", "〇", "1st", "v1.2.3"]
MARKUP = ["<s>", "</s>", "<unk>", "<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "<mask>", "<|begin_of_text|>",
          "<|eot_id|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<0x0A>", "<0xE2>", "<|", "|>", "<|im_", "▁", "▁▁a", "Ġ", "##ing",
          "<think>", "</think>", "<|fim_prefix|>", "<unused0>", "<EOT>", "<META>", "<extra_id_0>"]
# First letters, numbers, marks, symbols of Unicode 9 to 17: what a table does not know yet is cut otherwise.
NEW = [0x1E900, 0x11C00, 0x0D4F, 0x0D58, 0x1CED, 0x16FE0, 0x0860, 0x20BF, 0x1C90, 0x10D00, 0x1F9B0, 0x0C77, 0xA7BA, 0x10FE0, 0x1E2C0, 0x08BE, 0x10E80, 0x30000, 0x1FBF0,
       0x1F90C, 0x0870, 0x1DFA, 0x16A70, 0x12F90, 0x1E7E0, 0x20C0, 0x1DF25, 0x1E4D0, 0x11F00, 0x31350, 0x1D2C0, 0x0CF3, 0x2FFC, 0x2EBF0, 0x31EF, 0x1C89, 0x10D40, 0x10D4A,
       0x105C0, 0x1E5D0, 0x16100, 0x1CC00, 0x1CCF0, 0xA7CB, 0xA7DA, 0x0897, 0x13460, 0x16EA0, 0x1E6C0, 0x323B0, 0x1FA8A, 0x20C1, 0x11DB0, 0x2B73A, 0x1ACF]


def corpus(lines=10_000, special=(), seed=20260101):
    """The lines; texts repeat only by chance."""
    chance = random.Random(seed)
    words = {name: text.split() for name, text in WORDS.items()}
    everything = [word for text in words.values() for word in text]

    def character():
        while True:
            code = chance.choice([chance.randrange(0x80), chance.randrange(0x800), chance.randrange(0x3000), chance.randrange(0x10000),
                                  chance.randrange(0x20000), chance.randrange(0x110000)])
            if not 0xD800 <= code < 0xE000:
                return chr(code)

    def prose(name, count):
        text = " ".join(chance.choice(words[name]) for _ in range(count))
        return text + chance.choice(["", ".", "!", "?", "...", " ,", "。", " !", "?!"])

    def part():
        kind = chance.randrange(12)
        if kind < 4:
            return prose(chance.choice(list(words)), chance.randrange(1, 8))
        if kind == 4:
            return chance.choice(CODE)
        if kind == 11 and special and chance.random() < 0.7:
            return chance.choice(special)
        return chance.choice([EMOJI, MARKS, BLANKS, CONTROLS, NUMBERS, MARKUP, everything, BLANKS, NUMBERS][chance.randrange(9)])

    yield ""
    for text in BLANKS + CONTROLS + EMOJI + MARKS + NUMBERS + MARKUP + CODE + list(special):
        yield text
        yield text + text
        yield "a" + text + "b"
        yield " " + text
        yield text + " "
    for code in NEW:
        yield chr(code)
        yield f"a{chr(code)}b {chr(code)}{chr(code)} 1{chr(code)}2 !{chr(code)}?"
    made = 1 + 5 * (len(BLANKS + CONTROLS + EMOJI + MARKS + NUMBERS + MARKUP + CODE) + len(special)) + 2 * len(NEW)
    for index in range(max(0, lines - made)):
        kind = index % 10
        if kind < 3:
            yield prose(chance.choice(list(words)), chance.randrange(1, 25))
        elif kind < 7:
            yield chance.choice(["", " ", "\n"]).join(part() for _ in range(chance.randrange(1, 8)))
        elif kind == 7:
            yield "".join(character() for _ in range(chance.randrange(1, 40)))
        elif kind == 8:
            yield chance.choice(BLANKS).join(chance.choice(everything) for _ in range(chance.randrange(2, 10)))
        elif index % 100 == 9:
            yield chance.choice(["a", "ab", "天", "नि", "!", "=-", "1", "é", "🙂", "x" * 50 + " ", "\u0301", "ا"]) * chance.randrange(50, 400)
        else:
            yield "".join(chance.choice([chance.choice(everything), chance.choice(NUMBERS), chance.choice("_-./'\"(),;:!?#@&*+=<>[]{}|\\^~`$%")])
                          for _ in range(chance.randrange(2, 14)))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for text in corpus(count, sys.argv[2:]):
        print(json.dumps(text))
