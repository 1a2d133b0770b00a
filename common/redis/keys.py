"""Names of all keys and channels in Redis. The Lua scripts build the same names in `lua/prelude.lua`.

slm:job:<id>            hash    the job's record (fields: `job.JobRecord`)
slm:job:<id>:log        list    the job's events as wire messages; the index of an event is its `seq`
slm:job:<id>:events     channel the same messages, published as they are appended: one or more, each on its line
slm:job:<id>:reader     string  exists while somebody reads the job, and for the grace period after that
slm:lane:<l>:pending    zset    jobs waiting to be dispatched, by order
slm:lane:<l>:flow:<f>   zset    the waiting jobs of one flow: an owner and a priority (`fair_share.py`)
slm:lane:<l>:flows      set     the flows that have waiting jobs
slm:lane:<l>:flow_ends  zset    flow -> virtual end (tokens) of its last dispatched job, if that is in the future
slm:lane:<l>:virtual    string  virtual time (tokens): the latest virtual start of a dispatched job
slm:lane:<l>:dispatched zset    jobs that were dispatched and are not claimed yet, by time (ms)
slm:lane:<l>:leases     zset    running jobs, by the time (ms) at which their worker's lease expires
slm:lane:<l>:unread     set     jobs without a reader, until their grace period is over
slm:lane:<l>:abandoned  set     those of them that run and can make room for others
slm:lane:<l>:yielding   zset    those that were asked to make room, by time (ms)
slm:lane:<l>:deadlines  zset    waiting jobs with a `ttl`, by the time (ms) at which it expires
slm:lane:<l>:starts     list    the latest start times (ms), newest first
slm:lane:<l>:places     hash    worker -> jobs of this lane that it runs at once
slm:lane:<l>:service    hash    how many live workers serve the lane and their places together, as last counted
slm:lane:<l>:running    hash    flow -> its jobs that are dispatched or running
slm:lane:<l>:running_cost hash  flow -> what they may cost together (tokens)
slm:lanes               set     the names of all lanes (`job.Lane`)
slm:jobs:order          counter arrival number of the latest job
slm:jobs:dead_letters   zset    the dead letters: jobs that were set aside because their workers died, by time (ms)
slm:webhooks:due:<o>    zset    an owner's ended jobs with an unsent webhook, by the time (ms) of the next attempt
slm:webhooks:owners     set     the owners that may have such jobs
slm:idempotency:<o>:<k> hash    the job (id) and the request (fingerprint) of an owner's Idempotency-Key
slm:usage:<owner>       hash    the totals of the owner's ended jobs
slm:jobs:index          zset    all jobs that can still be read, by creation (ms)
slm:jobs:index:<owner>  zset    those of one owner
slm:jobs:owners         hash    job id -> owner, as long as the job can be read
slm:jobs:bytes          hash    job id -> approximate size of its texts in Redis (bytes), as long as it can be read
slm:owners:bytes        hash    owner -> the sum of these over the owner's jobs
slm:jobs:expiry         zset    finished jobs, by the time (ms) at which their record expires
slm:jobs:open:<owner>   set     the owner's jobs that wait or run
slm:tokens:<owner>:<d>  string  tokens of the owner's jobs that ended on a day (UTC, days since the epoch)
slm:tokens:<owner>:reserved string tokens reserved for the owner's open jobs
slm:rates:...           string  an owner's requests of this minute and the previous one (the `limits` package)
slm:api_keys            hash    name -> the key (JSON: `api_keys.ApiKey`)
slm:audit               stream  what operators did (fields: `audit_log.Change`)
slm:file:<id>           hash    an uploaded file or a batch's results (fields: `files.StoredFile`), and is_deleted
                                if it was deleted while open batches still read it
slm:file:<id>:lines     list    its content, line by line
slm:file:<id>:batches   set     the batches that read it and have not ended
slm:files:<owner>       zset    the owner's files, by creation (s)
slm:files:bytes:<owner> hash    file -> its size (bytes), for all files of the owner
slm:batch:<id>          hash    a batch (fields: `batches.Batch`)
slm:batch:<id>:jobs     hash    line -> ids of the jobs that were submitted for it (JSON)
slm:batch:<id>:output   hash    line -> its result (JSON)
slm:batch:<id>:errors   hash    line -> its error (JSON)
slm:batches:<owner>     zset    the owner's batches, by creation (s)
slm:batches:open        zset    the batches that have not ended, by creation (s)
slm:batches:open:<o>    zset    those of one owner, by the time (s) at which their record expires
slm:batches:driver      string  the API process that drives them
slm:feedback:job:<id>   hash    feedback on a job, with its prompt and answer (fields: `feedback.Feedback`)
slm:feedback:by_time    zset    jobs with feedback, by the time (ms) of the feedback
slm:feedback:of:<owner> zset    those of one owner
slm:feedback:bytes:<o>  hash    job -> the size (bytes) of its feedback, for all feedback of the owner; '' -> the sum
slm:deleted:<listing>   zset    what was deleted lately from a listing (its key without the prefix), by the same
slm:conversation:<id>   hash    a conversation (fields: `conversation.Conversation`), and `last`, its latest number
slm:conversation:<id>:tree hash message -> its number, when it was created (ms), the message before it (may be empty)
slm:conversation:<id>:messages hash message -> what was written (JSON: `conversation.Written`)
slm:conversation:<id>:answers hash message -> the job that writes it, and its answer when it has ended (JSON:
                                `conversation.Answer`)
slm:conversations:of:<o> zset   an owner's conversations, by the time (ms) of their latest change
slm:conversations:by_time zset  those of all owners
slm:conversations:bytes hash    owner -> the size (bytes) of all of their conversations
slm:grammar:<digest>:<id> string exists while the grammar is known to need no preparation (`preparation.py`)
slm:workers             zset    workers, by the time (ms) until which they count as alive
slm:awake               hash    per kind (worker, api), in ms: the last heartbeat, the start of the run of heartbeats
                                without a gap, and how long a pause counts as a gap; and the workers' lease_ms
slm:worker:<id>         string  the worker's last report (JSON: `fleet.WorkerReport`)
slm:worker:<id>:metrics string  the worker's metrics (JSON: `metrics_store`)
slm:trainer:<id>        string  the trainer's last report (JSON: `trainers.TrainerReport`)
slm:embedder:<id>       string  the embedder's last report (JSON: `embedders.EmbedderReport`)
slm:jobs:paused         set     training runs that were paused
slm:training:<owner>    zset    an owner's training runs that can still be read, by creation (ms)
slm:counters            hash    event counts: jobs:<kind>:<state> (ended), failovers, crashes, quarantined
slm:model               hash    the desired state: loaded (0/1), generation; and idle_ms, since when workers with
                                SLM_KEEP_ALIVE_S have seen no job
slm:model:<base>        hash    the same of each base model, if the server has several
slm:reaped              string  when a worker last looked for jobs to requeue, to end and to forget; expires soon
slm:bases               hash    the base models that workers serve: name -> hash of the files
slm:bases:created       hash    base model -> when workers first served it (s since the epoch)
slm:adapters            set     the names of all adapters
slm:adapter:<name>      hash    version number -> id of its content; and `last`, the highest number ever given, and
                                `folder`, the content that was last registered from the folder of that name
slm:adapter_version:<id> hash   the content of an adapter version (fields: `records.VersionFacts`)
slm:adapters:deleted    zset    contents that no name has any more, by the time (ms) of the deletion
slm:aliases             hash    alias -> JSON: `records.Alias`
slm:subscriber:<id>     channel on which a process wakes its own subscription's thread
slm:control             channel commands to workers, trainers and embedders: {"cancel": job_id}, {"yield": job_id},
                                {"pause": job_id}, {"model": generation}; {"adapters": true}: names, versions or aliases
                                changed
"""

from __future__ import annotations

PREFIX = "slm:"
JOB_INDEX = f"{PREFIX}jobs:index"
DEAD_LETTERS = f"{PREFIX}jobs:dead_letters"
RATES = f"{PREFIX}rates"
API_KEYS = f"{PREFIX}api_keys"
AUDIT = f"{PREFIX}audit"
BASES = f"{PREFIX}bases"
BASES_CREATED = f"{PREFIX}bases:created"
OWNERS_BYTES = f"{PREFIX}owners:bytes"
LANES = f"{PREFIX}lanes"
ADAPTERS = f"{PREFIX}adapters"
DELETED_ADAPTERS = f"{PREFIX}adapters:deleted"
ALIASES = f"{PREFIX}aliases"
CONTROL_CHANNEL = f"{PREFIX}control"
COUNTERS = f"{PREFIX}counters"
FEEDBACK = f"{PREFIX}feedback:by_time"
OPEN_BATCHES = f"{PREFIX}batches:open"
BATCH_DRIVER = f"{PREFIX}batches:driver"


def job(job_id: str) -> str:
    """Return the key of the job's record."""
    return f"{PREFIX}job:{job_id}"


def log(job_id: str) -> str:
    """Return the key of the job's event log."""
    return f"{PREFIX}job:{job_id}:log"


def channel(job_id: str) -> str:
    """Return the channel on which the job's events are published."""
    return f"{PREFIX}job:{job_id}:events"


def wake_channel(subscriber_id: str) -> str:
    """Return the channel that wakes the thread of one process's subscriptions."""
    return f"{PREFIX}subscriber:{subscriber_id}"


def worker_metrics(worker_id: str) -> str:
    """Return the key of the worker's metrics."""
    return f"{PREFIX}worker:{worker_id}:metrics"


def reader(job_id: str) -> str:
    """Return the key that exists while somebody reads the job."""
    return f"{PREFIX}job:{job_id}:reader"


def idempotency(owner: str, key: str) -> str:
    """Return the key of the job that was submitted under an owner's Idempotency-Key."""
    return f"{PREFIX}idempotency:{owner}:{key}"


def usage(owner: str) -> str:
    """Return the key of an owner's account."""
    return f"{PREFIX}usage:{owner}"


def tokens(owner: str, day: int) -> str:
    """Return the key of the tokens of the owner's jobs that ended on a day (UTC, days since the epoch)."""
    return f"{PREFIX}tokens:{owner}:{day}"


def owner_index(owner: str) -> str:
    """Return the key of the owner's jobs that can still be read."""
    return f"{JOB_INDEX}:{owner}"


def open_jobs(owner: str) -> str:
    """Return the key of the owner's jobs that wait or run."""
    return f"{PREFIX}jobs:open:{owner}"


def grammar(digest: str, adapter_id: str) -> str:
    """Return the key that exists if the grammar needs no preparation for that adapter ('': the bare base)."""
    return f"{PREFIX}grammar:{digest}:{adapter_id}"


def adapter(name: str) -> str:
    """Return the key of an adapter's versions."""
    return f"{PREFIX}adapter:{name}"


def adapter_version(adapter_id: str) -> str:
    """Return the key of the facts about an adapter version's content."""
    return f"{PREFIX}adapter_version:{adapter_id}"


def model(base: str) -> str:
    """Return the key of the desired state of a base model; `base` is empty if the server has only one."""
    return f"{PREFIX}model:{base}" if base else f"{PREFIX}model"


def starts(lane: str) -> str:
    """Return the key of the lane's latest start times."""
    return f"{PREFIX}lane:{lane}:starts"


def pending(lane: str) -> str:
    """Return the key of the lane's waiting jobs."""
    return f"{PREFIX}lane:{lane}:pending"


def dispatched(lane: str) -> str:
    """Return the key of the lane's jobs that were dispatched and are not claimed yet."""
    return f"{PREFIX}lane:{lane}:dispatched"


def leases(lane: str) -> str:
    """Return the key of the lane's running jobs."""
    return f"{PREFIX}lane:{lane}:leases"


def training(owner: str) -> str:
    """Return the key of an owner's training runs."""
    return f"{PREFIX}training:{owner}"


def file(file_id: str) -> str:
    """Return the key of a file's record."""
    return f"{PREFIX}file:{file_id}"


def file_lines(file_id: str) -> str:
    """Return the key of a file's content."""
    return f"{PREFIX}file:{file_id}:lines"


def files(owner: str) -> str:
    """Return the key of an owner's files."""
    return f"{PREFIX}files:{owner}"


def batch(batch_id: str) -> str:
    """Return the key of a batch."""
    return f"{PREFIX}batch:{batch_id}"


def batch_part(batch_id: str, part: str) -> str:
    """Return the key of a part of a batch: jobs, output or errors."""
    return f"{PREFIX}batch:{batch_id}:{part}"


def batches(owner: str) -> str:
    """Return the key of an owner's batches."""
    return f"{PREFIX}batches:{owner}"


def feedback(job_id: str) -> str:
    """Return the key of the feedback on a job."""
    return f"{PREFIX}feedback:job:{job_id}"


def owner_feedback(owner: str) -> str:
    """Return the key of the owner's jobs with feedback."""
    return f"{PREFIX}feedback:of:{owner}"


def conversation(conversation_id: str) -> str:
    """Return the key of a conversation's record."""
    return f"{PREFIX}conversation:{conversation_id}"


def conversation_part(conversation_id: str, part: str) -> str:
    """Return the key of a part of a conversation: tree, messages or answers."""
    return f"{PREFIX}conversation:{conversation_id}:{part}"


def conversations(owner: str) -> str:
    """Return the key of an owner's conversations."""
    return f"{PREFIX}conversations:of:{owner}"


def deleted(listing: str) -> str:
    """Return the key of what was deleted lately from a listing."""
    return f"{PREFIX}deleted:{listing.removeprefix(PREFIX)}"
