"""What schemathesis must know of OpenZiti's published descriptions before it holds our answers against them.

Used by `cargo xtask api-conformance` as SCHEMATHESIS_HOOKS. Two things are done to a description when it is loaded:

- operations that we do not serve are left out: they answer 404, which tests of the controller check;
- what no controller of OpenZiti keeps either is mended, one entry of ERRATA each. These were seen on release 2.1; everything else
  in the descriptions is held against us as it stands.
"""

import json
import os
import re

import schemathesis

METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


def served():
    """Method and path of everything that our own document says we serve, aliases included."""
    with open(os.environ["EXUVIA_OPENAPI"], encoding="utf-8") as file:
        document = json.load(file)
    pairs = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            also = re.findall(r"`([^`]+)`", operation.get("description", ""))
            pairs.update((method, one.rstrip("/") or "/") for one in [path, *also])
    return pairs


def each_object(value):
    """The value and every object inside it."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from each_object(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from each_object(inner)


def whole_numbers(schema):
    """Lengths are written as 255.0."""
    for part in each_object(schema):
        for name, value in part.items():
            if isinstance(value, float) and value.is_integer():
                part[name] = int(value)


def required_without_property(schema):
    """Names that are required and described nowhere: no controller sends them."""
    for part in each_object(schema.get("definitions", {})):
        if isinstance(part.get("required"), list) and isinstance(part.get("properties"), dict):
            part["required"] = [name for name in part["required"] if name in part["properties"]]


def values_of_tags(schema):
    """Values of tags are described as objects; the text beside it says strings and booleans, and those are sent."""
    tags = schema["definitions"].get("subTags")
    if tags:
        tags["additionalProperties"] = {}


def relative_links(schema):
    """`href` is described as a URI; what is sent is relative."""
    link = schema["definitions"].get("link")
    if link:
        link["properties"]["href"].pop("format", None)


def no_fingerprint_yet(schema):
    """A router that is not enrolled has the fingerprint null."""
    router = schema["definitions"].get("routerDetail", {})
    for part in router.get("allOf", []):
        if "fingerprint" in part.get("properties", {}):
            part["properties"]["fingerprint"]["x-nullable"] = True


def refusals_of_the_server(schema):
    """What the server's own code answers before an operation is reached is described nowhere."""
    envelope = {"description": "refused", "schema": {"$ref": "#/definitions/apiErrorEnvelope"}}
    for methods in schema["paths"].values():
        for method in METHODS:
            if method in methods:
                for status in ("400", "404", "413", "415", "429", "503"):
                    methods[method]["responses"].setdefault(status, envelope)


ERRATA = (whole_numbers, required_without_property, values_of_tags, relative_links, no_fingerprint_yet, refusals_of_the_server)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    if "swagger" not in raw_schema:
        return
    ours, base = served(), raw_schema["basePath"]
    for path, methods in list(raw_schema["paths"].items()):
        full = (base + re.sub(r"\{[^}]*\}", "{id}", path)).rstrip("/") or "/"
        for method in METHODS:
            if method in methods and (method, full) not in ours:
                del methods[method]
        if not any(method in methods for method in METHODS):
            del raw_schema["paths"][path]
    for erratum in ERRATA:
        erratum(raw_schema)
