#!/usr/bin/env bash
# Log in to the UAA of the deployment cf with the client uaa. Source this file in bash or zsh.
# shellcheck source=scripts/exports.sh
source "$(dirname -- "${BASH_SOURCE[0]:-$0}")/exports.sh" uaa-cf &&
  uaa target "$UAA_TARGET" --skip-ssl-validation &&
  uaa get-client-credentials-token "$UAA_CLIENT" --client_secret "$UAA_CLIENT_SECRET"
