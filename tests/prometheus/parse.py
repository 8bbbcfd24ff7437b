"""Reads a page with Prometheus's own parser, and prints its families as JSON."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    families[family.name] = {
        "type": family.type,
        "help": family.documentation,
        "samples": len(family.samples),
    }
print(json.dumps(families))
