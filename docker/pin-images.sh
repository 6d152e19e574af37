#!/bin/sh
# Writes docker/images.lock.yml (or the file that is named): the digest of every image that others
# publish. A tag may be moved to another image; a digest never is. Needs curl and nothing else.
#
#   sh docker/pin-images.sh
#   echo COMPOSE_FILE=docker-compose.yml:docker/images.lock.yml >>.env
#
# DOCKER_HUB=https://mirror.example.org asks a mirror of Docker Hub. A registry that wants a login
# gets it from ~/.netrc.
set -eu
here=$(dirname "$0")
out=${1:-$here/images.lock.yml}
hub=${DOCKER_HUB:-https://registry-1.docker.io}
# Without these a registry names the image of one platform instead of the list of all.
accept='Accept: application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json'

fail() {
    echo "$1 Nothing was written." >&2
    exit 1
}

ask() { # the answer of a URL; further arguments are curl's
    curl --silent --show-error --location --netrc-optional --max-time 60 "$@"
}

field() { # a header's value, of the last answer where there were redirections
    printf '%s\n' "$2" | tr -d '\r' |
        awk -F ': *' -v name="$1" 'tolower($1) == name { sub("[^:]*: *", ""); value = $0 }
            END { print value }'
}

part() { # the value of a name in a challenge such as: Bearer realm="...",service="..."
    printf '%s\n' "$2" | sed -n "s/.*$1=\"\([^\"]*\)\".*/\1/p"
}

digest_of() {
    name=${1%:*}
    tag=${1##*:}
    case $name in
        *[.:]*/* | localhost/*) registry=https://${name%%/*} repository=${name#*/} ;;
        */*) registry=$hub repository=$name ;;
        *) registry=$hub repository=library/$name ;;
    esac
    url=$registry/v2/$repository/manifests/$tag
    headers=$(ask --head --header "$accept" "$url") ||
        fail "The registry did not answer for $1: check the network, or set DOCKER_HUB to a mirror."
    challenge=$(field www-authenticate "$headers")
    if [ -n "$challenge" ]; then
        scope=$(part scope "$challenge")
        answer=$(ask --fail --get --data-urlencode "service=$(part service "$challenge")" \
            --data-urlencode "scope=${scope:-repository:$repository:pull}" \
            "$(part realm "$challenge")") ||
            fail "The registry gave no token to read $1: if it wants a login, put it into ~/.netrc."
        token=$(printf '%s' "$answer" | tr -d '\n' |
            sed -n 's/.*"\(access_\)\{0,1\}token" *: *"\([^"]*\)".*/\2/p')
        headers=$(ask --head --header "$accept" --header "Authorization: Bearer $token" "$url") ||
            fail "The registry stopped answering for $1: try again."
    fi
    digest=$(field docker-content-digest "$headers")
    printf '%s' "$digest" | grep -Eqx 'sha256:[0-9a-f]{64}' ||
        fail "The registry names no digest of $1 ($(printf '%s' "$headers" | grep '^HTTP' | tail -n 1 |
            tr -d '\r')): is its name right in docker-compose.yml?"
    printf '%s' "$digest"
}

command -v curl >/dev/null || fail "curl is missing: install it."
# The images that the compose file names itself, without those that are built here.
images=$(awk '/^[^ #]/ { inside = /^services:/ }
    inside && /^  [a-z]/ { sub(":", "", $1); service = $1 }
    inside && /^    image: / && $2 !~ /\$/ { print service, $2 }' "$here/../docker-compose.yml")
python=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$here/Dockerfile")

lines=$(printf '%s\n' "$images" | while read -r service image; do
    digest=$(digest_of "$image") || exit 1
    echo "  $service: {image: \"$image@$digest\"}"
done)
digest=$(digest_of "$python")
for service in api migrate prepare prepare-cpu worker-generate worker-train worker-generate-cpu worker-train-cpu; do
    lines="$lines
  $service: {build: {args: {PYTHON_IMAGE: \"$python@$digest\"}}}"
done

printf '%s\n' "# Written by docker/pin-images.sh on $(date -u +%Y-%m-%d). Run it again to take what the tags mean by then." \
    services: "$lines" >"$out.part"
mv "$out.part" "$out"
echo "$out is written. In .env: COMPOSE_FILE=docker-compose.yml:$out"
