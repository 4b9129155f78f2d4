#!/usr/bin/env bash
# Run bin/util, or define the shell function util in bash or zsh:
#
#   ./util.sh SUBCOMMAND
#   source ./util.sh
if [ -n "${BASH_VERSION-}" ]; then
  util_home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
else
  util_home=$(cd "$(dirname "$0")" && pwd) # in zsh, $0 is the sourced file
fi

util() {
  "$util_home/bin/util" "$@"
}

case ${0##*/}:${ZSH_EVAL_CONTEXT-} in
  util.sh:*:file*) echo "The shell function util is defined." ;; # zsh sources this file
  util.sh:*) util "$@" ;;
  *) echo "The shell function util is defined." ;;
esac
