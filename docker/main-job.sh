#!/bin/sh
# Does the main job over REST, as a stranger would: teaches a concept from one picture in a few steps,
# generates an image with it, and checks that the image is a PNG. Then it deletes the concept.
#
#   PERFUSION_KEY=sk_... sh docker/main-job.sh http://127.0.0.1:8000
#
# Needs curl. The image is written to the folder that $OUT names, if it names one.
set -eu
url=${1:?The address of the server is missing, such as http://127.0.0.1:8000}
here=$(dirname "$0")
picture=$here/../api/demo/art/robot.png # its transparency is the mask
name=smoke-$$
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# In a file: arguments can be read by everyone on the machine.
(umask 077 && printf 'header = "Authorization: Bearer %s"\n' "${PERFUSION_KEY:-}" >"$folder/curl.conf")

ask() { # a request; its answer in one line. An answer that says no ends the script and is shown.
    curl --config "$folder/curl.conf" --silent --show-error --fail-with-body --max-time 90 \
        --noproxy '*' "$@" >"$folder/answer" || {
        echo "The server refused: $(cat "$folder/answer")" >&2
        exit 1
    }
    tr -d '\n' <"$folder/answer"
}

id_of_job() { # of an answer
    printf '%s' "$1" | sed -n 's/.*"id" *: *"\(job_[0-9a-f]*\)".*/\1/p'
}

await() { # until a job has ended; prints it
    tries=0
    while :; do
        job=$(ask "$url/jobs/$1")
        case $job in
            *'"finished_at":null'*) ;;
            *'"status":"succeeded"'*) printf '%s' "$job" && return ;;
            *) echo "The job did not succeed: $job" >&2 && exit 1 ;;
        esac
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { echo "Not done after ten minutes: $job" >&2 && exit 1; }
        sleep 2
    done
}

answer=$(ask --form "images=@$picture" --form "name=$name" --form superclass=robot \
    --form 'training={"max_train_steps": 2, "train_batch_size": 1}' "$url/concepts")
job=$(id_of_job "$answer")
echo "Teaching <$name>: $job"
await "$job" >/dev/null

answer=$(ask --header 'Content-Type: application/json' \
    --data "{\"prompt\": \"a photo of <$name>\", \"num_inference_steps\": 4, \"seed\": 1}" \
    "$url/generate")
job=$(id_of_job "$answer")
echo "Generating: $job"
answer=$(await "$job")
image=$(printf '%s' "$answer" | sed -n 's|.*"url" *: *"\(/images/image_[0-9a-f]*\)".*|\1|p')

ask "$url$image" >/dev/null
cp "$folder/answer" "$folder/image"
if ! head -c 8 "$folder/image" | od -An -tx1 | grep -q '89 50 4e 47'; then
    echo "$url$image is no PNG." >&2
    exit 1
fi
[ -z "${OUT:-}" ] || cp "$folder/image" "$OUT/$name.png"
ask --request DELETE "$url/concepts/$name" >/dev/null
echo "$url$image is a PNG of $(wc -c <"$folder/image") bytes. The main job works."
