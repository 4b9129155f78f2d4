#!/usr/bin/env bash
# `source ./util.sh` defines the command `util`; `./util.sh SUBCOMMAND` runs a subcommand. See bin/util.
if [ -n "${BASH_VERSION-}" ]; then
  util_home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
else
  util_home=$(cd "$(dirname "$0")" && pwd) # zsh: $0 of a sourced file is that file
fi

util() {
  "$util_home/bin/util" "$@"
}

case ${0##*/} in
  util.sh) [ -n "${ZSH_EVAL_CONTEXT-}" ] && [ "${ZSH_EVAL_CONTEXT%:file*}" != "$ZSH_EVAL_CONTEXT" ] || util "$@" ;;
  *) echo "'util' now available." ;;
esac
