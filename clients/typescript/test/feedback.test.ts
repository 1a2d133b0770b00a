import assert from "node:assert/strict";
import { test } from "node:test";
import { SlmClient } from "../src/index.js";

test("a page of feedback is asked for by its tags, each a parameter of its own", async () => {
  const asked: string[] = [];
  const page = { success: true, feedback: [], last_id: null, has_more: false };
  const fake: typeof fetch = async (url) => {
    asked.push(String(url));
    return new Response(JSON.stringify(page));
  };
  const client = new SlmClient({ baseUrl: "http://slm", fetch: fake });
  assert.deepEqual(await client.jobs.listFeedback({ rating: "down", tags: ["birds", "true"], limit: 5 }), page);
  await client.jobs.listFeedback();
  assert.deepEqual(asked, ["http://slm/slm/feedback?rating=down&tags=birds&tags=true&limit=5", "http://slm/slm/feedback"]);
});
