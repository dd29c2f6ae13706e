"""The JSON Schema of ``scaling.json``, made of the report's dataclasses.

    python -m dist_llm.scalability.schema > docs/scaling.schema.json

What the fields mean, and what gives the report another format, is in docs/SCALING_JSON.md.
"""

import inspect
import json
from typing import Any, get_type_hints

import msgspec

from dist_llm.config import Config
from dist_llm.scalability.report import FORMAT, Report

COMMAND = "python -m dist_llm.scalability.schema > docs/scaling.schema.json"


def schema() -> dict[str, Any]:
    """Return the schema of a report of this `FORMAT`, in draft 2020-12."""
    found = msgspec.json.schema(Report)
    definitions = found["$defs"]
    # Settings come and go without another format of the report: `Config` reads older ones.
    for section in get_type_hints(Config).values():
        del definitions[section.__name__]
    definitions["Config"] = {"type": "object", "title": "Config", "description": definitions["Config"]["description"]}
    for definition in definitions.values():
        definition["description"] = inspect.cleandoc(definition["description"])
    definitions["Report"]["properties"]["format"] = {"const": FORMAT}
    definitions["Report"]["required"].append("format")
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": f"scaling.json of dist_llm, format {FORMAT}", **found}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
