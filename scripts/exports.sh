#!/usr/bin/env bash
# Set the environment variables that `util env NAME` prints. NAME is the first argument. Source this file in bash or zsh,
# in the directory of state.json, or set STATE_DIR to that directory.
if util_exports=$("$(dirname -- "${BASH_SOURCE[0]:-$0}")/../bin/util" env "$1"); then
  eval "$util_exports"
  unset util_exports
else
  unset util_exports
  false
fi
