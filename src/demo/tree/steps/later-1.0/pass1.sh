#!/bin/sh
# SPDX-License-Identifier: MIT
cat "${DISTFILES}/later-1.0.txt"
