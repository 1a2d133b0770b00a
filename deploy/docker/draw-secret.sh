#!/bin/sh
# Draws the password of the containers' Redis, once, into the folder $1:
#   redis.conf       for Redis: admits the user slm only
#   redis-password   for its health check
#   SLM_REDIS_URL    for the API, the workers and Flower
set -eu
cd "$1"
[ -s SLM_REDIS_URL ] && exit 0
password=$(head -c 32 /dev/urandom | sha256sum | cut -c 1-64)
printf 'user default off\nuser slm on >%s ~* &* +@all\n' "$password" > redis.conf
printf '%s' "$password" > redis-password
printf 'redis://slm:%s@redis:6379/0' "$password" > drawn
chmod 0444 redis.conf redis-password drawn # each container has its own user; users of the host cannot read the volume
mv drawn SLM_REDIS_URL # last: it marks the other files as complete
