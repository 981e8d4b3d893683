# SPDX-License-Identifier: MIT
# usage: zsh -f complete.zsh SCRIPT SCRATCH_FILE COMMAND_LINE...
# Completes command lines in an interactive zsh, and prints what it offers for each.
zmodload zsh/zpty
script=$1 offered=$2
shift 2
zpty shell zsh -f -i
ready() { local seen; zpty -r -m shell seen '*<DONE>*' }
tell() { zpty -w shell "$1; print '<DO''NE>'"; ready }
tell 'PS1= RPS1=; stty -echo; autoload -Uz compinit; compinit -u -D'
tell "source ${(q)script}"
tell 'compadd () {
  local -a found
  (( ${@[(I)-[OAD]]} )) || { builtin compadd -A found "$@"; print -rl -- $found >>'${(q)offered}'; }
  builtin compadd "$@"
}'
tell 'offer () { zle list-choices; print "<DO""NE>"; BUFFER=; }; zle -N offer; bindkey "^X" offer'
for line; do
  : >$offered
  zpty -w -n shell "$line"$'\x18'
  ready
  print -r -- "$line => ${(j: :)${(ou)${(f)$(<$offered)}}}"
done
zpty -d shell
