# SPDX-License-Identifier: MIT
# usage: bash complete.bash SCRIPT COMMAND_LINE...
# Completes the last word of command lines as bash does, and prints what is offered for each.
set -u
# shellcheck source=/dev/null
source "$1"
shift
for line in "$@"; do
	# "=" is a word of its own, as it is in COMP_WORDBREAKS.
	IFS=' ' read -r -a COMP_WORDS <<<"${line//=/ = }"
	case $line in *[\ =]) COMP_WORDS+=('') ;; esac
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	"$(complete -p seedstrap | sed 's/.*-F \([^ ]*\).*/\1/')" 2>&1
	echo "$line => ${COMPREPLY[*]}"
done
