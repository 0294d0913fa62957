"""Prints the words that a program's manual, as Debian has it, gives for its configuration: one a line.

usage: peer_options.py fetchmail|mpop|getmail|fdm
"""

import gzip
import re
import subprocess
import sys


def read(path):
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as page:
        return page.read().replace("\\-", "-")


def section(page, name):
    return re.split(rf'^\.SH "?{name}.*$', page, flags=re.M)[1].split("\n.SH")[0]


def options(text):
    """Long options, without the dashes, and `no` of what can be negated."""
    return [option.removeprefix("no") for option in re.findall(r"(?<![-\w])--([a-z][a-z-]+)", text)]


def fetchmail():
    page = read("/usr/share/man/man1/fetchmail.1.gz")
    # Tables of keywords; `local[domains]` may be written in short.
    for table in page.split("\n.TS\n")[1:]:
        if "Keyword" in table[:80]:
            for row in re.findall(r"^([a-z][a-z0-9 \[\]-]*?) *\t", table.split("\n.TE")[0], re.M):
                yield row.replace("[", "").replace("]", "").removeprefix("set ").strip()
    yield from options("\n".join(re.findall(r"^\.B .*", page, re.M)))


def mpop():
    page = read("/usr/share/man/man1/mpop.1.gz")
    yield from re.findall(r'^\.IP "?([a-z_]+)', section(page, "USAGE"), re.M)
    yield from (option.replace("-", "_") for option in options(section(page, "OPTIONS")))


def getmail():
    page = read("/usr/share/doc/getmail6/configuration.txt.gz")
    yield from re.findall(r"^ +[*] ([a-z_-]+) \(", page, re.M)
    yield from re.findall(r"^ +[*] ([A-Z]\w+)Retriever ", page, re.M)
    yield from re.findall(r"^ +[*] (Maildir|Mboxrd|MDA_\w+|Multi[DSG]\w+|Filter_\w+) ", page, re.M)
    help_text = subprocess.run(["getmail", "--help"], capture_output=True, text=True, check=True).stdout
    yield from (option.replace("-", "_") for option in options(help_text))


def fdm():
    yield from re.findall(r"\bIc (?:set )?([a-z][a-z0-9-]+)", read("/usr/share/man/man5/fdm.conf.5.gz"))
    yield from re.findall(r"^\.It Fl (\w)", read("/usr/share/man/man1/fdm.1.gz"), re.M)


for word in sorted(set(globals()[sys.argv[1]]())):
    print(word)
