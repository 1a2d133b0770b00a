#!/bin/sh
# Generates the password of the containers' Redis, once, into the folder $1:
#   redis.conf       for Redis: only the user slm can connect
#   redis-password   for its health check
#   SLM_REDIS_URL    for the API, the workers and Flower
set -eu
cd "$1"
[ -s SLM_REDIS_URL ] && exit 0
password=$(head -c 32 /dev/urandom | sha256sum | cut -c 1-64)
printf 'user default off\nuser slm on >%s ~* &* +@all\n' "$password" > redis.conf
printf '%s' "$password" > redis-password
printf 'redis://slm:%s@redis:6379/0' "$password" > drawn
chmod 0444 redis.conf redis-password drawn # the containers run as different users; the host's users have no access
mv drawn SLM_REDIS_URL # last: its presence means that the other files are complete
