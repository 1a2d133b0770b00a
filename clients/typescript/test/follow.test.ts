import assert from "node:assert/strict";
import { test } from "node:test";
import { type Followed, SlmClient, SlmError } from "../src/index.js";

const WORDS = ["Once ", "upon ", "a time."];

function frames(from: number, to: number): string {
  let full = WORDS.slice(0, from).join("");
  let text = ": heartbeat\n\n";
  for (let id = from; id < to; id++) {
    const piece = WORDS[id] ?? "";
    full += piece;
    text += `id: ${id}\ndata: ${JSON.stringify({ text: piece, full_text: full.trim(), is_complete: id === WORDS.length - 1 })}\n\n`;
  }
  return text;
}

const END = `id: 3\ndata: ${JSON.stringify({ status: "Response complete!", device_used: "cpu" })}\n\n`;

/** A client of a server that gives these responses, one per request; and the `Last-Event-ID`s that it got. */
function scripted(...responses: (Response | Error)[]) {
  const resumed: (string | null)[] = [];
  const fake: typeof fetch = async (_url, init) => {
    resumed.push(new Headers(init?.headers).get("Last-Event-ID"));
    const next = responses.shift();
    if (next === undefined || next instanceof Error) throw next ?? new TypeError("no more responses");
    return next;
  };
  return { client: new SlmClient({ baseUrl: "http://slm", fetch: fake }), resumed };
}

async function all(stream: AsyncIterable<Followed>): Promise<Followed[]> {
  const found: Followed[] = [];
  for await (const one of stream) found.push(one);
  return found;
}

function textOf(found: Followed[]): string {
  return found.map((one) => (one.kind === "frame" && "text" in one.frame ? one.frame.text : "")).join("");
}

test("a whole stream is read to its end", async () => {
  const { client, resumed } = scripted(new Response(frames(0, 3) + END));
  assert.equal(textOf(await all(client.jobs.follow("1"))), "Once upon a time.");
  assert.deepEqual(resumed, [null]);
});

test("a broken stream resumes after its last frame, also when the server is away for a while", async () => {
  const away = new Response('{"error": "starting", "code": "server_stopping"}', { status: 503 });
  const { client, resumed } = scripted(new Response(frames(0, 1)), new TypeError("away"), away, new Response(frames(1, 3) + END));
  const found = await all(client.jobs.follow("1"));
  assert.equal(textOf(found), "Once upon a time.");
  assert.deepEqual(resumed, [null, "0", "0", "0"]);
  assert.deepEqual(found.flatMap((one) => (one.kind === "connection" ? [one.isOpen] : [])), [true, false, true]);
});

test("an error of the stream alone is not the end of the job", async () => {
  const trouble = `data: ${JSON.stringify({ error: "Redis is away.", code: "redis_unavailable", request_id: "r" })}\n\n`;
  const { client } = scripted(new Response(frames(0, 2) + trouble), new Response(frames(2, 3) + END));
  assert.equal(textOf(await all(client.jobs.follow("1"))), "Once upon a time.");
});

test("a job that is gone ends the stream with the server's error", async () => {
  const gone = new Response('{"success": false, "error": "There is no job.", "code": "job_not_found"}', { status: 404 });
  const { client } = scripted(gone);
  await assert.rejects(all(client.jobs.follow("1")), (error) => error instanceof SlmError && error.code === "job_not_found");
});

test("nothing is left of a job that was seen to its end", async () => {
  const { client } = scripted(new Response(null, { status: 204 }));
  assert.deepEqual(await all(client.jobs.follow("1", { after: "3" })), []);
});
