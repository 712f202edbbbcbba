set -eu
file=$(readlink --canonicalize-missing "$1")
mkdir --parents "$(dirname "$file")"
fresh=$(mktemp "$file.XXXXXX")
trap 'rm --force "$fresh"' EXIT
if [ -e "$file" ]; then
  printf %s "$2" | cmp --silent - "$file" || { echo "$file has changed since it was read" >&2; exit 1; }
  cp --archive --backup=numbered "$file" "$file.before-trii-rehearsal"
  cp --archive "$file" "$fresh"
else
  chmod 0644 "$fresh"
fi
printf "%s\n" "$3" >"$fresh"
sync "$fresh"
mv --no-target-directory "$fresh" "$file"
sync "$(dirname "$file")"
