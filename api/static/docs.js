import { curlLine } from "./curl.js";
import { SchemaReader } from "./schema_reader.js";

const MAX_DEPTH = 6; // of objects within objects

/** An element with attributes and children; a child that is a string becomes text, never HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Text with `code` in it. */
function prose(text) {
  const parts = text.split("`");
  return parts.map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

/** Paragraphs and lists of a description. */
function paragraphs(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return lines.map((line) => (
    line.startsWith("- ") ? make("p", { class: "item" }, ...prose(line.slice(2))) : make("p", {}, ...prose(line))
  ));
}

function code(text, label) {
  const copy = make("button", { type: "button", class: "copy" }, "Copy");
  copy.hidden = !navigator.clipboard; // browsers give it to pages from this machine and over https alone
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  const pre = make("pre", { tabindex: "0" }, make("code", {}, text));
  return make("figure", { class: "code" }, make("figcaption", {}, make("span", {}, label), copy), pre);
}

const asText = (example) => (typeof example === "string" ? example : JSON.stringify(example, null, 2));

// -- schemas ----------------------------------------------------------------------------------------------------------

function fieldRow(reader, field, depth) {
  const name = make("div", { class: "name" }, make("code", {}, field.name));
  if (field.isRequired) name.append(make("span", { class: "required" }, "required"));
  const about = make("div", { class: "about" }, make("div", { class: "type" }, field.type));
  if (field.description) about.append(...paragraphs(field.description));
  if (field.default !== null) about.append(make("p", { class: "default" }, "Default: ", make("code", {}, field.default)));
  for (const inner of depth < MAX_DEPTH ? field.objects : []) about.append(objectDetails(reader, inner, depth + 1));
  return make("div", { class: "field" }, name, about);
}

function objectDetails(reader, { name, schema }, depth) {
  const details = make("details", { class: "object" }, make("summary", {}, name));
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) details.append(fieldList(reader, schema, depth));
  }, { once: true });
  return details;
}

function fieldList(reader, schema, depth = 0) {
  return make("div", { class: "fields" }, ...reader.fields(schema).map((field) => fieldRow(reader, field, depth)));
}

function contentOf(reader, mediaType, content) {
  const described = reader.describe(content.schema);
  const parts = [make("p", { class: "media" }, make("code", {}, mediaType), ` ${described.type}`)];
  for (const inner of described.objects) parts.push(objectDetails(reader, inner, 0));
  const example = content.example ?? content["x-example"];
  if (example !== undefined) parts.push(code(asText(example), "Example"));
  return parts;
}

// -- operations -------------------------------------------------------------------------------------------------------

function parametersOf(reader, operation) {
  const rows = operation.parameters.map((parameter) => {
    const value = reader.describe(parameter.schema);
    const { name, description, required } = parameter;
    const type = `${parameter.in}: ${value.type}`;
    return fieldRow(reader, { ...value, name, description, type, isRequired: required }, MAX_DEPTH);
  });
  return [make("h4", {}, "Parameters"), make("div", { class: "fields" }, ...rows)];
}

function bodyOf(reader, operation) {
  if (!operation.requestBody) return [];
  const [[mediaType, { schema }]] = Object.entries(operation.requestBody.content);
  return [make("h4", {}, "Body ", make("code", { class: "media" }, mediaType)), fieldList(reader, schema)];
}

function answerOf(reader, status, answer) {
  const kind = status.startsWith("2") ? "good" : "bad";
  const headers = Object.keys(answer.headers ?? {});
  const details = make(
    "details",
    { class: "answer" },
    make("summary", {}, make("span", { class: `status ${kind}` }, status), make("span", {}, ...summaryOf(answer.description))),
    ...paragraphs(answer.description),
  );
  if (headers.length) details.append(make("p", { class: "media" }, "Headers: ", ...prose(headers.map((name) => `\`${name}\``).join(", "))));
  for (const [mediaType, content] of Object.entries(answer.content ?? {})) {
    details.append(...contentOf(reader, mediaType, content));
  }
  return details;
}

/** The codes of an error answer, or the first sentence of a success. */
function summaryOf(description) {
  const codes = [...description.matchAll(/^- (`[a-z_]+`)/gm)].map((match) => match[1]);
  return prose(codes.length ? codes.join(", ") : description.split(/(?<=\.)\s/)[0]);
}

function operationOf(reader, method, path, operation) {
  const details = make(
    "details",
    { class: "operation", id: operation.operationId },
    make(
      "summary",
      {},
      make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("code", { class: "path" }, path),
      make("span", { class: "about" }, operation.summary),
    ),
    ...paragraphs(operation.description),
    make("p", { class: "access" }, operation.security.length ? "Needs an API key, where the server has keys." : "Needs no API key."),
    code(curlLine(window.location.origin, method, path, operation), "Try it"),
  );
  const answers = Object.entries(operation.responses).map(([status, answer]) => answerOf(reader, status, answer));
  details.append(...bodyOf(reader, operation), ...parametersOf(reader, operation), make("h4", {}, "Answers"), ...answers);
  return details;
}

// -- the page ---------------------------------------------------------------------------------------------------------

function operationsOf(api, tag) {
  return Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods)
    .filter(([, operation]) => operation.tags.includes(tag))
    .map(([method, operation]) => ({ method, path, operation })));
}

function sectionOf(reader, api, tag) {
  const operations = operationsOf(api, tag.name);
  return make(
    "section",
    {},
    make("h2", {}, tag.name),
    make("p", { class: "lead" }, tag.description),
    ...operations.map(({ method, path, operation }) => operationOf(reader, method, path, operation)),
  );
}

function linksOf(api, tag) {
  const links = operationsOf(api, tag.name).map(({ method, path, operation }) => make(
    "a",
    { href: `#${operation.operationId}`, title: operation.summary },
    make("span", { class: `method ${method}` }, method.toUpperCase()),
    make("span", { class: "path" }, path),
  ));
  return make("div", {}, make("h2", {}, tag.name), ...links);
}

/** Open what the address names. */
function openNamed() {
  const named = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
  if (named?.matches("details.operation")) {
    named.open = true;
    named.scrollIntoView();
  }
}

function show(api) {
  const reader = new SchemaReader(api);
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("contents").append(...api.tags.map((tag) => linksOf(api, tag)));
  document.getElementById("reference").replaceChildren(
    make("p", { class: "lead" }, ...prose(`${api.info.summary}. ${api.info.description}`)),
    ...api.tags.map((tag) => sectionOf(reader, api, tag)),
  );
  window.addEventListener("hashchange", openNamed);
  openNamed();
}

const answer = await fetch("/openapi.json");
if (answer.ok) {
  show(await answer.json());
} else {
  document.getElementById("notice").textContent = `/openapi.json was answered with ${answer.status}.`;
}
