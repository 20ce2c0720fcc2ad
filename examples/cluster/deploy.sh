#!/usr/bin/env bash
# Rolls a release out to servers, one after the other. It stops at the first server
# that does not come up with it: the others serve on with the release that they have.
#
#     deploy.sh reload|restart RELEASE SERVER...
#
# RELEASE is a folder with the app. SERVER is a folder with a tine.json, and in it
# "current", a link to the release that is served. On machines of their own each command
# in start(), stop() and reload() goes through ssh, or is systemctl's.
set -euo pipefail

usage() {
  echo "usage: deploy.sh reload|restart RELEASE SERVER..." >&2
  exit 2
}

# A value in a server's tine.json.
setting() { sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\).*/\1/p" "$1/tine.json"; }

# What the balancer asks.
is_ready() { curl -sf -m 2 -o /dev/null "http://$(setting "$1" admin)/readyz"; }

# The figure of a metric.
metric() { curl -sf -m 2 "http://$(setting "$1" admin)/metrics" | sed -n "s/^$2 //p"; }

# Waits for a minute until a command succeeds.
await() {
  local tries
  for tries in {1..600}; do
    "$@" && return
    sleep 0.1
  done
  return 1
}

is_running() { [ -f "$1/tine.pid" ] && kill -0 "$(cat "$1/tine.pid")" 2>/dev/null; }
is_stopped() { ! is_running "$1"; }

stop() {
  is_running "$1" || return 0
  kill -TERM "$(cat "$1/tine.pid")"
  await is_stopped "$1"
}

start() {
  local pid
  (cd "$1" && exec setsid tine serve </dev/null >>server.log 2>&1) &
  pid=$!
  is_up() { is_ready "$1" || ! kill -0 $pid 2>/dev/null; }
  await is_up "$1" && is_ready "$1"
}

has_reloaded() {
  local now
  now=$(metric "$1" tine_last_reload_timestamp_seconds) && [ -n "$now" ] && [ "$now" != "$2" ]
}

reload() {
  local before
  before=$(metric "$1" tine_last_reload_timestamp_seconds)
  kill -HUP "$(cat "$1/tine.pid")"
  await has_reloaded "$1" "$before"
  [ "$(metric "$1" tine_last_reload_success)" = 1 ]
}

# Exchanges the link at once: there is no moment without one.
link() { ln -sfn "$2" "$1/next" && mv -T "$1/next" "$1/current"; }

[ $# -ge 3 ] || usage
how=$1
release=$(realpath -e "$2")
shift 2
case $how in reload | restart) ;; *) usage ;; esac

for server in "$@"; do
  before=$(readlink "$server/current" || true)
  link "$server" "$release"
  deployed=true
  if [ "$how" = restart ]; then
    stop "$server" && start "$server" || deployed=false
  else
    reload "$server" || deployed=false
  fi
  if [ $deployed = false ]; then
    [ -z "$before" ] || link "$server" "$before"
    echo "$server: does not come up with $release: stopped the deployment" >&2
    exit 1
  fi
  echo "$server: $release"
  # The balancer must have seen it before the next one goes.
  [ "$how" = reload ] || sleep "${SETTLE:-2}"
done
