#!/usr/bin/env bash
# Set the environment variables of psql, for the deployment postgres. Source this file in bash or zsh.
# shellcheck source=scripts/exports.sh
source "$(dirname -- "${BASH_SOURCE[0]:-$0}")/exports.sh" psql
