"""Holds the documents of a Kubernetes manifest against the models that its Python client is generated with from Kubernetes'
own OpenAPI description (Debian: python3-kubernetes), and prints what they have no place for, lack, or give another type."""

import re
import sys

import yaml
from kubernetes import client

PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object, "datetime": str}


def look(value, kind, at):
    """Gives the mistakes in a value that should be of this kind."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            return [f"{at}: no list"]
        return [told for place, each in enumerate(value) for told in look(each, inner[1], f"{at}[{place}]")]
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            return [f"{at}: no map"]
        return [told for key, each in value.items() for told in look(key, "str", at) + look(each, inner[1], f"{at}.{key}")]
    if kind in PLAIN:
        fits = isinstance(value, PLAIN[kind]) and (kind in ("bool", "object") or not isinstance(value, bool))
        return [] if fits else [f"{at}: {value!r} is no {kind}"]
    model = getattr(client, kind)
    if not isinstance(value, dict):
        return [f"{at}: no {kind}"]
    names = {name: own for own, name in model.attribute_map.items()}
    told = [f"{at}.{name}: {kind} has no such field" for name in value if name not in names]
    known = {names[name]: each for name, each in value.items() if name in names}
    for own, each in known.items():
        told += look(each, model.openapi_types[own], f"{at}.{model.attribute_map[own]}")
    try:
        # Says what must be there.
        model(**known)
    except ValueError as error:
        told.append(f"{at}: {error}")
    return told


mistakes = []
for document in yaml.safe_load_all(open(sys.argv[1])):
    group, _, version = document["apiVersion"].rpartition("/")
    kind, version = document["kind"], version.capitalize()
    calls = getattr(client, f"{group.split('.')[0].capitalize() or 'Core'}{version}Api", None)
    if hasattr(calls, "create_namespaced_" + re.sub("(?<!^)(?=[A-Z])", "_", kind).lower()):
        mistakes += look(document, version + kind, kind)
    else:
        mistakes.append(f"{document['apiVersion']} has no {kind}")
print(*mistakes, sep="\n", end="")
sys.exit(bool(mistakes))
