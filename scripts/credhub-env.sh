#!/usr/bin/env bash
# Set the environment variables of credhub, for the CredHub of the director. Source this file in bash or zsh.
# shellcheck source=scripts/exports.sh
source "$(dirname -- "${BASH_SOURCE[0]:-$0}")/exports.sh" credhub
