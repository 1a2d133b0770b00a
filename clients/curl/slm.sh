#!/usr/bin/env bash
# A client of an SLM server that needs only bash and curl (curl 7.71 or newer; jq is not needed).

set -euo pipefail
export LC_ALL=C # text is handled as bytes: UTF-8 passes through unchanged

readonly USAGE='usage: slm.sh COMMAND [ARGUMENT]

  generate PROMPT    print the complete answer
  stream PROMPT      print the answer as it is generated; reconnects if necessary
  submit PROMPT      start a job in the background and print its id
  wait JOB           print the answer of a job when it is complete
  follow JOB         print the answer of a job as it is generated
  cancel JOB         cancel a job and print its status
  info               print the model and the queue as JSON

  -o NAME=VALUE      an option of the generation, such as -o max_new_tokens=80 -o seed=1; may be repeated
  PROMPT             the prompt as one argument; - reads standard input

  SLMCLIENT_URL      the server (http://127.0.0.1:5000)
  SLMCLIENT_API_KEY  API key, if the server has keys
  SLMCLIENT_RETRIES  maximum number of retries in a row (5)

Exit status: 0 on success, 1 if the request or the job failed, 2 if the command is wrong.'

readonly URL=${SLMCLIENT_URL:-http://127.0.0.1:5000}
readonly RETRIES=${SLMCLIENT_RETRIES:-5}
readonly ANSWER_S=150 # the server answers 202 after 120 s at the latest
readonly SILENCE_S=45 # an open stream has a heartbeat every 15 s

# Functions return text in REPLY: $(...) would strip trailing newlines.

fail() {
    printf 'slm.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# -- JSON ---------------------------------------------------------------------

json_string() { # TEXT
    local text=$1 code char escape
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    for ((code = 1; code < 32; code++)); do
        printf -v escape '\\%03o' "$code"
        printf -v char '%b' "$escape"
        printf -v escape '\\u%04x' "$code"
        text=${text//"$char"/"$escape"}
    done
    REPLY="\"$text\""
}

json_value() { # TEXT: unchanged if it is JSON, else as a JSON string
    local number='^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$'
    case $1 in
        true | false | \[*\] | \{*\} | \"*\") REPLY=$1 ;;
        *) if [[ $1 =~ $number ]]; then REPLY=$1; else json_string "$1"; fi ;;
    esac
}

# The value of the first field with that name: strings are decoded, other values end at the next comma or brace.
field() { # NAME JSON
    local rest=$2 name="\"$1\": "
    REPLY=
    # Flask writes {"a": 1} in streams and {"a":1} elsewhere.
    [[ $rest == *"$name"* ]] || name="\"$1\":"
    [[ $rest == *"$name"* ]] || return 1
    rest=${rest#*"$name"}
    if [[ $rest == \"* ]]; then
        quoted "${rest#\"}"
        unescape "$REPLY"
    else
        REPLY=${rest%%[,\}]*}
    fi
}

quoted() { # TEXT: the part before the first unescaped quote
    local rest=$1 part slashes
    REPLY=
    while [[ $rest == *\"* ]]; do
        part=${rest%%\"*}
        REPLY+=$part
        slashes=${part##*[!\\]}
        ((${#slashes} % 2)) || return 0
        REPLY+=\"
        rest=${rest#*\"}
    done
}

unescape() { # TEXT
    local rest=$1 out='' code low
    while [[ $rest == *\\* ]]; do
        out+=${rest%%\\*}
        rest=${rest#*\\}
        case $rest in
            n*) out+=$'\n' ;;
            t*) out+=$'\t' ;;
            r*) out+=$'\r' ;;
            b*) out+=$'\b' ;;
            f*) out+=$'\f' ;;
            u*)
                code=$((16#${rest:1:4}))
                if ((code >= 0xD800 && code < 0xDC00)) && [[ ${rest:5:2} == '\u' ]]; then
                    low=$((16#${rest:7:4}))
                    code=$((0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)))
                    rest=${rest:6}
                fi
                utf8 "$code"
                out+=$REPLY
                rest=${rest:4}
                ;;
            *) out+=${rest:0:1} ;;
        esac
        rest=${rest:1}
    done
    REPLY=$out$rest
}

utf8() { # CODE
    local code=$1 bytes
    if ((code < 0x80)); then
        bytes=("$code")
    elif ((code < 0x800)); then
        bytes=($((0xC0 | code >> 6)) $((0x80 | code & 0x3F)))
    elif ((code < 0x10000)); then
        bytes=($((0xE0 | code >> 12)) $((0x80 | code >> 6 & 0x3F)) $((0x80 | code & 0x3F)))
    else
        bytes=($((0xF0 | code >> 18)) $((0x80 | code >> 12 & 0x3F)) $((0x80 | code >> 6 & 0x3F)) $((0x80 | code & 0x3F)))
    fi
    printf -v REPLY '\\x%02x' "${bytes[@]}"
    printf -v REPLY '%b' "$REPLY"
}

request_body() { # PROMPT [NAME=VALUE ...]
    local body pair
    json_string "$1"
    body="{\"prompt\": $REPLY"
    for pair in "${@:2}"; do
        [[ $pair == ?*=* ]] || fail "-o takes NAME=VALUE; got '$pair'" 2
        json_string "${pair%%=*}"
        body+=", $REPLY: "
        json_value "${pair#*=}"
        body+=$REPLY
    done
    REPLY="$body}"
}

# -- HTTP ---------------------------------------------------------------------

# The key is passed in a file descriptor: every user of the machine can read command lines.
credentials() {
    [[ -z ${SLMCLIENT_API_KEY:-} ]] || printf 'header = "Authorization: Bearer %s"\n' "$SLMCLIENT_API_KEY"
}

new_key() { printf -v REPLY 'slm.sh-%s-%s-%s%s%s' "$(date +%s)" "$$" "$RANDOM" "$RANDOM" "$RANDOM"; }

# ask METHOD PATH [CURL OPTION ...]: returns the body in REPLY and the HTTP status in STATUS.
# A retry never creates a second job, because POSTs have a key. curl obeys Retry-After.
ask() {
    STATUS=$(curl --silent --show-error --config <(credentials) --max-time "$ANSWER_S" --retry "$RETRIES" \
        --retry-all-errors --output "$SCRATCH/body" --write-out '%{http_code}' --request "$1" "${@:3}" "$URL$2" \
        2>"$SCRATCH/trouble") || fail "$(tail -n 1 "$SCRATCH/trouble")"
    REPLY=$(<"$SCRATCH/body")
    [[ $STATUS == 2?? ]] || refused "$STATUS" "$REPLY"
}

post() { # PATH BODY
    new_key
    ask POST "$1" --header 'Content-Type: application/json' --header "Idempotency-Key: $REPLY" --data-binary @- <<<"$2"
}

refused() { # STATUS BODY
    field error "$2" || REPLY="the server answered $1"
    fail "$REPLY"
}

# -- streams ------------------------------------------------------------------

JOB=       # set once the server has sent the job's id
LAST_ID=-1 # id of the last frame
IS_OVER=

# Prints the frames' texts until the job has ended; reconnects if necessary.
# Arguments: curl options that open the stream; used until the server has sent the job's id.
read_stream() {
    local failures=0 seen=$LAST_ID
    while :; do
        if [[ -z $JOB ]]; then
            read_connection "$@"
        elif ((LAST_ID < 0)); then
            read_connection "$URL/slm/jobs/$JOB/stream"
        else
            read_connection --header "Last-Event-ID: $LAST_ID" "$URL/slm/jobs/$JOB/stream"
        fi
        [[ -z $IS_OVER ]] || return 0
        if ((LAST_ID > seen)); then failures=0; fi
        seen=$LAST_ID
        ((++failures <= RETRIES)) || refused "$STATUS" "$REFUSAL"
        pause "$failures"
    done
}

read_connection() { # CURL OPTION ...
    local line id='' data=''
    REFUSAL='{"error": "the stream ended before the job did"}'
    : >"$SCRATCH/head"
    while IFS= read -r line || [[ -n $line ]]; do
        case $line in
            'id: '*) id=${line#id: } ;;
            'data: '*) data=${line#data: } ;;
            \{*) REFUSAL=$line ;;
            '')
                [[ -z $data ]] || take "$id" "$data"
                id='' data=''
                ;;
        esac
    done < <(curl --silent --no-buffer --config <(credentials) --speed-limit 1 --speed-time "$SILENCE_S" \
        --dump-header "$SCRATCH/head" "$@")
    read_head
    case $STATUS in
        200 | 408 | 429 | 502 | 503 | 504 | '') ;;
        204) IS_OVER=yes ;;
        *) refused "$STATUS" "$REFUSAL" ;;
    esac
}

read_head() { # sets STATUS ('' without a response), RETRY_AFTER, and JOB if the response has its id
    local name value
    STATUS='' RETRY_AFTER=''
    while read -r name value; do
        value=${value%$'\r'}
        case $name in
            HTTP/*) STATUS=${value%% *} ;;
            [Xx]-[Jj][Oo][Bb]-[Ii][Dd]:) JOB=$value ;;
            [Rr][Ee][Tt][Rr][Yy]-[Aa][Ff][Tt][Ee][Rr]:) RETRY_AFTER=$value ;;
        esac
    done <"$SCRATCH/head"
}

take() { # ID DATA: print the frame's text; duplicate frames are dropped
    if [[ -n $1 ]]; then
        # Only numbers may reach bash's arithmetic, which can run commands.
        [[ $1 != *[!0-9]* ]] || fail "the server sent an event with the id '$1'"
        (($1 > LAST_ID)) || return 0
        LAST_ID=$1
    fi
    if field error "$2"; then fail "$REPLY"; fi
    if [[ $2 == *'"device_used": '* ]]; then IS_OVER=yes; fi
    if field text "$2"; then
        printf '%s' "$REPLY"
    elif [[ -t 2 ]] && field position "$2"; then
        printf 'position in the queue: %s\n' "$REPLY" >&2
    fi
}

pause() { # FAILURES: 1, 2, 4, 8 s, or as long as the server asks for
    local seconds=$((2 ** ($1 - 1)))
    if ((seconds > 8)); then seconds=8; fi
    if [[ -n $RETRY_AFTER && $RETRY_AFTER != *[!0-9]* ]]; then seconds=$RETRY_AFTER; fi
    sleep "$seconds"
}

# -- commands -----------------------------------------------------------------

generate() {
    request_body "$@"
    post /slm/generate "$REPLY"
    if [[ $STATUS == 202 ]]; then
        field job_id "$REPLY"
        wait_for "$REPLY"
    else
        field response "$REPLY"
        printf '%s\n' "$REPLY"
    fi
}

stream() {
    request_body "$@"
    printf '%s' "$REPLY" >"$SCRATCH/request"
    new_key
    read_stream --header 'Content-Type: application/json' --header "Idempotency-Key: $REPLY" \
        --data-binary "@$SCRATCH/request" "$URL/slm/stream"
    printf '\n'
}

follow() {
    JOB=$1
    read_stream
    printf '\n'
}

submit() {
    request_body "$@" async=true
    post /slm/generate "$REPLY"
    field job_id "$REPLY"
    printf '%s\n' "$REPLY"
}

wait_for() {
    local body
    while :; do
        ask GET "/slm/jobs/$1"
        body=$REPLY
        field status "$body"
        case $REPLY in
            queued | running) sleep 1 ;;
            succeeded) break ;;
            *)
                field message "$body" || REPLY="the job was $REPLY"
                fail "$REPLY"
                ;;
        esac
    done
    field response "$body"
    printf '%s\n' "$REPLY"
}

cancel() {
    ask DELETE "/slm/jobs/$1"
    field status "$REPLY"
    printf '%s\n' "$REPLY"
}

main() {
    local options=() arguments=()
    while (($#)); do
        case $1 in
            -h | --help) printf '%s\n' "$USAGE" && return ;;
            -o)
                (($# > 1)) || fail '-o takes NAME=VALUE' 2
                options+=("$2")
                shift
                ;;
            *) arguments+=("$1") ;;
        esac
        shift
    done
    run ${arguments[@]+"${arguments[@]}"}
}

run() { # COMMAND [ARGUMENT]; `options` are main's
    local argument=${2:-}
    case "${1:-} $#" in
        'info 1') ask GET /slm/info && printf '%s\n' "$REPLY" ;;
        'wait 2') wait_for "$argument" ;;
        'follow 2' | 'cancel 2') "$1" "$argument" ;;
        'generate 2' | 'stream 2' | 'submit 2')
            if [[ $argument == - ]]; then argument=$(cat); fi
            "$1" "$argument" ${options[@]+"${options[@]}"}
            ;;
        *) fail "$USAGE" 2 ;;
    esac
}

SCRATCH=$(mktemp -d)
readonly SCRATCH
trap 'rm -rf "$SCRATCH"' EXIT
main "$@"
