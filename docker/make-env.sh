#!/bin/sh
# Writes .env (or the file that is named) from env.example, with a new secret of 256 random bits
# wherever the example has none. A file that is there is left alone.
set -eu
umask 077
set -C # refuse to overwrite
while IFS= read -r line; do
    case $line in
        [A-Z]*= | *=sk_) line=$line$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n') ;;
    esac
    printf '%s\n' "$line"
done <"$(dirname "$0")/env.example" >"${1:-.env}"
