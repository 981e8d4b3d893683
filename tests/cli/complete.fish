# SPDX-License-Identifier: MIT
# usage: fish complete.fish SCRIPT COMMAND_LINE...
# Completes command lines, and prints what is offered for each.
source $argv[1]
set -e argv[1]
for line in $argv
    set offered (complete -C $line | string replace -r '\t.*' '')
    echo "$line => $offered"
end
