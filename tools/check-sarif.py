#!/usr/bin/env python3
"""Validates what `anatomy scan --sarif` writes against the official schema.

    pip install jsonschema
    check-sarif.py sarif-schema-2.1.0.json PATH...

The schema: https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json
"""
import json
import os
import subprocess
import sys

import jsonschema

schema = json.load(open(sys.argv[1]))
out = subprocess.run([os.environ.get("ANATOMY", "target/debug/anatomy"), "scan", "--sarif", *sys.argv[2:]], capture_output=True, text=True)
document = json.loads(out.stdout)
validator = jsonschema.validators.validator_for(schema)(schema)
errors = list(validator.iter_errors(document))
for error in errors[:20]:
    print("/".join(map(str, error.absolute_path)), error.message[:200])
run = document["runs"][0]
for result in run["results"]:
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
print(f"{len(run['results'])} results, {len(run['tool']['driver']['rules'])} rules, {len(errors)} errors")
sys.exit(bool(errors))
