#!/usr/bin/env bash
# Set the environment variables of cf, and log in to the deployment cf. Source this file in bash or zsh.
# shellcheck source=scripts/exports.sh
source "$(dirname -- "${BASH_SOURCE[0]:-$0}")/exports.sh" cf &&
  cf api "$CF_API" --skip-ssl-validation &&
  cf auth
