const EVENTS = "text/event-stream";
const JSON_TYPE = "application/json";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function filled(path, parameters) {
  const inPath = parameters.filter((one) => one.in === "path");
  return inPath.reduce((url, one) => url.replace(`{${one.name}}`, encodeURIComponent(one.example ?? one.name)), path);
}

function queryOf(parameters) {
  const given = parameters.filter((one) => one.in === "query" && one.example !== undefined);
  return given.length ? `?${new URLSearchParams(given.map((one) => [one.name, one.example]))}` : "";
}

/** A form's file is the shell's standard input. */
function bodyOf({ content }) {
  const [[mediaType, { example }]] = Object.entries(content);
  if (mediaType === JSON_TYPE) return [`-H 'Content-Type: ${JSON_TYPE}'`, `-d ${quoted(JSON.stringify(example))}`];
  const { file, ...fields } = example;
  return [...Object.entries(fields).map(([name, value]) => `-F ${name}=${quoted(value)}`), `-F file=@- <<< ${quoted(file.trimEnd())}`];
}

/** A command line that calls the operation with its examples. The key is the shell's: it is in no page and no history. */
export function curlLine(origin, method, path, operation) {
  const url = origin + filled(path, operation.parameters) + queryOf(operation.parameters);
  const streams = Object.values(operation.responses).some((answer) => answer.content?.[EVENTS]);
  const parts = [`curl ${streams ? "-N " : ""}${method === "get" ? "" : `-X ${method.toUpperCase()} `}${quoted(url)}`];
  if (operation.security.length) parts.push('-H "Authorization: Bearer $SLM_API_KEY"');
  if (operation.requestBody) parts.push(...bodyOf(operation.requestBody));
  return parts.join(" \\\n  ");
}
