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

# The admin socket's address in a server's tine.json.
admin() { sed -n 's/^ *"admin": "\(.*\)",$/\1/p' "$1/tine.json"; }

# What the balancer asks.
is_ready() { curl -sf -m 2 -o /dev/null "http://$(admin "$1")/readyz"; }

is_running() { [ -f "$1/tine.pid" ] && kill -0 "$(cat "$1/tine.pid")" 2>/dev/null; }

stop() { ! is_running "$1" || tine stop --pid-file "$1/tine.pid"; }

# Waits until the server is ready, or has ended because it cannot start.
start() {
  (cd "$1" && exec setsid tine serve </dev/null >>server.log 2>&1) &
  while kill -0 $! 2>/dev/null; do
    ! is_ready "$1" || return 0
    sleep 0.1
  done
  return 1
}

reload() { tine reload --pid-file "$1/tine.pid"; }

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
