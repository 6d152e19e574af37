#!/bin/sh
# Builds the images, starts the whole stack on CPUs and does the main job on it (main-job.sh). What it
# starts is a project of its own, `perfusion-smoke`, with secrets and volumes of its own; all of it but
# the images is removed at the end.
#
#   sh docker/smoke.sh                    a new .env, on 127.0.0.1:8765
#   sh docker/smoke.sh FILE               with this .env
#   KEEP=1 sh docker/smoke.sh             leaves the stack running, to look at it
#   LISTEN=127.0.0.1:9000 sh docker/smoke.sh
#
# Needs Docker with Compose, and curl. TORCH_SHA256 and TORCH_INDEX_URL name a CPU wheel of torch, for
# images of 2 GB instead of 6: docs/operations.md.
set -eu
here=$(dirname "$0")
listen=${LISTEN:-127.0.0.1:8765}
folder=$(mktemp -d)
env_file=${1:-$folder/env}
[ -n "${1:-}" ] || sh "$here/make-env.sh" "$env_file"

stack() {
    PERFUSION_LISTEN=$listen COMPOSE_PROFILES=cpu docker compose --project-name perfusion-smoke \
        --project-directory "$here/.." --file "$here/../docker-compose.yml" --env-file "$env_file" "$@"
}

finish() {
    code=$?
    if [ "$code" -ne 0 ]; then
        stack ps --all || true
        stack logs --no-color --tail 100 || true
    fi
    if [ -z "${KEEP:-}" ]; then
        stack down --volumes --timeout 60 || true
        rm -rf "$folder"
    fi
    exit "$code"
}
trap finish EXIT

stack config --quiet
stack build
stack up --detach
# The workers load torch and the base model: a while on a small machine.
tries=0
until curl --silent --fail --noproxy '*' --max-time 10 --output /dev/null "http://$listen/readyz"; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "http://$listen/readyz is not 200 after ten minutes." >&2 && exit 1; }
    sleep 2
done
key=$(sed -n 's/^PERFUSION_BOOTSTRAP_KEY=//p' "$env_file")
PERFUSION_KEY=$key sh "$here/main-job.sh" "http://$listen"
