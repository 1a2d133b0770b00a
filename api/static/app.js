import { RequestError, followJob, keepKey, request } from "./stream.js";

const INFO_EVERY_MS = 5000;

const byId = (id) => document.getElementById(id);
const chat = byId("chat");
const prompt = byId("prompt");
const send = byId("send");
const stop = byId("stop");

let jobUrl = null; // URL of the running job
let isChanging = false; // this page is loading or unloading the model

// -- the conversation -------------------------------------------------------------------------------------------------

/** A message on the page. All text is inserted as text, never as HTML. */
class Message {
  constructor(kind, text = "") {
    this.root = document.createElement("div");
    this.root.className = `message ${kind}`;
    this.text = this.root.appendChild(document.createElement("div"));
    this.text.className = "text";
    this.note = this.root.appendChild(document.createElement("div"));
    this.note.className = "note";
    keepAtEnd(() => {
      this.text.textContent = text;
      chat.append(this.root);
    });
  }

  write(text) {
    keepAtEnd(() => { this.text.textContent = text; });
  }

  remark(line) {
    keepAtEnd(() => { this.note.textContent = line; });
  }

  end(kind, line) {
    this.root.classList.remove("running");
    if (kind) this.root.classList.add(kind);
    this.remark(line);
  }
}

/** Keep the view at the end while the text grows, unless the reader has scrolled up. */
function keepAtEnd(change) {
  const isAtEnd = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 40;
  change();
  if (isAtEnd) chat.scrollTop = chat.scrollHeight;
}

async function ask(body) {
  byId("hint")?.remove();
  new Message("user", body.prompt);
  const answer = new Message("answer running");
  answer.remark("Sending…");
  setBusy(true);
  try {
    const response = await request("/slm/stream", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    jobUrl = response.headers.get("Location");
    stop.disabled = false;
    for await (const data of followJob(response)) show(answer, data);
    await showUsage(answer, jobUrl);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    answer.end("failed", error.message);
  } finally {
    jobUrl = null;
    setBusy(false);
  }
}

function show(answer, data) {
  if ("error" in data) answer.end("failed", data.error);
  else if ("full_text" in data) answer.write(data.full_text);
  else if ("position" in data) answer.remark(describePosition(data));
  else if ("device_used" in data) answer.end("", data.status === "Cancelled" ? "Stopped" : "");
  else answer.remark(data.status);
}

function describePosition({ position, estimated_wait_s: wait }) {
  if (position === 0) return "Waiting for a worker";
  return `Waiting in the queue, position ${position}` + (wait == null ? "" : `, about ${Math.max(1, Math.round(wait))} s`);
}

/** Show how much was generated. The answer is complete without it, so a failure here is ignored. */
async function showUsage(answer, url) {
  const job = await request(url).then((response) => response.json()).catch(() => null);
  if (!job?.result?.usage) return;
  const { usage, timings, finish_reason: reason } = job.result;
  const parts = [`${usage.completion_tokens} tokens in ${(timings.run_ms / 1000).toFixed(1)} s`];
  if (reason === "length") parts.push("stopped at the maximum of new tokens");
  if (job.status === "cancelled") parts.unshift("Stopped");
  answer.remark(parts.join(" · "));
}

function setBusy(isBusy) {
  send.hidden = isBusy;
  stop.hidden = !isBusy;
  stop.disabled = true; // until there is a job to stop
  if (!isBusy) prompt.focus({ preventScroll: true });
}

// -- the composer -----------------------------------------------------------------------------------------------------

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || send.hidden) return;
  prompt.value = "";
  fitPrompt();
  ask({
    prompt: text,
    temperature: byId("temperature").valueAsNumber,
    max_new_tokens: byId("max-new-tokens").valueAsNumber,
    do_sample: byId("do-sample").checked,
  });
});

prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

prompt.addEventListener("input", fitPrompt);

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

stop.addEventListener("click", async () => {
  stop.disabled = true;
  await attempt(() => request(jobUrl, { method: "DELETE" }));
});

// A closed panel cannot show its invalid field, so open it.
byId("settings").addEventListener("invalid", () => { byId("settings").open = true; }, true);

// -- the model --------------------------------------------------------------------------------------------------------

async function changeModel(path, line) {
  isChanging = true;
  byId("load").disabled = byId("unload").disabled = true;
  showModel("busy", line, "");
  await attempt(() => request(path, { method: "POST" }));
  isChanging = false;
  await refreshInfo();
}

byId("load").addEventListener("click", () => changeModel("/slm/load", "Loading…"));
byId("unload").addEventListener("click", () => changeModel("/slm/unload", "Unloading…"));

/** Run an action and show a failure in the notice above the composer. */
async function attempt(action) {
  const notice = byId("notice");
  notice.hidden = true;
  try {
    await action();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    notice.textContent = error.message;
    notice.hidden = false;
  }
}

function showModel(state, name, detail) {
  byId("model").dataset.state = state;
  byId("model-name").textContent = name;
  byId("model-detail").textContent = detail;
}

async function refreshInfo() {
  let info;
  try {
    info = await (await request("/slm/info")).json();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    showModel("down", error.message, "");
    return;
  }
  byId("load").disabled = !info.workers.length || info.workers.every((worker) => worker.state === "ready");
  byId("unload").disabled = !info.model_loaded;
  showModel(...describe(info));
}

/** The state of the indicator, the headline and the details. */
function describe(info) {
  const { workers, queue } = info;
  if (!workers.length) return ["down", "No worker is running", ""];
  const failed = workers.find((worker) => worker.error);
  if (failed && !info.model_loaded) return ["down", "The model could not be loaded", failed.error];
  const detail = [
    info.adapters.length ? `adapter ${info.adapters.join(", ")}` : "no adapter",
    info.device,
    workers.length === 1 ? "1 worker" : `${workers.length} workers`,
    queue.running || queue.waiting ? `${queue.running} running, ${queue.waiting} waiting` : "",
  ];
  if (info.model_loaded) return ["ready", info.base_model, detail.filter(Boolean).join(" · ")];
  const isLoading = workers.some((worker) => worker.state === "loading" || worker.state === "starting");
  return isLoading ? ["busy", "The model is loading", ""] : ["busy", "The model is not loaded", "The next message loads it."];
}

// -- the key ----------------------------------------------------------------------------------------------------------

document.addEventListener("key-needed", () => { byId("key-form").hidden = false; });

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value.trim());
  byId("key").value = "";
  byId("key-form").hidden = true;
  refreshInfo();
});

// -- state of the model -----------------------------------------------------------------------------------------------

function pollInfo() {
  if (!document.hidden && !isChanging) refreshInfo();
}

setInterval(pollInfo, INFO_EVERY_MS);
document.addEventListener("visibilitychange", pollInfo);
refreshInfo();
prompt.focus();
