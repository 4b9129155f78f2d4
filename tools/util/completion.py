"""Completion scripts for bash and zsh."""

from __future__ import annotations

import string
from collections.abc import Iterable

from shell import UtilError

SCRIPTS = {
    "bash": """_util() {
  local word=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "$subcommands --dry-run --help" -- "$word"))
    return
  fi
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --dry-run | help) COMPREPLY=($(compgen -W "$subcommands" -- "$word")) ;;
    env) COMPREPLY=($(compgen -W "$clients" -- "$word")) ;;
    completion) COMPREPLY=($(compgen -W "bash zsh" -- "$word")) ;;
  esac
}
complete -o default -F _util util
""",
    "zsh": """_util() {
  if (( CURRENT == 2 )); then
    compadd -- $subcommands --dry-run --help
    return
  fi
  case ${words[CURRENT - 1]} in
    --dry-run | help) compadd -- $subcommands ;;
    env) compadd -- $clients ;;
    completion) compadd -- bash zsh ;;
    *) _files ;;
  esac
}
if ! (( $+functions[compdef] )); then
  autoload -Uz compinit && compinit
fi
compdef _util util
""",
}


def script(shell: str, *, subcommands: Iterable[str], clients: Iterable[str]) -> str:
    """Return the completion script of a shell. `clients` are the arguments of env.

    Raise UtilError for a shell other than bash and zsh.
    """
    if shell not in SCRIPTS:
        raise UtilError(f"there is no completion for {shell}; use bash or zsh")
    template = string.Template(SCRIPTS[shell])
    return template.safe_substitute(subcommands=" ".join(subcommands), clients=" ".join(clients))
