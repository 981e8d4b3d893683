#!/bin/sh
# SPDX-License-Identifier: MIT
sort "${DISTFILES}/words-1.0.txt"
