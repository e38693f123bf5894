#!/bin/sh
# Wakes workers wherever something can start one: asks the town how many are missing, starts them.
#
#   TOWN=https://town.example START='docker start tinytown-worker-1' deploy/poll.sh
#   TOWN=… START='fly machine start …' KEY="$PROBE_KEY" deploy/poll.sh once         # for cron
#
# It never stops one: workers go home by themselves. Between changes the town holds the request
# (up to WAIT seconds), so that a new mission is seen at once and an idle town costs two requests a
# minute. It needs sh, curl, grep and head.
set -u
: "${TOWN:?the address of the townhall}" "${START:?the command that starts one worker}"
WAIT=${WAIT:-30} BOOT=${BOOT:-5} seq=
[ "${1:-}" != once ] || WAIT=0

number() { printf %s "$signal" | grep -o "\"$1\":[0-9]*" | head -n 1 | grep -o '[0-9]*$'; }

while :; do
    # Not knowing is not zero: a 503 or no answer changes nothing, and is asked again.
    if signal=$(curl -fsS --max-time $((WAIT + 15)) ${KEY:+-H "Authorization: Bearer $KEY"} \
        "$TOWN/api/scaling?wait=$WAIT${seq:+&seq=$seq}") && missing=$(number start); then
        seq=$(number seq)
        for _ in $(seq "$missing"); do sh -c "$START" || echo "poll.sh: could not start one" >&2; done
        # Until they have registered, the town cannot count them and would ask for them again.
        [ "$missing" = 0 ] || sleep "$BOOT"
    elif [ "${1:-}" = once ]; then exit 1; else sleep 5; fi
    [ "${1:-}" != once ] || exit 0
done
