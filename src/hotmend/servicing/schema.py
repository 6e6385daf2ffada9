"""`python -m hotmend.servicing.schema` prints the JSON schema of machine facts, as docs/facts.schema.json has it."""

from __future__ import annotations

import json
import sys

from hotmend.servicing.facts_json import facts_schema

if __name__ == "__main__":
    json.dump(facts_schema(), sys.stdout, indent=1)
    sys.stdout.write("\n")
