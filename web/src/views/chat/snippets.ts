/** Programs that ask this server, for copying. */
export interface Snippet {
  id: string;
  label: string;
  code: string;
}

export function snippets(origin: string, needsKey: boolean): Snippet[] {
  const key = needsKey ? "slm_…" : "none";
  const header = needsKey ? ` \\\n  -H "Authorization: Bearer $SLM_API_KEY"` : "";
  return [
    {
      id: "curl",
      label: "curl",
      code: `curl ${origin}/v1/chat/completions -H "Content-Type: application/json"${header} \\\n  -d '{"messages": [{"role": "user", "content": "Hello!"}]}'`,
    },
    {
      id: "python",
      label: "Python",
      code: `import requests\n\nanswer = requests.post(\n    "${origin}/slm/generate",\n    json={"prompt": "Hello!"},${needsKey ? `\n    headers={"X-API-Key": "${key}"},` : ""}\n).json()\nprint(answer["response"])`,
    },
    {
      id: "openai",
      label: "openai (Python)",
      code: `from openai import OpenAI\n\nclient = OpenAI(base_url="${origin}/v1", api_key="${key}")\nanswer = client.chat.completions.create(\n    model="default", messages=[{"role": "user", "content": "Hello!"}]\n)\nprint(answer.choices[0].message.content)`,
    },
    {
      id: "javascript",
      label: "JavaScript",
      code: `const answer = await fetch("${origin}/v1/chat/completions", {\n  method: "POST",\n  headers: { "Content-Type": "application/json"${needsKey ? `, "X-API-Key": "${key}"` : ""} },\n  body: JSON.stringify({ messages: [{ role: "user", content: "Hello!" }] }),\n});\nconsole.log((await answer.json()).choices[0].message.content);`,
    },
  ];
}
