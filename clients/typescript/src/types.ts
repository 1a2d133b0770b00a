/** The bodies of the API, as its reference at `/docs` describes them. */

export type JobState = "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
export type JobKind =
  | "generate"
  | "stream"
  | "load"
  | "unload"
  | "publish"
  | "tokenize"
  | "check_dataset"
  | "train"
  | "evaluate"
  | "embed";

export interface ModelUsed {
  model: string | null;
  base: string | null;
  adapter_id: string | null;
}

export interface TokenCounts {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface Timings {
  queue_ms: number | null;
  run_ms: number | null;
  total_ms: number | null;
  first_token_ms: number | null;
}

export interface JobError {
  code: string;
  message: string;
  param?: string;
  retry_after_s?: number;
}

export interface JobSummary extends ModelUsed {
  job_id: string;
  kind: JobKind;
  status: JobState;
  attempt: number;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  /** In listings, for admins. */
  owner?: string;
}

export interface QueueStatus {
  position: number | null;
  estimated_wait_s: number | null;
}

/** All details of a job; `Result` depends on its kind. */
export interface Job<Result = unknown> extends JobSummary, QueueStatus {
  text: string;
  result: Result | null;
  error: JobError | null;
  timings: Timings;
  webhook: { state: string; attempts: number; last_error: string | null } | null;
  progress?: TrainingProgress | null;
}

export interface Accepted extends QueueStatus {
  success: true;
  job_id: string;
  status: JobState;
}

export interface DeadLetter extends JobSummary {
  crashes: number;
  error: JobError | null;
}

export type Message = {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  /** Of an answer that calls tools. */
  tool_calls?: ToolCall[];
  /** Of the result of a call, with the role `tool`. */
  tool_call_id?: string;
};

/** A call of a function; `arguments` is JSON. */
export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** A function that an answer may call; `parameters` is the JSON schema of an object. */
export interface FunctionDefinition {
  name: string;
  description?: string;
  parameters?: unknown;
  strict?: boolean;
}

export type FinishReason = "stop" | "length" | "cancelled";

/** The result of a generation. */
export interface Generated extends ModelUsed {
  success: boolean;
  prompt: string | Message[] | number[];
  response: string;
  full_response: string;
  device: string;
  settings: Record<string, unknown>;
  job_id: string;
  finish_reason: FinishReason;
  usage: TokenCounts;
  timings: Timings;
}

/** The sampling fields that all generations share. */
export interface Sampling {
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  repetition_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  logit_bias?: Record<string, number>;
  stop?: string | string[];
  stop_token_ids?: number[];
  ignore_eos?: boolean;
  seed?: number;
}

export interface JobOptions {
  priority?: "interactive" | "bulk";
  ttl?: number;
  timeout?: number;
  webhook_url?: string;
  on_disconnect?: "cancel" | "continue";
  conversation?: string | ConversationPlace;
}

/** The body of `POST /slm/generate` and `POST /slm/stream`. */
export interface GenerateRequest extends Sampling, JobOptions {
  prompt: string;
  model?: string;
  max_new_tokens?: number;
  min_new_tokens?: number;
  do_sample?: boolean;
  response_format?: ResponseFormat;
  regex?: string;
  choice?: string[];
}

export type ResponseFormat =
  | { type: "text" | "json_object" }
  | { type: "json_schema"; json_schema: { name?: string; schema: unknown } };

/** The body of `POST /v1/chat/completions`. */
export interface ChatRequest extends Sampling, JobOptions {
  messages: Message[];
  model?: string;
  max_tokens?: number;
  min_tokens?: number;
  response_format?: ResponseFormat;
  /** Another form of the answer, instead of `response_format`. */
  structured_outputs?: { regex: string } | { choice: string[] };
  tools?: { type: "function"; function: FunctionDefinition }[];
  tool_choice?: "auto" | "none" | "required";
  /** How much the model reasons before it answers, if its chat template has that choice; "none" turns it off. */
  reasoning_effort?: string;
  /** Continue the last message, the assistant's. */
  continue_final_message?: boolean;
}

/** The data of an event of a job's stream. */
export type Frame = StatusFrame | TextFrame | ProgressFrame | SampleFrame | CheckpointFrame | EndFrame | ErrorFrame;

export interface StatusFrame {
  status: string;
  position?: number;
  estimated_wait_s?: number | null;
}

export interface TextFrame {
  /** The next piece. */
  text: string;
  /** The answer so far, without white space at its ends. */
  full_text: string;
  is_complete: boolean;
}

export interface ProgressFrame {
  status: string;
  progress: TrainingProgress;
}

export interface SampleFrame {
  status: string;
  sample: TrainingSample;
}

export interface CheckpointFrame {
  status: string;
  checkpoint: { at: number; step: number; is_best: boolean };
}

export interface EndFrame {
  status: string;
  device_used: string | null;
}

export interface ErrorFrame {
  error: string;
  code: string;
  request_id: string;
  param?: string;
}

export interface WorkerInfo {
  id: string;
  host: string | null;
  pid: number | null;
  device: string | null;
  /** Number format of the weights in memory, while it holds the model. */
  dtype?: string;
  state: "starting" | "loading" | "ready" | "unloaded" | "error" | string;
  running: number;
  slots: number;
  error: string | null;
}

/** `GET /slm/info`. */
export interface Info {
  model_loaded: boolean;
  device: string | null;
  base_model: string | null;
  lora_path: string | null;
  cuda_available: boolean;
  mps_available: boolean;
  queue: { waiting: number; running: number };
  training: { trainers: number; waiting: number; running: number };
  adapters: string[];
  bases?: { name: string; model_loaded: boolean; queue: { waiting: number; running: number }; workers: string[] }[];
  workers: WorkerInfo[];
  version: string;
}

export interface NamedModel {
  name: string;
  kind: "base" | "adapter" | "alias";
  /** What it stands for now. */
  model: string;
  base: string;
  parent: string | null;
  version: number | null;
  adapter_id: string | null;
  versions: number[];
  workers: string[];
  /** Of a base model, while a worker has it loaded. */
  card: BaseCard | null;
}

/** What there is to know of a base model; null if its files do not say it. */
export interface BaseCard {
  license: string | null;
  parameters: number | null;
  bytes: number | null;
  context_length: number | null;
  dtype: string | null;
}

export interface AdapterVersion {
  name: string;
  version: number;
  id: string;
  base: string;
  rank: number;
  modules: string[];
  bytes: number;
  created: string;
  summary: Record<string, unknown> | null;
  aliases: string[];
  workers: string[];
}

export interface Adapter extends AdapterVersion {
  versions: AdapterVersion[];
}

export interface PublishedAdapter extends AdapterVersion {
  success: boolean;
  message: string;
  is_new: boolean;
  job_id: string;
}

export interface Alias {
  name: string;
  model: string;
  history: string[];
  set_by?: string | null;
}

export interface Tokens extends ModelUsed {
  text: string;
  tokens: string[];
  ids: number[];
  count: number;
  context_length: number;
  job_id: string;
}

export type Role = "user" | "trainer" | "admin" | "worker";

/** `GET /slm/usage`: the caller, and the totals of their ended jobs. */
export interface Account extends TokenCounts {
  owner: string;
  role: Role;
  jobs: number;
}

/** The limits of an API key; null means no limit. */
export interface KeyLimits {
  requests_per_minute: number | null;
  reads_per_minute: number | null;
  concurrent_jobs: number | null;
  open_streams: number | null;
  tokens_per_day: number | null;
  job_bytes: number | null;
  files: number | null;
  file_bytes: number | null;
  open_batches: number | null;
  feedback_bytes: number | null;
}

/** An API key, without its secret. */
export interface ApiKey {
  name: string;
  role: Role;
  created_at: string;
  limits: KeyLimits;
  usage: TokenCounts & { jobs: number; open_jobs: number; tokens_today: number; job_bytes: number };
}

/** A new API key with its secret, which cannot be read again. */
export interface NewApiKey extends ApiKey {
  key: string;
}

export interface RevokedKey {
  name: string;
  cancelled_jobs: number;
  cancelled_batches: number;
}

/** A setting in force, by its environment variable. */
export interface Setting {
  name: string;
  value: string | null;
  default: string | null;
  is_default: boolean;
  is_secret: boolean;
  description: string;
}

/** Something that an operator did. */
export interface AuditEntry {
  id: string;
  at: string;
  owner: string;
  action: string;
  target: string | null;
  details: string | null;
  job_id: string | null;
}

export interface AuditPage {
  entries: AuditEntry[];
  last_id: string | null;
  has_more: boolean;
}

export interface FeedbackRequest {
  rating?: "up" | "down";
  correction?: string;
  tags?: string[];
}

export interface Feedback {
  job_id: string;
  rating: "up" | "down" | null;
  correction: string | null;
  tags: string[];
  prompt: unknown;
  response: string;
  model: string;
  base: string;
  created_at: string;
  updated_at: string;
}

export interface FeedbackQuery {
  rating?: "up" | "down";
  tags?: string[];
  model?: string;
  since?: string;
  until?: string;
  owner?: string;
  limit?: number;
  /** The `last_id` of the previous page. */
  after?: string;
}

export interface FeedbackPage {
  feedback: Feedback[];
  last_id: string | null;
  /** A page may be short although more follow. */
  has_more: boolean;
}

export interface FeedbackDatasetRequest {
  kind?: "pairs" | "preferences";
  tags?: string[];
  model?: string;
  since?: string;
  until?: string;
  owner?: string;
  filename?: string;
}

export interface FeedbackDataset {
  file_id: string;
  filename: string;
  bytes: number;
  kind: "pairs" | "preferences";
  examples: number;
  left_out: number;
}

export interface StoredFile {
  id: string;
  object: "file";
  bytes: number;
  created_at: number;
  expires_at?: number;
  filename: string;
  purpose: string;
}

export interface DatasetOptions {
  model?: string;
  validation_file_id?: string;
  epochs?: number;
  batch_size?: number;
  max_length?: number;
  seed?: number;
  tokens_per_s?: number;
}

export interface DatasetFault {
  line: number;
  column: number;
  field: string | null;
  message: string;
}

/** What is wrong with a dataset, and what a training would see of it. */
export interface DatasetReport extends ModelUsed {
  success: boolean;
  job_id: string;
  usable: boolean;
  format: string;
  kind: "conversations" | "preferences";
  count: number;
  faults: DatasetFault[];
  total_faults: number;
  tokens: { min: number; median: number; p95: number; max: number; total: number; learned: number } | null;
  too_long: { max_length: number; count: number; share: number; lines: number[] } | null;
  duplicates: { count: number; groups: number[][] };
  held_out: {
    source: "split" | "given";
    count: number;
    share: number;
    lines: number[];
    grouped_by: string | null;
    faults: DatasetFault[];
    total_faults: number;
  };
  overlap: { count: number; examples: { line: number; training_line: number }[] };
  examples_rendered: { line: number; parts: { text: string; loss: boolean }[] }[];
  estimate: {
    steps: number;
    epochs: number;
    batch_size: number;
    tokens: number;
    tokens_per_s: number;
    seconds: number;
  } | null;
}

/** The body of `POST /slm/train`; give `file_id` or `data`. */
export interface TrainRequest {
  name: string;
  file_id?: string;
  data?: Record<string, unknown>[];
  base?: string;
  from?: string;
  validation_file_id?: string;
  method?: "supervised" | "dpo";
  epochs?: number;
  learning_rate?: number;
  batch_size?: number;
  rank?: number;
  max_length?: number;
  max_steps?: number;
  seed?: number;
  prompts?: { prompt: string; expected?: string[]; json_schema?: unknown }[];
  publish?: boolean;
  force?: boolean;
  webhook_url?: string;
}

export interface EvaluateRequest {
  models: string[];
  file_id?: string;
  data?: Record<string, unknown>[];
  seed?: number;
  webhook_url?: string;
}

export interface TrainingProgress {
  status: string;
  at: number;
  step?: number;
  steps?: number;
  epoch?: number;
  loss?: number;
  accuracy?: number;
  learning_rate?: number;
  held_out_loss?: number;
  held_out_accuracy?: number;
  tokens?: number;
  tokens_per_s?: number;
  seconds_left?: number;
  model?: string;
  done?: number;
  total?: number;
}

/** What the model in training answers; at step 0 before it has learned anything. */
export interface TrainingSample {
  at: number;
  step: number;
  prompt: string;
  expected: string;
  response: string;
  /** Whether the model learns from this example; otherwise it is held out. */
  trained: boolean;
}

export interface GateRow {
  name: string;
  better: "lower" | "higher";
  base: number;
  current: number | null;
  candidate: number;
  bound: number;
  passed: boolean;
  reason: string;
}

/** The result of a training run. */
export interface Trained {
  success: boolean;
  message: string;
  name: string;
  version: number | null;
  published: boolean;
  adapter_id: string | null;
  base: string;
  method: "supervised" | "dpo";
  seed: number;
  examples: number;
  held_out: number;
  steps: number;
  best_step: number;
  trained_tokens: number;
  recipe: Record<string, unknown>;
  gate: { passed: boolean; rows: GateRow[] };
  curves: TrainingProgress[];
  job_id: string;
}

export interface ModelScores {
  name: string;
  model: string;
  loss: number;
  perplexity: number;
  token_accuracy: number;
  exact: number;
  overlap: number;
  examples: number;
  left_out: number;
}

/** The result of an evaluation. */
export interface Evaluated {
  success: boolean;
  message: string;
  seed: number;
  examples: number;
  models: ModelScores[];
  job_id: string;
}

/** What may be set of a conversation. */
export interface AboutConversation {
  title?: string;
  system_prompt?: string;
  model?: string;
  settings?: ConversationSettings;
  metadata?: Record<string, string>;
}

export interface ConversationSettings extends Sampling {
  max_new_tokens?: number;
  min_new_tokens?: number;
  do_sample?: boolean;
}

/** A conversation without its messages. `leaf_id` is the message that is shown last, with all before it. */
export interface Conversation {
  id: string;
  title: string;
  system_prompt: string;
  model: string | null;
  settings: ConversationSettings;
  metadata: Record<string, string>;
  leaf_id: string | null;
  created_at: string;
  updated_at: string;
  num_messages: number;
  bytes: number;
}

/** A conversation in a list; after a search with where the text was found. */
export interface ListedConversation extends Conversation {
  match?: { message_id: string | null; excerpt: string };
}

export interface ConversationPage {
  conversations: ListedConversation[];
  last_id: string | null;
  has_more: boolean;
}

/** A message of a conversation; `content` is empty while a job writes it. */
export interface ConversationMessage {
  id: string;
  parent_id: string | null;
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  created_at: string;
  model: string | null;
  job_id: string | null;
  status: "in_progress" | "completed" | "incomplete";
  finish_reason: string | null;
  error: { code: string; message: string } | null;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  rating: "up" | "down" | null;
  is_edited: boolean;
  tool_call_id?: string | null;
}

/** A conversation with all of its messages, which are a tree. */
export interface ConversationThread extends Conversation {
  messages: ConversationMessage[];
}

/** A conversation as it is exported, and can be imported. */
export interface ExportedConversation extends Conversation {
  version: 1;
  messages: ConversationMessage[];
}

export interface NewMessage {
  role: ConversationMessage["role"];
  content?: string;
  /** The call of which this is the result, for the role `tool`. */
  tool_call_id?: string;
  parent_id?: string | null;
  job_id?: string;
}

/** Where the answer of a generation is kept: after that message of that conversation. */
export interface ConversationPlace {
  id: string;
  parent_id: string | null;
}
