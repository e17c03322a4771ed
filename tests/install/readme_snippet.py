#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the first ```cpp block of the file named on the command line."""

import re
import sys

match = re.search(r"^```cpp\n(.*?)^```", open(sys.argv[1], encoding="utf-8").read(), re.S | re.M)
if match is None:
    sys.exit(f"{sys.argv[1]}: no ```cpp block")
print(match.group(1), end="")
