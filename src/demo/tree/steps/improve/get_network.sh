#!/bin/sh
# SPDX-License-Identifier: MIT
# Waits for the network.
dhcpcd --waitip=4
